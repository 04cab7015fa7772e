"""Projection onto the simplex, and weights that sum to the number of present tasks."""

from __future__ import annotations

from tfmtl2r._backend import tf
from tfmtl2r.types import Tensor, Weights


def project(point: Tensor, present: Tensor | None = None, total: Tensor | float = 1.0) -> Tensor:
    """The exact nearest point ``[T]`` whose entries are >= 0 and sum to ``total``; absent entries become 0.

    Shapes: ``point`` ``[T]``; ``present`` ``bool[T]``, all by default; ``total`` is a scalar >= 0.

    >>> project([0.5, 0.9, -3.]).numpy().round(6).tolist()
    [0.3, 0.7, 0.0]

    Reference: Held, Wolfe and Crowder, Validation of subgradient optimization, 1974,
    https://doi.org/10.1007/BF01580223.
    """
    point = tf.cast(point, tf.float64)
    total = tf.cast(total, tf.float64)
    present = tf.ones_like(point, tf.bool) if present is None else tf.cast(present, tf.bool)
    lowest = tf.constant(-1e300, tf.float64)
    point = tf.where(present, point, lowest)
    # Shifting all entries does not change the projection; without it, huge entries round a total of 1 away.
    point = tf.maximum(point - tf.reduce_max(point), lowest)
    falling = tf.sort(point, direction="DESCENDING")
    counts = tf.cast(tf.range(1, point.shape[0] + 1), tf.float64)
    threshold = (tf.cumsum(tf.maximum(falling, -2.0 * total)) - total) / counts
    # Entries further than `total` below the highest are never kept, so clipping them is harmless.
    kept = tf.maximum(tf.math.count_nonzero(falling > threshold), 1)
    found = tf.maximum(point - tf.gather(threshold, kept - 1), 0.0)
    found = tf.where(present, found, 0.0)
    return tf.math.divide_no_nan(found, tf.reduce_sum(found)) * total


def spread(weights: Weights, present: Tensor | None) -> Tensor:
    """Scales the weights ``[T]`` >= 0 of the present tasks to sum to the number of present tasks.

    If all these weights are 0, every present task gets 1.

    >>> spread([0.2, 0.3, 0.5], [True, True, False]).numpy().round(6).tolist()
    [0.8, 1.2, 0.0]
    """
    weights = tf.cast(weights, tf.float64)
    here = tf.cast(present, tf.float64)
    weights *= here
    weights = tf.where(tf.reduce_sum(weights) > 0, weights, here)
    return tf.math.divide_no_nan(weights, tf.reduce_sum(weights)) * tf.reduce_sum(here)
