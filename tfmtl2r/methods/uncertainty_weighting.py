"""Uncertainty weighting: learned homoscedastic uncertainty of each task."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import Scalarisation, Signals, State
from tfmtl2r.registry import Card
from tfmtl2r.types import Losses, Tensor

__all__ = ["UncertaintyWeighting"]

CARD = Card(
    title="Uncertainty weighting",
    paper="Kendall, Gal and Cipolla 2018, https://arxiv.org/abs/1705.07115",
    aliases=("uw",),
    promises=("permutation_equivariant",),
    helps=("unequal_gradients",),
    note="Weights approach 1 / (2 loss): a task that is nearly solved gets a large weight.",
)

_LARGEST = 30.0
_STEEPEST = 10.0


@dataclasses.dataclass(frozen=True)
class UncertaintyWeighting(Scalarisation):
    """Minimises ``sum_t (exp(-s_t) loss_t + s_t) / 2`` over the model and the log variances ``s`` ``[T]``.

    The log variances start at 0. The weights ``exp(-s_t) / 2`` are those of the paper, so the first objective is half
    the plain sum. For a fixed loss, s converges to ``log loss``. After each step s takes one step of gradient descent,
    ``s_t -= lr (1 - exp(-s_t) loss_t) / 2``, with the gradient limited to 10 and s to 30 in absolute value.

    Differs from DeepMTL2R's code: s is learned. No optimizer updates it in DeepMTL2R.

    Args:
        lr: learning rate of the log variances; 0 keeps them constant.

    >>> from tfmtl2r import methods
    >>> methods.combine("uw", [[2., 0.], [0., 4.]]).tolist()
    [1.0, 2.0]
    """

    lr: float = 0.01

    def __post_init__(self) -> None:
        if not self.lr >= 0:
            raise InputError(f"uncertainty_weighting: lr must be >= 0, not {self.lr}")

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """Log variances of 0."""
        return {"log_variance": np.zeros(num_tasks, np.float32)}

    def objective(self, losses: Losses, signals: Signals, state: State) -> tuple[Tensor, State]:
        """The negative log likelihood, and one step on the log variances."""
        s = tf.cast(state["log_variance"], losses.dtype)
        scaled = tf.exp(-s) * losses
        slope = tf.clip_by_value(0.5 * (1.0 - scaled), -_STEEPEST, _STEEPEST)
        s_next = tf.clip_by_value(s - self.lr * slope, -_LARGEST, _LARGEST)
        value = 0.5 * tf.reduce_sum(tf.where(signals.present, scaled + s, 0.0))
        return value, {"log_variance": s_next}
