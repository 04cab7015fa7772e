"""Metrics of a constant prediction, which depend on the labels alone: what other metrics are compared with."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.metrics._probabilities import entropy
from tfmtl2r.metrics.base import SummedMetric
from tfmtl2r.types import Tensor


@dataclasses.dataclass(frozen=True)
class _Mean(SummedMetric):
    """A function of the weighted mean of the labels, and of their squares."""

    def sums(self, labels: Tensor, scores: Tensor, weights: Tensor) -> dict[str, Tensor]:
        # Squares of float32 would lose what distinguishes labels far from 0.
        labels, weights = tf.cast(labels, tf.float64), tf.cast(weights, tf.float64)
        return {"weights": tf.reduce_sum(weights), "labels": tf.reduce_sum(weights * labels),
                "squares": tf.reduce_sum(weights * labels**2)}


@dataclasses.dataclass(frozen=True)
class Variance(_Mean):
    """The mean squared error of the mean of the labels.

    >>> Variance().exact([1.0, 3.0, float("nan")], [0.0, 0.0, 0.0])
    1.0
    """

    relevance = False

    def of_sums(self, sums: dict[str, Tensor]) -> Tensor:
        mean, square = sums["labels"] / sums["weights"], sums["squares"] / sums["weights"]
        rest = square - mean**2
        return tf.where(rest > 1e-12 * square, rest, tf.zeros_like(rest))


@dataclasses.dataclass(frozen=True)
class Entropy(_Mean):
    """The log loss of the base rate; labels above 1 count as 1.

    >>> round(Entropy().exact([1.0, 0.0], [0.0, 0.0]), 4)  # log 2
    0.6931
    """

    def sums(self, labels: Tensor, scores: Tensor, weights: Tensor) -> dict[str, Tensor]:
        return super().sums(tf.minimum(labels, 1.0), scores, weights)

    def of_sums(self, sums: dict[str, Tensor]) -> Tensor:
        rate = sums["labels"] / sums["weights"]
        return entropy(rate)
