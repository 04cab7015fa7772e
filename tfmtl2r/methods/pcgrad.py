"""PCGrad: project conflicting gradients."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfmtl2r._backend import tf
from tfmtl2r.methods.base import GramMethod, Signals, State, importance
from tfmtl2r.registry import Card
from tfmtl2r.types import Vector

__all__ = ["PCGrad"]

CARD = Card(
    title="PCGrad (gradient surgery)",
    paper="Yu et al. 2020, https://arxiv.org/abs/2001.06782",
    promises=("sums_to_tasks", "identity_without_conflict", "ends_on_the_pareto_set"),
)


@dataclasses.dataclass(frozen=True)
class PCGrad(GramMethod):
    """Projects each task's gradient onto the normal plane of every gradient that conflicts with it, then sums them.

    For each task i and each other j in random order: if ``<g_i', g_j> < 0`` then
    ``g_i' <- g_i' - <g_i', g_j> / ||g_j||^2 g_j``, where g_j is the original gradient. The update is
    ``sum_i w_i g_i'`` with w the preference scaled to sum T; equal preferences give ones, as in the paper. The
    computation uses the coefficients C of ``g_i' = sum_j C_ij g_j``, so that only the Gram matrix is needed.

    The order is a function of seed and step, the same on every replica.

    >>> from tfmtl2r import methods
    >>> methods.combine("pcgrad", [[-4., 1., 1.], [6., 1., 1.]]).round(4).tolist()
    [0.5848, 3.8012, 3.8012]
    """

    takes_preference: ClassVar[bool] = True

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The column sums of the projected coefficients."""
        gram = tf.cast(signals.gram, tf.float64)
        present = tf.cast(signals.present, tf.float64)
        gram = gram * present[:, None] * present[None, :]
        tasks = gram.shape[0]
        order = tf.argsort(tf.random.stateless_uniform([tasks, tasks], signals.seed), axis=1)
        coefficients = tf.eye(tasks, dtype=tf.float64)
        for k in range(tasks):
            other = tf.one_hot(order[:, k], tasks, dtype=tf.float64)  # row i: the task that i is compared with
            along = tf.reduce_sum(coefficients * tf.matmul(other, gram), axis=1)
            squared = tf.linalg.matvec(other, tf.linalg.diag_part(gram))
            conflict = (along < 0) & (order[:, k] != tf.range(tasks))
            coefficients -= tf.where(conflict, tf.math.divide_no_nan(along, squared), 0.0)[:, None] * other
        return tf.linalg.matvec(coefficients, tf.cast(importance(signals), tf.float64), transpose_a=True), state
