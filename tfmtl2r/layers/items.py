"""Lists without their padding: real items as plain rows, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tfmtl2r._backend import tf


def pack(features: dict[str, Any], valid: Any, context: Iterable[str] = ()) -> dict[str, Any]:
    """The features of the real items, one row each.

    Args:
        features: per item ``[B, L, ...]``, per list ``[B, ...]``.
        valid: ``bool[B, L]``, n of them True.
        context: names of the features that belong to the list; each item gets its list's value.

    Returns:
        name -> ``[n, ...]``, lists one after another.

    >>> mask = tf.constant([[True, False], [True, True]])
    >>> rows = pack({"price": tf.constant([[1, 0], [2, 3]]), "user": tf.constant([7, 8])}, mask, ["user"])
    >>> rows["price"].numpy().tolist(), rows["user"].numpy().tolist()
    ([1, 2, 3], [7, 8, 8])
    """
    context = set(context)
    index = tf.where(valid)
    in_batch = index[:, 0] * tf.shape(valid, out_type=tf.int64)[1] + index[:, 1]
    rows = {}
    for name, value in features.items():
        if name in context:
            rows[name] = tf.gather(value, index[:, 0])
        else:
            rows[name] = tf.gather(tf.reshape(value, [-1, *value.shape[2:]]), in_batch)
    return rows


def spread(rows: Any, valid: Any) -> Any:
    """The way back for scores: ``[T, n]`` to ``[T, B, L]``, 0 at padded places.

    >>> spread(tf.constant([[1., 2., 3.]]), tf.constant([[True, False], [True, True]])).numpy().tolist()
    [[[1.0, 0.0], [2.0, 3.0]]]
    """
    # A scatter, since its gradient is a gather; the other way round the gradient would scatter.
    shape = tf.concat([tf.shape(valid, out_type=tf.int64), tf.shape(rows, out_type=tf.int64)[:1]], 0)
    return tf.transpose(tf.scatter_nd(tf.where(valid), tf.transpose(rows), shape), [2, 0, 1])
