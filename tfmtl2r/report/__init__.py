"""Reports: what one training did, in TensorBoard, tables and pictures."""

from __future__ import annotations

from tfmtl2r import _lazy

_PUBLIC = {
    "TensorBoard": "tfmtl2r.report.tensorboard",
}
__all__ = [*_PUBLIC]  # noqa: PLE0604
__getattr__, __dir__ = _lazy.names(__name__, _PUBLIC)
