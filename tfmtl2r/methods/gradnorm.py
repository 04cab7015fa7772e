"""GradNorm: learned weights that let all tasks train at similar rates."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.linalg import spread
from tfmtl2r.methods.base import GramMethod, Signals, State
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor, Vector, Weights

__all__ = ["GradNorm"]

CARD = Card(
    title="GradNorm (gradient normalisation)",
    paper="Chen et al. 2018, https://arxiv.org/abs/1711.02257",
    promises=("sums_to_tasks", "permutation_equivariant"),
    note="Weights are equal in the first epoch, whose mean losses are the reference for later epochs.",
)

_LEAST = 1e-3


@dataclasses.dataclass(frozen=True)
class GradNorm(GramMethod):
    """Learns task weights so that a task that trains slowly gets a longer gradient.

    With lengths ``n_t = w_t ||g_t||``, relative rates ``r_t = (loss_t / first_t) / mean_j(loss_j / first_j)`` and fixed
    targets ``mean(n) r_t^alpha``, the weights take one gradient step on ``sum_t |n_t - target_t|``:
    ``w_t -= lr ||g_t|| sign(n_t - target_t)``. They are then limited to at least 0.001 and scaled to sum T. ``first``
    is the mean loss of epoch 0, in which the weights stay equal. The update uses the weights before this step.

    Differs from the paper: ``first`` is the mean of an epoch, not the loss of one batch.

    Args:
        alpha: how strongly slow tasks are favoured; 0 gives all weighted gradients the same length.
        lr: learning rate of the weights; 0 keeps them equal.

    >>> from tfmtl2r import methods
    >>> methods.combine("gradnorm", [[2., 0.], [0., 4.]]).tolist()
    [2.0, 4.0]
    """

    positive_losses: ClassVar[bool] = True

    alpha: float = 1.5
    lr: float = 0.025

    def __post_init__(self) -> None:
        if not self.alpha >= 0 or not self.lr >= 0:
            raise InputError(f"gradnorm: alpha and lr must be >= 0, not {self.alpha} and {self.lr}")

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """Equal weights, and no mean losses yet."""
        return {
            "weights": np.ones(num_tasks, np.float32),
            "first": np.zeros(num_tasks, np.float32),
            "counted": np.zeros(num_tasks, np.float32),
        }

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The current weights; the next state has updated weights or, in epoch 0, updated mean losses."""
        losses = tf.cast(signals.losses, tf.float64)
        weights, first, counted = (tf.cast(state[key], tf.float64) for key in ("weights", "first", "counted"))
        # The reference of a task that is absent throughout the first epoch is its first loss.
        counts = (tf.cast(signals.epoch, tf.int64) == 0) | (counted == 0)
        counted = tf.where(counts, counted + 1.0, counted)
        first = tf.where(counts, first + (losses - first) / counted, first)
        learned = self._step(signals, weights, tf.math.divide_no_nan(losses, first))
        learned = tf.where(tf.cast(signals.epoch, tf.int64) == 0, weights, learned)
        return spread(weights, signals.present), {"weights": learned, "first": first, "counted": counted}

    def _step(self, signals: Signals, weights: Weights, ratios: Any) -> Tensor:
        present = tf.cast(signals.present, tf.float64)
        count = tf.maximum(tf.reduce_sum(present), 1.0)
        norms = tf.sqrt(tf.maximum(tf.cast(tf.linalg.diag_part(signals.gram), tf.float64), 0.0)) * present
        rates = tf.math.divide_no_nan(ratios * present * count, tf.reduce_sum(ratios * present))
        targets = tf.reduce_sum(weights * norms) / count * rates**self.alpha
        learned = tf.maximum(weights - self.lr * norms * tf.sign(weights * norms - targets), _LEAST) * present
        total = tf.reduce_sum(weights * present)  # absent tasks keep their weights
        return tf.math.divide_no_nan(learned * total, tf.reduce_sum(learned))
