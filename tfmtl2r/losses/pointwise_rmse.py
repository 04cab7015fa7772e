"""Root of the mean squared error of a list."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.losses.base import Loss, mean_over_items, positive
from tfmtl2r.registry import Card
from tfmtl2r.types import Labels, Mask, PerList, Scores, Seed, Tensor, TensorLike, Weights

CARD = Card(
    title="Pointwise root mean squared error",
    paper="Pobrotyn et al., Context-Aware Learning to Rank with Self-Attention, 2020, https://arxiv.org/abs/2005.10084",
    aliases=("rmse",),
    note="gradients of a list do not grow with its error; any number is a label; the absolute error on plain rows",
)
__all__ = ["PointwiseRMSE"]


@dataclasses.dataclass(frozen=True)
class PointwiseRMSE(Loss):
    """``loss[b] = sqrt(1/n sum_i (y_i - levels s_i)^2)`` over n labelled items.

    A list counts if it has a labelled item. The gradient of a perfect list is 0. Item weights multiply the squares.

    Args:
        levels: labels per unit of score. For scores between 0 and 1, set it to the number of grades.

    Raises:
        ValueError: for levels that are not above 0.

    >>> loss, weight = PointwiseRMSE(levels=2.0).per_list([[3.0, 0.0]], [[0.0, 2.0]], [[True, True]])
    >>> round(float(loss[0]), 4)  # sqrt((9 + 16) / 2)
    3.5355

    Source: see ``CARD``.
    """

    listwise = False
    every_list = True
    relevance = False
    standardise = True
    levels: float = 1.0

    def __post_init__(self) -> None:
        positive(self, "levels")

    def value(self, scores: TensorLike) -> Tensor:
        """``levels s``."""
        return tf.multiply(float(self.levels), scores)

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        squared = mean_over_items(tf.math.squared_difference(labels, self.levels * scores), known, weights)
        if weights is not None:
            squared *= mean_over_items(weights, known, None)  # a factor of all weights multiplies the root
        # The derivative of the root at 0 is infinite, and infinity times 0 is NaN.
        perfect = squared <= 0.0
        return tf.where(perfect, 0.0, tf.sqrt(tf.where(perfect, 1.0, squared)))
