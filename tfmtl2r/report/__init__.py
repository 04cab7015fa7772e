"""Reports: what a training did, in TensorBoard, run cards, tables and pictures."""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "RunCard": "tfmtl2r.report.run_card",
    "TensorBoard": "tfmtl2r.report.tensorboard",
    "bootstrap": "tfmtl2r.report.evaluation",
    "evaluate": "tfmtl2r.report.evaluation",
    "trivial_results": "tfmtl2r.report.trivial",
}
__all__ = [*_PUBLIC]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tfmtl2r.report' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
