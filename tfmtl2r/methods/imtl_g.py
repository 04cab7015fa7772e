"""IMTL-G: an update with equal projections on all task gradients."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.linalg import correlation, spectrum
from tfmtl2r.methods.base import GramMethod, Signals, State, count_present
from tfmtl2r.registry import Card
from tfmtl2r.types import Gram, Tensor, Vector

__all__ = ["IMTLG", "equal_projections"]

CARD = Card(
    title="IMTL-G (impartial gradients)",
    paper="Liu et al. 2021, https://openreview.net/forum?id=IMPnRXEWpvr",
    aliases=("imtl",),
    promises=("sums_to_tasks", "permutation_equivariant", "non_conflicting_if_independent", "ends_on_the_pareto_set"),
    helps=("opposed_gradients", "unequal_gradients"),
    note="Task weights may be negative.",
)

_LEAST_SUM = 1e-3


@dataclasses.dataclass(frozen=True)
class IMTLG(GramMethod):
    """Takes the combination of the task gradients whose projections on all of them are equal.

    ``d = sum_t a_t g_t`` with ``<d, g_t> / ||g_t||`` the same for all t and ``sum_t a_t = 1``; the update is ``T d``.
    With lengths L and cosines C this is ``a = C^-1 1 / L``, scaled. A task with a zero gradient gets weight 0. The
    paper takes gradients at the shared features, as ``gradients="features"`` does.

    Differs from the paper: if the sum of the solution is negative, scaling it to 1 would turn the update against every
    task, so the sum is scaled to -1. If the sum nearly cancels (below 1/1000 of the sum of absolute values), the
    solution is divided by this 1/1000 instead.

    >>> from tfmtl2r import methods
    >>> (methods.combine("imtl_g", [[-4., 1., 1.], [6., 1., 1.]]) / 2).round(4).tolist()
    [0.0767, 1.0, 1.0]
    """

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The weights of equal projections, scaled to sum to the number of present tasks."""
        weights = equal_projections(signals.gram, signals.present)
        return weights * count_present(signals, weights.dtype), state


def equal_projections(gram: Gram, present: Tensor) -> Tensor:
    """Weights ``float64[T]`` of sum 1 (see :class:`IMTLG`) with equal projections, which are >= 0; 0 where absent."""
    cosines, lengths, usable = correlation(gram, present)
    values, vectors, smallest, _ = spectrum(cosines)
    ones = tf.cast(usable, tf.float64)
    along = tf.linalg.matvec(vectors, ones, transpose_a=True) / tf.maximum(values, smallest)
    # In units of the shortest gradient, so that no reciprocal overflows.
    shortest = tf.reduce_min(tf.where(usable, lengths, tf.float64.max))
    weights = tf.linalg.matvec(vectors, along) * ones * tf.where(usable, shortest / lengths, 0.0)
    size = tf.reduce_sum(tf.abs(weights))
    return tf.math.divide_no_nan(weights, tf.maximum(tf.abs(tf.reduce_sum(weights)), _LEAST_SUM * size))
