"""Squared error, item by item."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.losses.base import Loss, mean_over_items
from tfmtl2r.registry import Card
from tfmtl2r.types import Labels, Mask, PerList, Scores, Seed, Tensor, TensorLike, Weights

CARD = Card(
    title="Mean squared error",
    aliases=("mean_squared", "mean_squared_loss", "mean_squared_error"),
    note="pointwise regression, on lists and on plain rows; any number is a label; only NaN is missing",
)
__all__ = ["MSE"]


@dataclasses.dataclass(frozen=True)
class MSE(Loss):
    """Mean squared error of the labelled items of a list: ``loss[b] = 1/n sum_i (s_i - y_i)^2``.

    A list counts if it has a labelled item. Negative labels are valid.

    >>> loss, weight = MSE().per_list([[1.0, -1.0, float("nan")]], [[1.0, 1.0, 9.0]], [[True, True, True]])
    >>> float(loss[0])  # (0 + 4) / 2
    2.0
    """

    listwise = False
    every_list = True
    relevance = False
    standardise = True

    def value(self, scores: TensorLike) -> Tensor:
        """The score itself."""
        return tf.identity(scores)

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        return mean_over_items(tf.math.squared_difference(scores, labels), known, weights)
