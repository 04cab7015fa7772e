"""Keras layers of the architectures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl2r import _lazy

if TYPE_CHECKING:
    from tfmtl2r.layers.cut import Branch
    from tfmtl2r.layers.features import Encoder, Lookup
    from tfmtl2r.layers.mlp import MLP, Scorers
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

__all__ = ["MLP", "Branch", "Encoder", "Lookup", "Scorers"]
