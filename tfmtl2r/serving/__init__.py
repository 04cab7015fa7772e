"""Serving: exports SavedModels for an unmodified TensorFlow Serving, and calls it with a client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl2r import _lazy

if TYPE_CHECKING:
    from tfmtl2r.serving.blend import Blend
    from tfmtl2r.serving.client import Client
    from tfmtl2r.serving.export import TOLERANCE, complete, described
    from tfmtl2r.serving.onnx import export_onnx
    from tfmtl2r.serving.session import quiet
    from tfmtl2r.serving.signatures import PREDICT
    from tfmtl2r.serving.versions import publish
    from tfmtl2r.serving.warmup import Record
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

__all__ = [
    "PREDICT", "TOLERANCE", "Blend", "Client", "Record", "complete", "described", "export_onnx",
    "publish", "quiet",
]
