"""Eigenvalues of a Gram matrix, and which of them exceed the rounding error."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.types import Tensor


class Spectrum(NamedTuple):
    """Result of :func:`spectrum`.

    Args:
        values: ``float64[T]``, eigenvalues in ascending order.
        vectors: ``float64[T, T]``, an eigenvector per column.
        smallest: ``float64``; in a float32 matrix, eigenvalues up to it are rounding errors.
        kept: ``bool[T]``, ``values > smallest``.
    """

    values: Tensor
    vectors: Tensor
    smallest: Tensor
    kept: Tensor


def spectrum(matrix: Tensor) -> Spectrum:
    """Eigenvalues and eigenvectors of a symmetric ``[T, T]`` matrix.

    Gradients are float32, so an eigenvalue counts towards the rank if ``lambda > T eps lambda_max`` with the eps of
    float32.

    >>> spectrum([[2., 1.], [1., 2.]]).values.numpy().round(6).tolist()
    [1.0, 3.0]
    """
    values, vectors = tf.linalg.eigh(tf.cast(matrix, tf.float64))
    smallest = float(np.finfo(np.float32).eps) * values.shape[0] * tf.maximum(values[-1], 0.0)
    return Spectrum(values, vectors, smallest, values > smallest)
