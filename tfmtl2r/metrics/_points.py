"""Summaries of any number of items as a bounded number of points, for metrics over all items.

Points are the rows of a ``float64`` matrix: a key, such as a score, and columns. A column is the sum over the items of
the point; the last ``kept`` columns are those of the point's first item. ``weigh`` returns the weight of each row of
columns. Points without weight come last and are 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.types import Tensor

Weigh = Callable[[Tensor], Tensor]


def distinct(points: Tensor, weigh: Weigh, kept: int = 0) -> Tensor:
    """Points in ascending order of their keys, each key once; equal keys keep their order. The shape stays."""
    there = weigh(points[:, 1:]) > 0
    keys = tf.where(there, points[:, 0], np.inf)
    order = tf.argsort(keys, stable=True)
    keys, columns = tf.gather(keys, order), tf.gather(points[:, 1:], order)
    place = tf.cumsum(tf.cast(tf.concat([[False], keys[1:] != keys[:-1]], axis=0), tf.int32))
    columns = _summed(columns, place, tf.shape(keys)[0], kept)
    keys = tf.math.unsorted_segment_max(keys, place, tf.shape(keys)[0])
    return tf.concat([tf.where(weigh(columns) > 0, keys, 0.0)[:, None], columns], axis=1)


def summarised(points: Tensor, size: int, weigh: Weigh, kept: int = 0) -> Tensor:
    """At most ``size`` points in place of any number of points. Equal keys stay one point.

    Up to ``size`` different keys, nothing is lost. Beyond that, a point stands for neighbouring keys with about the
    same total weight, and has their mean as its key.
    """
    points = distinct(points, weigh, kept)
    keys, columns = points[:, 0], points[:, 1:]
    each = weigh(columns)
    share = tf.math.divide_no_nan(tf.cumsum(each) - each / 2.0, tf.reduce_sum(each))
    place = tf.range(tf.shape(each)[0])
    place = tf.where(tf.math.count_nonzero(each, dtype=tf.int32) <= size, place, tf.cast(share * size, tf.int32))
    place = tf.minimum(place, size - 1)
    columns = _summed(columns, place, size, kept)
    weight = weigh(columns)
    mean = tf.math.divide_no_nan(tf.math.unsorted_segment_sum(keys * each, place, size), weight)
    # The mean of a single key may differ from it by rounding, and ties would no longer be ties.
    lowest = tf.math.unsorted_segment_min(tf.where(each > 0, keys, np.inf), place, size)
    highest = tf.math.unsorted_segment_max(tf.where(each > 0, keys, -np.inf), place, size)
    keys = tf.where(weight > 0, tf.minimum(tf.maximum(mean, lowest), highest), 0.0)
    return tf.concat([keys[:, None], columns], axis=1)


def _summed(columns: Tensor, place: Tensor, size: Tensor | int, kept: int) -> Tensor:
    """The columns of the points at each place; ``place`` ascends."""
    if kept:
        first = tf.concat([[True], place[1:] != place[:-1]], axis=0)[:, None]
        columns = tf.concat([columns[:, :-kept], tf.where(first, columns[:, -kept:], 0.0)], axis=1)
    return tf.math.unsorted_segment_sum(columns, place, size)
