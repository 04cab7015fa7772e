"""Imports TF-Ranking and TensorFlow Recommenders, which are written for Keras 2.

TF-Ranking also imports ``tensorflow.estimator``, which TensorFlow removed in 2.16. A plain
``import tensorflow_ranking`` therefore fails with every current TensorFlow. This file imports each library once, on
first use. During the import, ``sys.modules`` contains thin views of TensorFlow, in which ``keras`` is ``tf_keras``
(Keras 2) and ``estimator`` is an inert placeholder. Everything else in the views is TensorFlow itself. Afterwards the
original modules are restored. The user's ``tf.keras`` stays Keras 3, and no environment variable is read or written.

>>> from tfmtl2r._backend import tf
>>> losses_impl().SoftmaxLoss(name="softmax").name
'softmax'
>>> tf.keras.__version__.split(".")[0]
'3'
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import logging
import re
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.errors import MissingPackageError

FLOORS = {"tf-keras": "2.21", "tensorflow-ranking": "0.5.3", "tensorflow-recommenders": "0.7.3"}
_VIEWED = ("tensorflow", "tensorflow.compat", "tensorflow.compat.v1", "tensorflow.compat.v2")
# One lock for both libraries: two imports at a time would put back each other's views instead of the originals.
_lock = threading.RLock()
_loaded: dict[str, Any] = {}


def ranking() -> Any:
    """The ``tensorflow_ranking`` module, imported on first use.

    Raises:
        ImportError: if it or ``tf_keras`` is missing or too old; the message is the ``pip install`` to run.
    """
    return _load("tensorflow_ranking", "tensorflow-ranking")


def recommenders() -> types.ModuleType:
    """The ``tensorflow_recommenders`` module, imported on first use.

    Raises:
        ImportError: if it or ``tf_keras`` is missing or too old; the message is the ``pip install`` to run.
    """
    return _load("tensorflow_recommenders", "tensorflow-recommenders")


def losses_impl() -> Any:
    """TF-Ranking's losses as plain functions of tensors, without Keras.

    Raises:
        ImportError: see :func:`ranking`.
    """
    ranking()
    return sys.modules["tensorflow_ranking.python.losses_impl"]


def metrics_impl() -> Any:
    """TF-Ranking's metrics as plain functions of tensors, without Keras.

    Raises:
        ImportError: see :func:`ranking`.
    """
    ranking()
    return sys.modules["tensorflow_ranking.python.metrics_impl"]


@tf.autograph.experimental.do_not_convert
def _load(module: str, distribution: str) -> Any:
    # The first use is often during the tracing of a graph, which would then own the constants of the module.
    with _lock, tf.init_scope():
        if module not in _loaded:
            _require("tf-keras")
            _require(distribution)
            _report_legacy_switch()
            # A module that the user has imported is reused: a second copy would register its Keras classes twice.
            _loaded[module] = sys.modules.get(module) or _import_on_keras2(module)
        return _loaded[module]


def _require(distribution: str) -> None:
    floor = FLOORS[distribution]
    try:
        found = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        found = ""
    if not found or _numbers(found) < _numbers(floor):
        state = f"{distribution} {found} is too old for" if found else f"{distribution} is missing; it is needed by"
        raise MissingPackageError(f"{state} tfmtl2r's bridge to Keras 2 libraries: "
                                  f"pip install '{distribution}>={floor}'")


def _numbers(version: str) -> tuple[int, ...]:
    """The release part of a version as numbers: ``0.5.3rc1`` is (0, 5, 3)."""
    return tuple(int(part) for part in re.match(r"v?(\d+(?:\.\d+)*)", version)[1].split("."))  # type: ignore[index]


def _report_legacy_switch() -> None:
    # The Keras 2 in tf.keras has no attribute with its version.
    if getattr(tf.keras, "__version__", "2.").startswith("2."):
        warnings.warn(
            "tfmtl2r needs Keras 3 as tf.keras, but tf.keras is Keras 2 in this process, usually because "
            "TF_USE_LEGACY_KERAS is set. tfmtl2r brings Keras 2 to TF-Ranking and TensorFlow Recommenders by itself: "
            "unset TF_USE_LEGACY_KERAS and restart, and do not mix tf.keras layers into its models until then",
            stacklevel=4,
        )


def _import_on_keras2(module: str) -> Any:
    with _quiet():
        # Keras 2 is imported before the views exist, since it requires the original TensorFlow.
        tf_keras = importlib.import_module("tf_keras")
        _forget(module)
        with _views_of_tensorflow(tf_keras):
            try:
                return importlib.import_module(module)
            except BaseException:
                _forget(module)
                raise


def _forget(module: str) -> None:
    """Removes the submodules of a failed import, which are bound to the wrong Keras."""
    for name in [name for name in sys.modules if name == module or name.startswith(f"{module}.")]:
        del sys.modules[name]


@contextlib.contextmanager
def _views_of_tensorflow(tf_keras: types.ModuleType) -> Iterator[None]:
    for name in _VIEWED:
        importlib.import_module(name)
    originals = {name: sys.modules[name] for name in _VIEWED}
    own = {"keras": tf_keras, "estimator": _Placeholder}
    v1, v2 = (_View(originals[name], own) for name in _VIEWED[2:])
    compat = _View(originals["tensorflow.compat"], {"v1": v1, "v2": v2})
    views = (_View(originals["tensorflow"], {**own, "compat": compat}), compat, v1, v2)
    sys.modules.update(zip(_VIEWED, views, strict=True))
    try:
        yield
    finally:
        sys.modules.update(originals)


class _View(types.ModuleType):
    """A module with a few names of its own; all other names come from the original module."""

    def __init__(self, original: types.ModuleType, own: dict[str, Any]):
        super().__init__(original.__name__, original.__doc__)
        # The import system reads these past __getattr__, and ModuleType has just set them to None.
        for name in ("__spec__", "__loader__", "__package__"):
            self.__dict__[name] = getattr(original, name, None)
        self.__dict__.update(own, _original=original)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_original"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        # The import system stores a freshly imported submodule on its parent: it belongs to the real TensorFlow.
        setattr(self.__dict__["_original"], name, value)

    def __dir__(self) -> list[str]:
        return dir(self.__dict__["_original"])


class _PlaceholderType(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Placeholder


class _Placeholder(metaclass=_PlaceholderType):
    """Replaces the removed ``tf.estimator``. It accepts any attribute, subclass or call, without effect."""

    def __init__(self, *_: Any, **__: Any):
        pass

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Placeholder


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses warnings of Keras 2 about its use of old TensorFlow names during the import."""
    logger = tf.get_logger()

    def passes(record: logging.LogRecord) -> bool:
        return record.levelno > logging.WARNING or "deprecated" not in record.getMessage()

    logger.addFilter(passes)
    try:
        with warnings.catch_warnings():
            for category in (DeprecationWarning, FutureWarning, SyntaxWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        logger.removeFilter(passes)
