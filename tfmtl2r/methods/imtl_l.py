"""IMTL-L: learned scales that bring all losses to the same size."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import Scalarisation, Signals, State
from tfmtl2r.registry import Card
from tfmtl2r.types import Losses, Tensor

__all__ = ["IMTLL"]

CARD = Card(
    title="IMTL-L (impartial loss scales)",
    paper="Liu et al. 2021, https://openreview.net/forum?id=IMPnRXEWpvr",
    promises=("sums_to_tasks", "permutation_equivariant"),
    note="The loss half of IMTL; imtl_g is the gradient half.",
)

_LARGEST = 30.0
_STEEPEST = 10.0


@dataclasses.dataclass(frozen=True)
class IMTLL(Scalarisation):
    """Minimises ``sum_t exp(s_t) loss_t - s_t`` over the model and the scales ``s`` ``[T]``.

    The scales start at 0, which gives the plain sum. For fixed losses the optimum is ``s = -log loss``, where every
    scaled loss is 1. After each step s takes one step of gradient descent, ``s_t -= lr (exp(s_t) loss_t - 1)``, with
    the gradient limited to 10 and s to 30 in absolute value. The objective is twice that of uncertainty weighting, with
    ``-s`` as its parameter.

    Args:
        lr: learning rate of the scales; 0 keeps them constant.

    >>> from tfmtl2r import methods
    >>> methods.combine("imtl_l", [[2., 0.], [0., 4.]]).tolist()
    [2.0, 4.0]
    """

    lr: float = 0.01

    def __post_init__(self) -> None:
        if not self.lr >= 0:
            raise InputError(f"imtl_l: lr must be >= 0, not {self.lr}")

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """Log scales of 0."""
        return {"log_scale": np.zeros(num_tasks, np.float32)}

    def objective(self, losses: Losses, signals: Signals, state: State) -> tuple[Tensor, State]:
        """The scaled losses, and one step on the scales."""
        s = tf.cast(state["log_scale"], losses.dtype)
        scaled = tf.exp(s) * losses
        slope = tf.clip_by_value(scaled - 1.0, -_STEEPEST, _STEEPEST)
        s_next = tf.clip_by_value(s - self.lr * slope, -_LARGEST, _LARGEST)
        return tf.reduce_sum(tf.where(signals.present, scaled - s, 0.0)), {"log_scale": s_next}
