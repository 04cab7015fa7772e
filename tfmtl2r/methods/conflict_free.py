"""ConFIG: conflict-free inverse gradients."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfmtl2r._backend import tf
from tfmtl2r.linalg import correlation, spectrum
from tfmtl2r.methods.base import GramMethod, Signals, State, importance
from tfmtl2r.registry import Card
from tfmtl2r.types import Vector

__all__ = ["ConFIG"]

CARD = Card(
    title="ConFIG (conflict-free inverse gradients)",
    paper="Liu et al. 2024, https://arxiv.org/abs/2408.11104",
    aliases=("config",),
    promises=("sums_to_tasks", "permutation_equivariant", "non_conflicting_if_independent", "ends_on_the_pareto_set"),
    note="Cosines with all task gradients are equal (proportional to the preference).",
)


@dataclasses.dataclass(frozen=True)
class ConFIG(GramMethod):
    """Takes the direction with the same cosine to every task's gradient.

    With unit gradients U ``[T, P]`` and the preference p scaled to sum T: ``b = U^+ p``, and
    ``d = b / ||b|| sum_t <g_t, b / ||b||>``. The length of d is thus the sum of the gradients' projections on it. If
    the gradients are linearly dependent, the pseudo-inverse gives the cosines of the least-squares solution. With
    cosines C and lengths L: ``c = C^+ p``, and ``w_t = c_t / L_t`` times ``sum_j L_j (C c)_j / (c' C c)``.

    >>> from tfmtl2r import methods
    >>> methods.combine("conflict_free", [[-4., 1., 1.], [6., 1., 1.]]).round(4).tolist()
    [0.1588, 2.0706, 2.0706]
    """

    takes_preference: ClassVar[bool] = True

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The weights that give equal cosines."""
        cosines, lengths, usable = correlation(signals.gram, signals.present)
        goal = tf.where(usable, tf.cast(importance(signals), tf.float64), 0.0)
        values, vectors, _, kept = spectrum(cosines)
        along = tf.linalg.matvec(vectors, goal, transpose_a=True)
        along = tf.where(kept, along / tf.where(kept, values, 1.0), 0.0)
        inverse = tf.where(usable, tf.linalg.matvec(vectors, along), 0.0)
        reached = tf.linalg.matvec(cosines, inverse)
        together = tf.reduce_sum(tf.where(usable, lengths * reached, 0.0))
        squared = tf.reduce_sum(inverse * reached)
        # The rounding error that is left of gradients that cancel is not a direction.
        scale = tf.where(squared > 1e-12, together / tf.where(squared > 1e-12, squared, 1.0), 0.0)
        return inverse / lengths * scale, state
