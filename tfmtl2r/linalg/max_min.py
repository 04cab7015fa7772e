"""The dual of a max-min problem: a linear function plus a norm, minimised over the simplex."""

from __future__ import annotations

from typing import NamedTuple

from tfmtl2r._backend import tf
from tfmtl2r.linalg import settling
from tfmtl2r.linalg.active_set import search
from tfmtl2r.types import Gram, Tensor

_RIDGE = 1e-12  # added to squared lengths, in units of the longest gradient's


class MaxMin(NamedTuple):
    """Result of :func:`max_min`.

    Args:
        weights: ``float64[T]`` on the simplex.
        length: ``float64``, ``||sum_t w_t g_t||``, never 0, so that callers can divide by it.
        settled: ``bool``, whether the optimality conditions held before the iteration cap.
    """

    weights: Tensor
    length: Tensor
    settled: Tensor


def max_min(gram: Gram, linear: Tensor, radius: Tensor, present: Tensor | None = None) -> MaxMin:
    """Solves ``argmin_w q' w + radius ||sum_t w_t g_t||`` over the probability simplex.

    An active-set method solves the problem exactly. A ridge keeps the norm above about 1e-6 of the longest gradient, so
    that the norm has a derivative also where the task gradients cancel.

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
    # The problem in units of the longest gradient, divided by the radius.
    cosines = gram / longest / longest * here[:, None] * here[None, :]
    cosines = tf.linalg.set_diag(cosines, tf.where(present, tf.linalg.diag_part(cosines), 1.0) + _RIDGE)
    unit = tf.cast(radius, tf.float64) * longest
    weights, settled, rounds = search(cosines, here, here * linear / tf.where(unit > 0, unit, 1.0), present, root=True)
    settling.report(settled, rounds)
    length = tf.sqrt(tf.reduce_sum(weights * tf.linalg.matvec(cosines, weights)))
    weights = tf.math.divide_no_nan(weights, tf.reduce_sum(weights))
    return MaxMin(weights, tf.where(length > 0, length, 1.0) * longest, settled)
