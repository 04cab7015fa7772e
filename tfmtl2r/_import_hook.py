"""Watches the first imports of TensorFlow and Keras, whoever imports them after ``tfmtl2r``.

TensorFlow writes start-up notices to standard error before any logging level applies. They are shown only if the import
fails. If the user sets ``TF_CPP_MIN_LOG_LEVEL``, this level applies.

Keras finds a class in a file only after the module of this class was imported. Importing these modules with ``tfmtl2r``
would load TensorFlow. Therefore Keras gets a stand-in for each class, which imports the module when Keras needs it. The
stand-ins are registered as soon as both Keras and ``tfmtl2r`` are imported, in whichever order.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

CLASSES = {
    "MultiTaskRanker": "tfmtl2r.training.model",
    "LazyAdam": "tfmtl2r.training.optimizers",
    "Schedule": "tfmtl2r.training.schedules",
    "Adagrad": "tfmtl2r.training.optimizers", "SGD": "tfmtl2r.training.optimizers",
}
"""Class that Keras can load -> its module."""


def install() -> None:
    """Makes imports of either library quiet, and registers the stand-ins now or after Keras' import."""
    keras = sys.modules.get("keras")
    if keras is not None and not getattr(keras.__spec__, "_initializing", False):
        _register(keras)
    sys.meta_path.insert(0, _Finder())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Collects what is written to standard error, and shows it only after an exception.

    Nothing is collected if the user chose a level, or if there is no standard error or no temporary folder.
    """
    with contextlib.ExitStack() as stack:
        try:
            if "TF_CPP_MIN_LOG_LEVEL" in os.environ or sys.stderr is None:
                raise OSError("nothing to hold back")
            sys.stderr.flush()
            held = stack.enter_context(tempfile.TemporaryFile())
            saved = os.dup(2)
        except (OSError, ValueError):
            yield
            return
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)  # TensorFlow has read it; child processes must not inherit it


class _Finder(importlib.abc.MetaPathFinder):
    """Finds TensorFlow and Keras through the other finders."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        """The spec of TensorFlow or Keras, with a quiet loader; None for every other module."""
        if fullname not in ("keras", "tensorflow"):
            return None
        for finder in list(sys.meta_path):
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader)
                return spec
        return None


class _Loader(importlib.abc.Loader):
    """Runs a module quietly by its own loader, to which the module belongs afterwards."""

    def __init__(self, inner: Any):
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def create_module(self, spec: Any) -> Any:
        return self.inner.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__spec__.loader = module.__loader__ = self.inner
        with _quiet():
            self.inner.exec_module(module)
        if module.__name__ == "keras":
            _register(module)


def _register(keras: Any) -> None:
    known = keras.saving.get_custom_objects()
    for name, module in CLASSES.items():
        known.setdefault(f"tfmtl2r>{name}", _stand_in(name, module))


def _stand_in(name: str, module: str) -> type:
    def from_config(config: dict[str, Any], custom_objects: Any = None) -> Any:
        return getattr(importlib.import_module(module), name).from_config(config)

    return type(name, (), {"from_config": staticmethod(from_config)})
