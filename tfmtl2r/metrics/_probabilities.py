"""What the metrics of calibration share: cleaned probabilities in float64, and the entropy of a probability."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import numpy as np

from tfmtl2r import ranking
from tfmtl2r._backend import tf
from tfmtl2r.metrics.base import SummedMetric
from tfmtl2r.types import Tensor, TensorLike


@dataclasses.dataclass(frozen=True)
class Probabilities(SummedMetric):
    """Base class of metrics of sums over probabilities, or over values in the label's unit."""

    direction = "min"
    reads: ClassVar[Literal["score", "value", "level", "probability"]] = "probability"

    def exact(self, labels: Any, scores: Any, weights: Any = None) -> float:
        known, weights, labels, scores = items(labels, scores, None, weights)
        if not bool(tf.reduce_any(known)):
            return float("nan")
        return float(self.of_sums(self.sums(labels, scores, weights)))


def items(
    labels: TensorLike, scores: TensorLike, valid: TensorLike | None, weights: TensorLike | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which items count, ``bool[N]``, and weights, labels and probabilities, each ``float64[N]``; 0 where not known.

    Probabilities are taken in the type in which they are given, since rounding could move them across an edge of a bin.

    Args:
        labels: any shape; missing where NaN or negative.
        scores: the same shape.
        valid: the same shape; None if all items are real.
        weights: the same shape, or ``[B]`` for the lists of ``[B, L]``; None for weights of 1.
    """
    labels, scores = _double(labels), _double(scores)
    known = ranking.known(labels, tf.ones_like(labels, tf.bool) if valid is None else tf.cast(valid, tf.bool))
    weights = tf.ones_like(labels) if weights is None else _double(weights)
    if weights.shape.rank == 1 and labels.shape.rank == 2:
        weights = weights[:, None] * tf.ones_like(labels)
    known = tf.reshape(known, [-1])
    cleaned = [tf.where(known, tf.reshape(part, [-1]), 0.0) for part in (weights, labels, scores)]
    known &= cleaned[0] > 0
    return known, *cleaned


def _double(values: TensorLike) -> Tensor:
    return tf.cast(values if tf.is_tensor(values) else np.asarray(values, np.float64), tf.float64)


def entropy(probability: Tensor) -> Tensor:
    """``-p log p - (1 - p) log(1 - p)``, 0 at 0 and 1.

    >>> round(float(entropy(tf.constant(0.5))), 4)
    0.6931
    """
    return -tf.math.xlogy(probability, probability) - tf.math.xlogy(1 - probability, 1 - probability)
