"""Functions of numbers in a graph: ranks in the training split, standardisation within a list, steps at thresholds.

Sizes: n rows, C columns of numbers, K points of a column, S thresholds.
"""

from __future__ import annotations

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.types import Count, Mask, Tensor

_NOISE = 1e-12
"""A variance below this share of the mean square is rounding noise of a constant."""


def rank_gauss(values: Tensor, points: np.ndarray, heights: np.ndarray) -> Tensor:
    """Normal scores of ranks: a step function of each column, with one search for all columns.

    A value equal to point k becomes ``heights[2 k + 1]``. A value between the points k - 1 and k becomes
    ``heights[2 k]``.

    Args:
        values: finite numbers, ``[n, C]``.
        points: ``float32[C, K]``, increasing in each row; a row ends with at least one infinity.
        heights: ``float32[C, 2 K + 1]``.

    >>> points, heights = np.float32([[1, 2, np.inf]]), np.float32([[-9, -1, 0, 1, 9, 9, 9]])
    >>> rank_gauss(tf.constant([[0.0], [1.0], [1.5], [2.0], [3.0]]), points, heights).numpy().ravel().tolist()
    [-9.0, -1.0, 0.0, 1.0, 9.0]
    """
    columns = tf.transpose(values)  # a search reads one row of points at a time
    below = tf.searchsorted(tf.constant(points), columns)
    starts = np.arange(len(points), dtype=np.int32)[:, None]  # a gather from flat tables has a counterpart in ONNX
    equal = tf.gather(points.ravel(), below + starts * points.shape[1]) == columns
    places = 2 * below + tf.cast(equal, tf.int32) + starts * heights.shape[1]
    return tf.transpose(tf.gather(heights.ravel(), places))


def within_list(values: Tensor, known: Tensor, list_of: Tensor, num_lists: Count, clip: float = 5.0) -> Tensor:
    """Standardises each column within each list: (x - mean) / sd over the list's known values, ``float32[n, C]``.

    The deviation is that of a population. A list of equal values, such as a list of one item, becomes 0, and so do
    unknown values.

    Args:
        values: ``float32[n, C]``; an unknown value may be any finite number.
        known: ``bool[n, C]``.
        list_of: the number of each row's list, ``int[n]``, increasing.
        num_lists: number of lists.
        clip: the largest magnitude of the result.

    >>> x, known = tf.constant([[1.0], [2.0], [6.0], [7.0], [7.0]]), tf.ones([5, 1], tf.bool)
    >>> [round(float(value), 4) for [value] in within_list(x, known, tf.constant([0, 0, 0, 1, 1]), 2)]
    [-0.9258, -0.4629, 1.3887, 0.0, 0.0]
    """
    weights = tf.cast(known, tf.float32)

    def mean(x: Tensor) -> Tensor:
        return tf.math.unsorted_segment_sum(x * weights, list_of, num_lists) / counts

    counts = tf.maximum(tf.math.unsorted_segment_sum(weights, list_of, num_lists), 1.0)
    centre = mean(values)
    away = (values - tf.gather(centre, list_of)) * weights
    return tf.clip_by_value(away * tf.gather(_scale(mean(away**2), centre), list_of), -clip, clip)


def standardised(scores: Tensor, valid: Mask) -> Tensor:
    """The same for padded lists: scores with mean 0 and deviation 1 (divisor n), zeros for a list of equal scores.

    Args:
        scores: ``float32[..., B, L]``.
        valid: ``bool[B, L]``; other places are 0 in the result.

    >>> found = standardised(tf.constant([[3.0, 1.0, 2.0, 0.0]]), tf.constant([[True] * 4]))
    >>> found.numpy().astype(float).round(4).tolist()
    [[1.3416, -0.4472, 0.4472, -1.3416]]
    """
    count = tf.maximum(tf.reduce_sum(tf.cast(valid, tf.float32), axis=-1, keepdims=True), 1.0)

    def mean(x: Tensor) -> Tensor:
        return tf.reduce_sum(tf.where(valid, x, 0.0), axis=-1, keepdims=True) / count

    centre = mean(scores)
    away = tf.where(valid, scores - centre, 0.0)
    return away * _scale(mean(away**2), centre)


def _scale(variance: Tensor, centre: Tensor) -> Tensor:
    """1 / deviation; 0 if the deviation is rounding noise."""
    varies = variance > _NOISE * (variance + centre**2)
    return tf.where(varies, tf.math.rsqrt(tf.where(varies, variance, 1.0)), 0.0)


def steps(values: Tensor, known: Tensor, thresholds: np.ndarray, shares: np.ndarray) -> Tensor:
    """``(x > threshold) - share``, ``float32[n, S]``; 0 for an unknown value.

    Args:
        values, known: one column for each threshold, ``[n, S]``.
        thresholds: ``float32[S]``.
        shares: the share of the training split above each threshold, ``float32[S]``.

    >>> x = tf.constant([[2.0], [3.0]])
    >>> steps(x, x > 0, np.float32([2]), np.float32([0.25])).numpy().ravel().tolist()
    [-0.25, 0.75]
    """
    return tf.where(known, tf.cast(values > thresholds, tf.float32) - shares, 0.0)
