"""ExcessMTL: weights by excess risk."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.linalg import spread
from tfmtl2r.methods.base import JacobianMethod, Signals, State
from tfmtl2r.registry import Card
from tfmtl2r.types import Rows, Vector

__all__ = ["ExcessMTL"]

CARD = Card(
    title="ExcessMTL (robust weights by excess risk)",
    paper="He et al. 2024, https://arxiv.org/abs/2402.02009",
    promises=("sums_to_tasks", "permutation_equivariant"),
    note="Robust to label noise; stores squared gradients, which take the memory of T times the shared parameters.",
)

_LEAST = 1e-30


@dataclasses.dataclass(frozen=True)
class ExcessMTL(JacobianMethod):
    """Raises the weights of tasks that are far from their own optimum, by an estimate of the excess risk.

    The sum of squared gradients, ``S_t += g_t^2`` element by element, estimates the curvature. The excess risk is
    ``e_t = sum_p g_tp^2 / sqrt(S_tp + 1e-7)``. Its ratio to its first value updates the weights:
    ``w_t <- w_t exp(eta e_t / first_t)``, scaled to sum T. The update is ``sum_t w_t g_t``.

    The gradients of an embedding table include all its rows, once per task. More than 1 GiB of them is an error.

    Args:
        eta: step size of the weights; 0 keeps them equal.
        warmup: epochs of equal weights before the first estimate is taken; the paper's experiments use 3.

    >>> from tfmtl2r import methods
    >>> methods.combine("excess_mtl", [[-4., 1., 1.], [6., 1., 1.]]).round(4).tolist()
    [2.0, 2.0, 2.0]
    """

    per_parameter: ClassVar[bool] = True

    eta: float = 0.01
    warmup: int = 0

    def __post_init__(self) -> None:
        if not self.eta >= 0 or self.warmup < 0:
            raise InputError(f"excess_mtl: eta and warmup must be >= 0, not {self.eta} and {self.warmup}")

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """Sums of squared gradients of 0, and equal weights."""
        return {
            "squares": np.zeros([num_tasks, num_parameters or 0], np.float32),
            "first": np.zeros(num_tasks, np.float32),
            "weights": np.ones(num_tasks),
        }

    def combine(self, rows: Rows, signals: Signals, state: State) -> tuple[Vector, State]:
        """The update with the new weights."""
        squares = tf.cast(state["squares"], rows.dtype) + tf.square(rows)
        excess = tf.cast(tf.reduce_sum(tf.square(rows) / tf.sqrt(squares + 1e-7), axis=1), tf.float64)
        begun = tf.cast(signals.epoch, tf.int64) >= self.warmup
        first = tf.cast(state["first"], tf.float64)
        first = tf.where(begun & (first == 0), excess, first)
        weights = tf.cast(state["weights"], tf.float64)
        logits = tf.math.log(tf.maximum(weights, _LEAST)) + self.eta * tf.math.divide_no_nan(excess, first)
        logits = tf.where(signals.present, logits, -float("inf"))
        total = tf.reduce_sum(tf.where(signals.present, weights, 0.0))  # absent tasks keep their weights
        learned = tf.where(signals.present, tf.nn.softmax(logits), 0.0) * total
        weights = tf.where(begun, learned, weights)
        share = tf.cast(spread(weights, signals.present), rows.dtype)
        update = tf.linalg.matvec(rows, share, transpose_a=True)
        return update, {"squares": squares, "first": first, "weights": weights}
