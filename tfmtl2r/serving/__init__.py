"""Serving: SavedModels that a stock TensorFlow Serving loads, and a client for it."""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {"Blend": "tfmtl2r.serving.blend", "Client": "tfmtl2r.serving.client"}
__all__ = [*_PUBLIC]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tfmtl2r.serving' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
