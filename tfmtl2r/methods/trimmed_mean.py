"""Trimmed mean: outliers are dropped element by element."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import JacobianMethod, Signals, State
from tfmtl2r.registry import Card
from tfmtl2r.types import Rows, Vector

__all__ = ["TrimmedMean"]

CARD = Card(
    title="Trimmed mean",
    paper="Yin et al. 2018, https://arxiv.org/abs/1803.01498",
    promises=("sums_to_tasks", "permutation_equivariant"),
    note="Robust to a minority of corrupt tasks; does not balance the other tasks.",
)


@dataclasses.dataclass(frozen=True)
class TrimmedMean(JacobianMethod):
    """Drops, for every parameter, the largest and the smallest task gradients, and averages the others.

    The update is T times the mean over the ranks ``trim + 1 .. T - trim`` of each column of the gradients ``[T, P]``.
    With two tasks or fewer nothing is dropped, and the update is the plain sum.

    Args:
        trim: number of gradients dropped at each end, by default the largest number that leaves at least one gradient.
            At least ``2 trim + 1`` tasks are required. In a batch with absent tasks, at least one gradient is left.

    >>> from tfmtl2r import methods
    >>> rows = [[1e11, 3.], [1., -1e11], [-1e10, 1e10], [2., 2.]]
    >>> (methods.combine("trimmed_mean", rows) / 4).tolist()
    [1.5, 2.5]
    """

    trim: int | None = None

    def __post_init__(self) -> None:
        if self.trim is not None and self.trim < 0:
            raise InputError(f"trimmed_mean: trim must be >= 0, not {self.trim}")

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """An empty state."""
        if self.trim is not None and num_tasks < 2 * self.trim + 1:
            least = 2 * self.trim + 1
            raise InputError(f"trimmed_mean: trim={self.trim} needs at least {least} tasks, got {num_tasks}")
        return {}

    def combine(self, rows: Rows, signals: Signals, state: State) -> tuple[Vector, State]:
        """The mean of the middle ranks times the number of present tasks."""
        count = tf.math.count_nonzero(signals.present, dtype=tf.int32)
        trim = tf.maximum(count - 1, 0) // 2
        if self.trim is not None:
            trim = tf.minimum(trim, self.trim)
        ranked = tf.sort(tf.where(signals.present[:, None], rows, rows.dtype.max), axis=0)  # absent tasks come last
        ranks = tf.range(rows.shape[0])
        middle = (ranks >= trim) & (ranks < count - trim)
        total = tf.reduce_sum(tf.where(middle[:, None], ranked, 0.0), axis=0)
        kept = tf.cast(tf.maximum(count - 2 * trim, 1), rows.dtype)
        return total * (tf.cast(count, rows.dtype) / kept), state
