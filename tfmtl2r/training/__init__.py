"""Training: the engine that computes one step, and the Keras model around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl2r import _lazy

if TYPE_CHECKING:
    from tfmtl2r.training import distributed, processes
    from tfmtl2r.training.model import MultiTaskRanker
    from tfmtl2r.training.optimizers import Adagrad, LazyAdam
    from tfmtl2r.training.staged import fit_constrained, fit_prioritised
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

__all__ = [
    "Adagrad", "LazyAdam", "MultiTaskRanker", "distributed", "fit_constrained", "fit_prioritised", "processes",
]
