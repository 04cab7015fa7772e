"""Binary cross-entropy from logits, item by item."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.losses.base import Loss, mean_over_items
from tfmtl2r.registry import Card
from tfmtl2r.types import Labels, Mask, PerList, Scores, Seed, Tensor, TensorLike, Weights

CARD = Card(
    title="Binary cross-entropy",
    aliases=("sigmoid_cross_entropy", "sigmoid_cross_entropy_loss", "binary_cross_entropy"),
    note="pointwise: calibrated probabilities, on lists and on plain rows",
)
__all__ = ["BCE"]


@dataclasses.dataclass(frozen=True)
class BCE(Loss):
    """Mean binary cross-entropy of the labelled items of a list.

    ``loss[b] = 1/n sum_i (log(1 + exp(s_i)) - y_i s_i)`` over n labelled items. Labels between 0 and 1 are
    probabilities. Grades above 1 are clipped to 1, so every relevant item is a positive. A list counts if it has a
    labelled item.

    >>> loss, weight = BCE().per_list([[1.0, 0.0, -1.0]], [[0.0, 0.0, 9.0]], [[True, True, True]])
    >>> round(float(loss[0]), 4)  # log 2; the third label is missing
    0.6931
    """

    listwise = False
    every_list = True

    def value(self, scores: TensorLike) -> Tensor:
        """The probability ``sigmoid(s)``."""
        return tf.sigmoid(scores)

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.minimum(labels, 1.0), logits=scores)
        return mean_over_items(losses, known, weights)
