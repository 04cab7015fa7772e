"""EPO: exact Pareto optimal search."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.linalg import linear_program, spread
from tfmtl2r.methods.base import GramMethod, Signals, State
from tfmtl2r.registry import Card
from tfmtl2r.types import Vector

__all__ = ["EPO"]

CARD = Card(
    title="EPO (exact Pareto optimal search)",
    paper="Mahapatra and Rajan 2020, https://proceedings.mlr.press/v119/mahapatra20a.html; extended 2021, "
    "https://arxiv.org/abs/2108.00597",
    promises=("sums_to_tasks", "permutation_equivariant", "ends_on_the_pareto_set", "ends_on_the_ray"),
    note="Converges to equal preference times loss for all tasks; preferences must be above 0."
    " Behind equal weights on most data sets of the study.",
)


@dataclasses.dataclass(frozen=True)
class EPO(GramMethod):
    """Moves the losses towards the ray where ``p_t loss_t`` is equal for all tasks, and then down along this ray.

    Let ``z_t = p_t l_t / sum_s p_s l_s``, ``mu = sum_t z_t log(T z_t)``, which is 0 on the ray, and the adjustment
    ``a_t = p_t (log(T z_t) - mu)``. A step along ``sum_t b_t g_t`` lowers the losses by ``G b``. The weights are T
    times the solution b of a linear program over the probability simplex:

    - off the ray, ``mu > tolerance^2``: the largest ``a' G b``, where no task with ``(G a)_t <= 0`` rises faster
      than along a itself, and the task with the largest ``p_t l_t`` does not rise. If ``G a <= 0``, no task may rise.
    - on the ray: the largest ``sum_t (G b)_t``, where no task rises, and the losses do not leave the ray.

    The update is a convex combination of the gradients times T, so that it does not vanish on the Pareto front away
    from the ray. Steps of constant length oscillate around the ray; lower the learning rate towards the end.

    Differs from the authors' code: if no point satisfies all constraints, the point of least violation is taken, not p.

    Args:
        tolerance: root of the distance mu above which the losses are balanced, in (0, 1).

    >>> from tfmtl2r import methods
    >>> methods.combine("epo", [[1., 0.], [0., 1.]], losses=[1., 3.]).round(4).tolist()
    [0.0, 2.0]
    """

    takes_preference: ClassVar[bool] = True
    positive_preference: ClassVar[bool] = True
    iterates: ClassVar[bool] = True

    tolerance: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise InputError(f"epo: tolerance must lie between 0 and 1, not {self.tolerance}")

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The weights of the linear program, times the number of present tasks."""
        present = tf.cast(signals.present, tf.float64)
        gram = tf.cast(signals.gram, tf.float64) * present[:, None] * present[None, :]
        preference = tf.math.divide_no_nan(tf.cast(signals.preference, tf.float64) * present, tf.reduce_sum(
            tf.cast(signals.preference, tf.float64) * present))
        weighted = preference * tf.maximum(tf.cast(signals.losses, tf.float64), 0.0)
        shares = tf.maximum(tf.math.divide_no_nan(weighted, tf.reduce_sum(weighted)), 1e-12)
        logs = tf.where(signals.present, tf.math.log(shares * tf.reduce_sum(present)), 0.0)
        distance = tf.reduce_sum(shares * logs)
        off = distance > self.tolerance**2
        along = tf.linalg.matvec(gram, preference * (logs - distance))  # change of the losses along a
        wins = off & tf.reduce_any(along > 0)
        free = -2.0 * tf.reduce_sum(tf.abs(gram))  # below any change of a loss
        highest = weighted >= tf.reduce_max(weighted)
        balanced = tf.where(highest, tf.zeros_like(along), tf.where(along > 0, free, along))
        least = tf.where(wins & signals.present, balanced, tf.zeros_like(along))
        rise = tf.reduce_max(tf.where(signals.present, along, -np.inf))
        stays = tf.where(off, -tf.reduce_sum(tf.abs(along)), -tf.nn.relu(-rise))
        gain = tf.where(off, along, tf.reduce_sum(gram, axis=0))
        rows = tf.concat([gram, along[None]], axis=0)
        found = linear_program(gain, rows, tf.concat([least, [stays]], axis=0), signals.present)
        return spread(found.solution, signals.present), state
