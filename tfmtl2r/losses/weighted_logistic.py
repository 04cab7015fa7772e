"""Logistic regression whose positives weigh their watch time, so that the odds estimate the mean watch time."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.losses.base import Loss, mean_over_items
from tfmtl2r.registry import Card
from tfmtl2r.types import Labels, Mask, PerList, Scores, Seed, Tensor, TensorLike, Weights

CARD = Card(
    title="Weighted logistic regression",
    paper="Covington et al., Deep Neural Networks for YouTube Recommendations, RecSys 2016, "
    "https://doi.org/10.1145/2959100.2959190",
    aliases=("wlr", "watch_time_logistic"),
    note="pointwise, for watch times of 0 and more; the value of a score is exp(s), the mean watch time",
)
__all__ = ["WeightedLogistic"]
_HIGHEST = 80.0
"""The highest score whose exponential counts; it is a float32 that a sum can hold."""


@dataclasses.dataclass(frozen=True)
class WeightedLogistic(Loss):
    """Mean of ``T_i log(1 + exp(-s_i)) + log(1 + exp(s_i))`` over the labelled items, where T >= 0 is the label.

    Each item is a positive with the weight T and a negative with the weight 1. At the minimum, ``exp(s) = E[T]``, which
    is the value of a score. A score is no logit of a click. A negative label is missing.

    Args:
        unbiased: False leaves out the negatives of the items with a label above 0, as the paper does. ``exp(s)`` is
            then the sum of T divided by the number of items with label 0, which is E[T] only if labels above 0 are
            rare.

    >>> loss, weight = WeightedLogistic().per_list([[3.0, 0.0]], [[0.0, 0.0]], [[True, True]])
    >>> round(float(loss[0]), 4)  # (4 log 2 + log 2) / 2
    1.7329

    Source: see ``CARD``.

    Differs from the paper: unbiased by default.
    """

    listwise = False
    every_list = True
    unbiased: bool = True

    def value(self, scores: TensorLike) -> Tensor:
        """The mean label ``exp(s)``."""
        return tf.exp(tf.minimum(tf.convert_to_tensor(scores), _HIGHEST))

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        negatives = tf.ones_like(labels) if self.unbiased else tf.cast(labels <= 0, labels.dtype)
        losses = labels * tf.nn.softplus(-scores) + negatives * tf.nn.softplus(scores)
        return mean_over_items(losses, known, weights)
