"""Tells Keras where the classes of this library are, so that ``keras.saving.load_model`` finds them.

Keras finds a class in a file only after the module of this class was imported. Importing these modules with ``tfmtl2r``
would load TensorFlow. Therefore Keras gets a stand-in for each class, which imports the module when Keras needs it. The
stand-ins are registered as soon as both Keras and ``tfmtl2r`` are imported, in whichever order.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
from typing import Any

CLASSES = {
    "MultiTaskRanker": "tfmtl2r.training.model",
    "LazyAdam": "tfmtl2r.training.optimizers",
    "Adagrad": "tfmtl2r.training.optimizers",
}
"""Class that Keras can load -> its module."""


def install() -> None:
    """Registers the stand-ins now, or as soon as Keras is imported."""
    if "keras" in sys.modules:
        _register(sys.modules["keras"])
    else:
        sys.meta_path.insert(0, _AfterKeras())


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Finds Keras as usual, and registers the stand-ins after Keras has run."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        """The spec of Keras; None for every other module."""
        if fullname != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("keras")
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_register(module: Any) -> None:
                run(module)
                _register(module)

            spec.loader.exec_module = run_and_register  # type: ignore[method-assign]
        return spec


def _register(keras: Any) -> None:
    known = keras.saving.get_custom_objects()
    for name, module in CLASSES.items():
        known.setdefault(f"tfmtl2r>{name}", _stand_in(name, module))


def _stand_in(name: str, module: str) -> type:
    def from_config(config: dict[str, Any], custom_objects: Any = None) -> Any:
        return getattr(importlib.import_module(module), name).from_config(config)

    return type(name, (), {"from_config": staticmethod(from_config)})
