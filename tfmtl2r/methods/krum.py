"""Krum: the gradients that lie closest to the others."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import JacobianMethod, Signals, State
from tfmtl2r.registry import Card
from tfmtl2r.types import Rows, Vector

__all__ = ["Krum"]

CARD = Card(
    title="Krum and Multi-Krum",
    paper="Blanchard et al. 2017, https://papers.nips.cc/paper/6617-machine-learning-with-adversaries",
    promises=("sums_to_tasks", "permutation_equivariant"),
    note="Robust to f corrupt tasks; does not balance the other tasks.",
)

_TIE = 1e-6


@dataclasses.dataclass(frozen=True)
class Krum(JacobianMethod):
    """Keeps the k task gradients that lie closest to the others, and averages them.

    The score of a gradient is the sum of its ``T - f - 2`` smallest squared distances to the others. The update is T
    times the mean of the k gradients with the lowest scores. Gradients that tie with the last of these are included,
    since with the largest f the two closest gradients always tie. With two tasks or fewer, the update is the plain sum.

    Args:
        f: number of gradients that may be corrupt, by default the largest possible number, ``T - 3``. At least
            ``f + 3`` tasks are required. In a batch with absent tasks, f is at most the number of present tasks minus
            3.
        k: number of gradients that are averaged, at least 1 (more is Multi-Krum).

    >>> from tfmtl2r import methods
    >>> rows = [[1., 1., 1.], [1., 0., 1.], [75., -666., 23.], [1., 2., 3.], [2., 0., 1.]]
    >>> (methods.combine(methods.get("krum", f=1, k=4), rows) / 5).tolist()
    [1.25, 0.75, 1.5]
    """

    f: int | None = None
    k: int = 1

    def __post_init__(self) -> None:
        if (self.f is not None and self.f < 0) or self.k < 1:
            raise InputError(f"krum: f must be >= 0 and k at least 1, not {self.f} and {self.k}")

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """An empty state."""
        if self.f is not None and num_tasks < self.f + 3:
            raise InputError(f"krum: f={self.f} needs at least {self.f + 3} tasks, got {num_tasks}")
        return {}

    def combine(self, rows: Rows, signals: Signals, state: State) -> tuple[Vector, State]:
        """The mean of the chosen gradients times the number of present tasks."""
        tasks, infinite = rows.shape[0], rows.dtype.max
        count = tf.math.count_nonzero(signals.present, dtype=tf.int32)
        corrupt = tf.maximum(count - 3, 0)
        if self.f is not None:
            corrupt = tf.minimum(corrupt, self.f)
        gram = tf.matmul(rows, rows, transpose_b=True)
        squares = tf.linalg.diag_part(gram)
        distances = tf.maximum(squares[:, None] + squares[None, :] - gram - tf.transpose(gram), 0.0)
        others = signals.present[:, None] & signals.present[None, :] & ~tf.eye(tasks, dtype=tf.bool)
        nearest = tf.sort(tf.where(others, distances, infinite), axis=1)
        summed = tf.range(tasks) < tf.maximum(count - corrupt - 2, 0)
        scores = tf.reduce_sum(tf.where(summed, nearest, 0.0), axis=1)
        kept = tf.where(count >= 3, tf.minimum(count, self.k), count)
        last = tf.sort(tf.where(signals.present, scores, infinite))[tf.maximum(kept, 1) - 1]
        chosen = tf.cast((scores <= last * (1.0 + _TIE)) & signals.present, rows.dtype)
        share = tf.math.divide_no_nan(chosen, tf.reduce_sum(chosen)) * tf.cast(count, rows.dtype)
        return tf.linalg.matvec(rows, share, transpose_a=True), state
