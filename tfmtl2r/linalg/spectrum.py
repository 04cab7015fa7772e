"""Eigenvalues of a Gram matrix, and which of them are more than rounding."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tfmtl2r._backend import tf


class Spectrum(NamedTuple):
    """Result of :func:`spectrum`.

    Args:
        values: ``float64[T]``, eigenvalues, rising.
        vectors: ``float64[T, T]``, an eigenvector per column.
        smallest: ``float64``, below which an eigenvalue of a float32 matrix is rounding.
        kept: ``bool[T]``, ``values > smallest``.
    """

    values: Any
    vectors: Any
    smallest: Any
    kept: Any


def spectrum(matrix: Any) -> Spectrum:
    """Eigenvalues and eigenvectors of a symmetric ``[T, T]`` matrix.

    Rank is judged as for float32, in which gradients come: ``lambda > T eps lambda_max``.

    >>> spectrum([[2., 1.], [1., 2.]]).values.numpy().round(6).tolist()
    [1.0, 3.0]
    """
    values, vectors = tf.linalg.eigh(tf.cast(matrix, tf.float64))
    smallest = float(np.finfo(np.float32).eps) * values.shape[0] * tf.maximum(values[-1], 0.0)
    return Spectrum(values, vectors, smallest, values > smallest)
