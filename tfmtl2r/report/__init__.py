"""Reports: what a training did, in TensorBoard, run cards, tables and pictures."""

from __future__ import annotations

from tfmtl2r import _lazy

_PUBLIC = {
    "RunCard": "tfmtl2r.report.run_card",
    "TensorBoard": "tfmtl2r.report.tensorboard",
    "bootstrap": "tfmtl2r.report.evaluation",
    "evaluate": "tfmtl2r.report.evaluation",
    "trivial_results": "tfmtl2r.report.trivial",
}
__all__ = [*_PUBLIC]  # noqa: PLE0604
__getattr__, __dir__ = _lazy.names(__name__, _PUBLIC)
