"""Pooling of the rows of bags and histories, with masks from lengths: padding has no effect and gets no gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.types import Tensor


def rows_of(table: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """The rows of an embedding table, 0 at padded places, ``float32[n, M, d]``.

    Only the ids of real places are looked up, so that the id of a padded place gets no gradient and no update.

    Args:
        table: a layer from ids to rows.
        ids: ``int32[n, M]``.
        mask: ``bool[n, M]``, True at real places.
    """
    places = tf.where(mask)
    found = tf.cast(table(tf.gather_nd(ids, places)), tf.float32)
    shape = tf.concat([tf.shape(ids, out_type=tf.int64), tf.shape(found, out_type=tf.int64)[1:]], 0)
    # A graph of ONNX computes the first place if no place is real; the product with the mask removes it.
    return tf.scatter_nd(places, found, shape) * tf.cast(mask, tf.float32)[..., None]


def weighted_sum(rows: Tensor, weights: Tensor) -> Tensor:
    """``sum_m w_m h_m``.

    Args:
        rows: ``float32[n, M, d]``.
        weights: ``float32[n, M]``, 0 at padded places.
    """
    return tf.reduce_sum(rows * weights[..., None], axis=1)


def mean(rows: Tensor, weights: Tensor) -> Tensor:
    """``sum w h / sum w``, and 0 if the weights are 0."""
    return tf.math.divide_no_nan(weighted_sum(rows, weights), tf.reduce_sum(weights, 1, keepdims=True))


def sqrtn(rows: Tensor, weights: Tensor) -> Tensor:
    """``sum w h / sqrt(sum w^2)``, and 0 if the weights are 0."""
    norm = tf.sqrt(tf.reduce_sum(tf.square(weights), 1, keepdims=True))
    return tf.math.divide_no_nan(weighted_sum(rows, weights), norm)


def maximum(rows: Tensor, weights: Tensor) -> Tensor:
    """The maximum of each component over the rows with a weight above 0; 0 without such a row."""
    real = weights > 0
    highest = tf.reduce_max(tf.where(real[..., None], rows, rows.dtype.min), axis=1)
    return tf.where(tf.reduce_any(real, 1, keepdims=True), highest, 0.0)


def last(rows: Tensor, weights: Tensor) -> Tensor:
    """The last row with a weight above 0, times its weight; 0 without such a row."""
    places = tf.range(tf.shape(weights)[1])[None, :]
    newest = tf.reduce_max(tf.where(weights > 0, places, -1), axis=1, keepdims=True)
    return weighted_sum(rows, weights * tf.cast(places == newest, tf.float32))


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": mean, "sum": weighted_sum, "sqrtn": sqrtn, "max": maximum, "last": last,
}
"""Name -> function of rows ``[n, M, d]`` and weights ``[n, M]``, which are 0 at padded places."""
