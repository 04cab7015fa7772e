"""Multi-task learning to rank in TensorFlow and Keras 3.

Rows become lists, an architecture scores every item once per task, each task's loss looks at its list, a method turns
the losses or their gradients into one update, and the trained graph leaves as a SavedModel for TensorFlow Serving.

Names are imported on first use, so that ``import tfmtl2r`` and ``tfmtl2r --help`` load no TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Task": "tfmtl2r.task",
    "Schema": "tfmtl2r.schema",
    "Dense": "tfmtl2r.schema",
    "Category": "tfmtl2r.schema",
    "MultiTaskRanker": "tfmtl2r.training.model",
    "LazyAdam": "tfmtl2r.training.optimizers",
    "Adagrad": "tfmtl2r.training.optimizers",
    "export": "tfmtl2r.serving.export",
    "load": "tfmtl2r.serving.load",
}
_FOLDERS = ("architectures", "data", "evaluation", "linalg", "losses", "methods", "metrics", "pareto", "report", "runs",
            "serving", "sweeps", "training")
__all__ = [*_PUBLIC, *_FOLDERS, "datasets"]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
    elif name in _FOLDERS:
        value = importlib.import_module(f"tfmtl2r.{name}")
    elif name == "datasets":
        value = importlib.import_module("tfmtl2r.data.datasets")
    else:
        raise AttributeError(f"module 'tfmtl2r' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
