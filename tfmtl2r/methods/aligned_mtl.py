"""Aligned-MTL: orthogonal gradients of equal length."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.linalg import correlation, spectrum
from tfmtl2r.methods.base import GramMethod, Signals, State, importance
from tfmtl2r.registry import Card
from tfmtl2r.types import Vector

__all__ = ["AlignedMTL"]

CARD = Card(
    title="Aligned-MTL (alignment of principal components)",
    paper="Senushkin et al. 2023, https://arxiv.org/abs/2305.19000",
    promises=("sums_to_tasks", "permutation_equivariant", "ends_on_the_pareto_set"),
    helps=("opposed_gradients", "unequal_gradients"),
    note="Gradients are aligned before the preference weights them.",
)

_SCALES = ("min", "median", "mean")


@dataclasses.dataclass(frozen=True)
class AlignedMTL(GramMethod):
    """Replaces the task gradients by the nearest orthogonal gradients of equal length, and sums them.

    The Gram matrix of the gradients J has eigenvalues ``lam`` and eigenvectors V. With
    ``B = sqrt(scale) V lam^-1/2 V'`` over the largest r eigenvalues, the rows of ``B J`` are orthogonal and have
    squared length ``scale``. The weights are ``B p`` with the preference p scaled to sum T. The rank r is the rank of
    the matrix of cosines, so that a short gradient counts like a long one, down to a ratio of lengths of about 1e-7.

    Args:
        scale: the squared length of the aligned gradients: the ``"min"`` (as in the paper), ``"median"`` or ``"mean"``
            of the eigenvalues.

    >>> from tfmtl2r import methods
    >>> (methods.combine("aligned_mtl", [[-4., 1., 1.], [6., 1., 1.]]) / 2).round(4).tolist()
    [0.2133, 0.9673, 0.9673]
    """

    takes_preference: ClassVar[bool] = True

    scale: str = "min"

    def __post_init__(self) -> None:
        if self.scale not in _SCALES:
            raise InputError(f"aligned_mtl: scale must be one of {', '.join(_SCALES)}, not {self.scale!r}")

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The aligned weights; the preference itself if all gradients are zero."""
        present = tf.cast(signals.present, tf.float64)
        preference = tf.cast(importance(signals), tf.float64)
        gram = tf.cast(signals.gram, tf.float64) * present[:, None] * present[None, :]
        values, vectors = tf.linalg.eigh(gram)
        cosines, _, usable = correlation(gram, signals.present)
        # A task without a gradient has an eigenvalue of 1 among the cosines.
        rank = tf.math.count_nonzero(spectrum(cosines).kept) - tf.math.count_nonzero(~usable)
        kept = tf.range(values.shape[0], dtype=tf.int64) >= values.shape[0] - rank
        values = tf.maximum(values, np.finfo(np.float64).eps * values.shape[0] * tf.maximum(values[-1], 0.0))
        safe = tf.where(kept, values, 1.0)
        # Eigenvalues are in ascending order, so the kept ones come last.
        first = tf.maximum(values.shape[0] - tf.cast(rank, tf.int32), 0)
        if self.scale == "min":
            chosen = safe[tf.minimum(first, values.shape[0] - 1)]
        elif self.scale == "median":
            chosen = safe[tf.minimum((first + values.shape[0] - 1) // 2, values.shape[0] - 1)]
        else:
            chosen = tf.reduce_sum(tf.where(kept, values, 0.0)) / tf.cast(tf.maximum(rank, 1), tf.float64)
        along = tf.linalg.matvec(vectors, preference, transpose_a=True)
        along = tf.where(kept, along * tf.sqrt(chosen / safe), 0.0)
        return tf.where(rank > 0, tf.linalg.matvec(vectors, along), preference), state
