"""What the metrics of calibration share: cleaned probabilities in float64, and the entropy of a probability."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import numpy as np

from tfmtl2r import ranking
from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
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
    labels, scores = tf.cast(labels, tf.float64), tf.cast(scores, tf.float64)
    known = ranking.known(labels, tf.ones_like(labels, tf.bool) if valid is None else tf.cast(valid, tf.bool))
    weights = tf.ones_like(labels) if weights is None else tf.cast(weights, tf.float64)
    if weights.shape.rank == 1 and labels.shape.rank == 2:
        weights = weights[:, None] * tf.ones_like(labels)
    known = tf.reshape(known, [-1])
    cleaned = [tf.where(known, tf.reshape(part, [-1]), 0.0) for part in (weights, labels, scores)]
    known &= cleaned[0] > 0
    return known, *cleaned


def entropy(probability: Tensor) -> Tensor:
    """``-p log p - (1 - p) log(1 - p)``, 0 at 0 and 1.

    >>> round(float(entropy(tf.constant(0.5))), 4)
    0.6931
    """
    return -tf.math.xlogy(probability, probability) - tf.math.xlogy(1 - probability, 1 - probability)


def check_choice(metric: Any, option: str, known: tuple[str, ...]) -> None:
    """Checks that an option of a metric has a known value.

    Raises:
        ValueError: for any other value.
    """
    value = getattr(metric, option)
    if value not in known:
        raise InputError(f"{metric.name}: {option} must be one of {', '.join(known)}, not {value!r}")


def positive_number(metric: Any, option: str, most: float = np.inf) -> None:
    """Checks that an option of a metric is a number above 0 and below ``most``.

    Raises:
        ValueError: for any other value.
    """
    value = getattr(metric, option)
    if not 0 < value < most:
        raise InputError(f"{metric.name}: {option} must be above 0{f' and below {most:g}' * np.isfinite(most)}, not "
                         f"{value!r}")
