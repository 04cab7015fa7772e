"""Serving: SavedModels that a stock TensorFlow Serving loads, and a client for it."""

from __future__ import annotations

from tfmtl2r import _lazy

_PUBLIC = {"Blend": "tfmtl2r.serving.blend", "Client": "tfmtl2r.serving.client"}
__all__ = [*_PUBLIC]  # noqa: PLE0604
__getattr__, __dir__ = _lazy.names(__name__, _PUBLIC)
