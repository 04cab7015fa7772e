"""The point of smallest norm in the convex hull of the task gradients."""

from __future__ import annotations

from typing import NamedTuple

from tfmtl2r._backend import tf
from tfmtl2r.linalg import settling
from tfmtl2r.linalg.active_set import search
from tfmtl2r.types import Gram, Tensor

_RIDGE = 1e-13  # keeps the system solvable when active gradients are affinely dependent, for example equal


class MinNorm(NamedTuple):
    """Result of :func:`min_norm`.

    Args:
        weights: ``float64[T]`` on the simplex.
        settled: ``bool``, whether the optimality conditions held before the iteration cap.
    """

    weights: Tensor
    settled: Tensor


def min_norm(gram: Gram, present: Tensor | None = None, tilt: Tensor | None = None) -> MinNorm:
    """Solves ``argmin_w w' G w / 2 + tilt' w`` over the probability simplex exactly, by Wolfe's active-set method.

    The solver's unknowns are ``c = w sqrt(diag G)``, so that rows whose lengths differ by many orders of magnitude keep
    their relative accuracy.

    Shapes: ``gram`` ``[T, T]``, symmetric and positive semi-definite, T known when traced; ``present`` ``bool[T]``;
    ``tilt`` ``[T]``.

    Args:
        gram: inner products of the task gradients.
        present: tasks that take part; the others get weight 0. All by default.
        tilt: slope of the linear term, 0 by default. ``tilt = s G p`` minimises ``||g_w + s g_p||``. With a tilt, the
            longest gradient scales all rows.

    Returns:
        The weights and whether they are proven optimal. Without a tilt, a zero gradient gets all the weight, since the
        minimum is then 0. If no task is present, all weights are 0.

    >>> min_norm([[18., -22.], [-22., 38.]]).weights.numpy().round(4).tolist()
    [0.6, 0.4]

    Reference: Wolfe, Finding the nearest point in a polytope, 1976, https://doi.org/10.1007/BF01580381; as a common
    descent direction: Désidéri, MGDA, 2012, https://doi.org/10.1016/j.crma.2012.03.014.
    """
    gram = tf.cast(gram, tf.float64)
    tasks = gram.shape[0]
    present = tf.ones([tasks], tf.bool) if present is None else tf.cast(present, tf.bool)
    length = tf.sqrt(tf.maximum(tf.linalg.diag_part(gram), 0.0))
    if tilt is None:
        usable = present & (length > 0)
        safe = tf.where(usable, length, 1.0)
        slope = tf.zeros([tasks], tf.float64)
    else:
        usable = present
        longest = tf.reduce_max(tf.where(present, length, 0.0))
        safe = tf.where(longest > 0, longest, 1.0) * tf.ones_like(length)
        slope = tf.where(present, tf.cast(tilt, tf.float64) / safe / safe, 0.0)
    both = usable[:, None] & usable[None, :]
    corr = tf.where(both, gram / (safe[:, None] * safe[None, :]), 0.0)
    corr = tf.linalg.set_diag(corr, tf.where(usable, tf.linalg.diag_part(corr), 1.0) + _RIDGE)
    shortest = tf.reduce_min(tf.where(usable, safe, tf.float64.max))
    # With the unknowns c = w * length / shortest, sum(w) = 1 becomes sum(c * inverse) = 1 with inverse <= 1.
    inverse = tf.where(usable, shortest / safe, 0.0)
    point, settled, rounds = search(corr, inverse, slope, usable, root=False)
    settling.report(settled, rounds)
    weights = point * inverse
    if tilt is None:
        zero_rows = tf.cast(present & (length <= 0), tf.float64)
        weights = tf.where(tf.reduce_any(zero_rows > 0), zero_rows, weights)
    total = tf.reduce_sum(weights)
    return MinNorm(tf.where(total > 0, weights / tf.where(total > 0, total, 1.0), 0.0), settled)
