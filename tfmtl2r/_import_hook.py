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
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

CLASSES = {
    "MultiTaskRanker": "tfmtl2r.training.model",
    "LazyAdam": "tfmtl2r.training.optimizers",
    "Adagrad": "tfmtl2r.training.optimizers",
}
"""Class that Keras can load -> its module."""


def install() -> None:
    """Makes the first import of either library quiet, and registers the stand-ins now or after Keras' import."""
    if "keras" in sys.modules:
        _register(sys.modules["keras"])
    sys.meta_path.insert(0, _FirstImport())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Collects the output of C++ code to standard error, and shows it only after an exception."""
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    sys.stderr.flush()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with tempfile.TemporaryFile() as held:
        saved = os.dup(2)
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
            del os.environ["TF_CPP_MIN_LOG_LEVEL"]  # TensorFlow has read it; child processes must not inherit it


class _FirstImport(importlib.abc.MetaPathFinder):
    """Finds TensorFlow and Keras as usual, and runs them quietly."""

    def __init__(self) -> None:
        self.waiting = {"keras", "tensorflow"} - sys.modules.keys()

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        """The spec of TensorFlow or Keras; None for every other module."""
        if fullname not in self.waiting:
            return None
        self.waiting.remove(fullname)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_quietly(module: Any) -> None:
                with _quiet():
                    run(module)
                if fullname == "keras":
                    _register(module)

            spec.loader.exec_module = run_quietly  # type: ignore[method-assign]
        return spec


def _register(keras: Any) -> None:
    known = keras.saving.get_custom_objects()
    for name, module in CLASSES.items():
        known.setdefault(f"tfmtl2r>{name}", _stand_in(name, module))


def _stand_in(name: str, module: str) -> type:
    def from_config(config: dict[str, Any], custom_objects: Any = None) -> Any:
        return getattr(importlib.import_module(module), name).from_config(config)

    return type(name, (), {"from_config": staticmethod(from_config)})
