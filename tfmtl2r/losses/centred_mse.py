"""Mean squared error between labels and scores that are both centred in their list."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.losses.base import Loss, has_order, mean_over_items
from tfmtl2r.registry import Card
from tfmtl2r.types import Labels, Mask, PerList, Scores, Seed, Tensor, Weights

CARD = Card(
    title="Centred mean squared error",
    note="the default of teachers: the labels are scores of any level; differences within the list count",
)
__all__ = ["CentredMSE"]


@dataclasses.dataclass(frozen=True)
class CentredMSE(Loss):
    """``loss[b] = 1/n sum_i ((s_i - mean s) - (y_i - mean y))^2`` over n labelled items; the means are of the list.

    A list counts if its labels differ. A constant that is added to the scores or to the labels of a list changes
    nothing. Item weights multiply the squares, and the means are weighted means.

    >>> loss, weight = CentredMSE().per_list([[0.5, -1.0, 0.5]], [[1.0, 0.0, 2.0]], [[True] * 3])
    >>> round(float(loss[0]), 6)
    0.166667
    """

    relevance = False

    def counts(self, labels: Labels, known: Mask) -> PerList:
        return has_order(labels, known)

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        apart = scores - labels
        return mean_over_items(tf.square(apart - _mean(apart, known, weights)), known, weights)


def _mean(values: Tensor, known: Mask, weights: Weights | None) -> Tensor:
    share = tf.cast(known, tf.float32) if weights is None else tf.where(known, weights, 0.0)
    return tf.math.divide_no_nan(tf.reduce_sum(values * share, axis=1, keepdims=True),
                                 tf.reduce_sum(share, axis=1, keepdims=True))
