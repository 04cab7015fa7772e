"""The dual of the best worst case: a linear function plus a norm, over the simplex."""

from __future__ import annotations

from typing import Any, NamedTuple

from tfmtl2r._backend import tf
from tfmtl2r.linalg import settling
from tfmtl2r.linalg.active_set import search

_RIDGE = 1e-12  # squared length, over the longest gradient's, below which a combination counts as 0


class MaxMin(NamedTuple):
    """Result of :func:`max_min`.

    Args:
        weights: ``float64[T]`` on the simplex.
        length: ``float64``, ``||sum_t w_t g_t||``, never 0, so that it can be divided by.
        settled: ``bool``, whether the optimality conditions held before the iteration cap.
    """

    weights: Any
    length: Any
    settled: Any


def max_min(gram: Any, linear: Any, radius: Any, present: Any | None = None) -> MaxMin:
    """Solves ``argmin_w q' w + radius ||sum_t w_t g_t||`` over the probability simplex.

    Exact, by an active-set method. ``||g_w||`` counts as at least about 1e-6 of the longest gradient, which leaves a
    slope where gradients cancel.

    Shapes: ``gram`` ``[T, T]``, T known when traced; ``linear`` q ``[T]``; ``radius`` is a scalar > 0; ``present``
    ``bool[T]``, all by default.

    >>> max_min([[18., -22.], [-22., 38.]], [0., 2.], 1.).weights.numpy().round(4).tolist()
    [0.6289, 0.3711]
    """
    gram, linear = tf.cast(gram, tf.float64), tf.cast(linear, tf.float64)
    present = tf.ones_like(linear, tf.bool) if present is None else tf.cast(present, tf.bool)
    here = tf.cast(present, tf.float64)
    longest = tf.sqrt(tf.reduce_max(tf.linalg.diag_part(gram) * here))
    longest = tf.where(longest > 0, longest, 1.0)
    # In units of the longest gradient, and divided by the radius.
    cosines = gram / longest / longest * here[:, None] * here[None, :]
    cosines = tf.linalg.set_diag(cosines, tf.where(present, tf.linalg.diag_part(cosines), 1.0) + _RIDGE)
    unit = tf.cast(radius, tf.float64) * longest
    weights, settled = search(cosines, here, here * linear / tf.where(unit > 0, unit, 1.0), present, root=True)
    settling.report(settled)
    length = tf.sqrt(tf.reduce_sum(weights * tf.linalg.matvec(cosines, weights)))
    weights = tf.math.divide_no_nan(weights, tf.reduce_sum(weights))
    return MaxMin(weights, tf.where(length > 0, length, 1.0) * longest, settled)
