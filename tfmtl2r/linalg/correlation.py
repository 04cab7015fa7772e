"""Cosines and lengths of the task gradients, from their Gram matrix."""

from __future__ import annotations

from typing import NamedTuple

from tfmtl2r._backend import tf
from tfmtl2r.types import Gram, Tensor


class Correlation(NamedTuple):
    """Result of :func:`correlation`.

    Args:
        cosines: ``float64[T, T]``; a task that does not take part has a 1 on the diagonal and 0 elsewhere.
        lengths: ``float64[T]``, length of each gradient, 1 for a task that does not take part.
        usable: ``bool[T]``, whether the task is present and its gradient is not zero.
    """

    cosines: Tensor
    lengths: Tensor
    usable: Tensor


def correlation(gram: Gram, present: Tensor | None = None) -> Correlation:
    """Splits ``G_ij = <g_i, g_j>`` into cosines and lengths, so that solvers work on rows of equal scale.

    Shapes: ``gram`` ``[T, T]``, T known when traced; ``present`` ``bool[T]``, all by default.

    >>> correlation([[4., 3.], [3., 9.]]).cosines.numpy().tolist()
    [[1.0, 0.5], [0.5, 1.0]]
    """
    gram = tf.cast(gram, tf.float64)
    lengths = tf.sqrt(tf.maximum(tf.linalg.diag_part(gram), 0.0))
    usable = lengths > 0
    if present is not None:
        usable &= tf.cast(present, tf.bool)
    lengths = tf.where(usable, lengths, 1.0)
    both = usable[:, None] & usable[None, :]
    cosines = tf.where(both, gram / lengths[:, None] / lengths[None, :], 0.0)
    cosines = tf.linalg.set_diag(cosines, tf.ones_like(lengths))
    return Correlation(cosines, lengths, usable)
