"""Softmax cross-entropy with a virtual item of score 0, which fixes the level of the scores."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.losses.base import Loss, positive
from tfmtl2r.registry import Card
from tfmtl2r.types import Labels, Mask, PerList, Scores, Seed, Tensor, TensorLike, Weights

CARD = Card(
    title="Calibrated softmax cross-entropy",
    paper="Yan et al., Scale Calibration of Deep Ranking Models, KDD 2022, https://doi.org/10.1145/3534678.3539072",
    aliases=("softmax_with_anchor", "scale_calibrated_softmax"),
    note="a listwise loss whose values are expected labels, of grades and counts too; set y0 to a usual label",
)
__all__ = ["CalibratedSoftmax"]
_HIGHEST = 80.0
"""The highest score whose exponential counts; it is a float32 that a sum can hold."""


@dataclasses.dataclass(frozen=True)
class CalibratedSoftmax(Loss):
    """``-sum_i w_i y_i log P_i - y0 log P_0``, where P is the softmax over the scores of the list and a score of 0.

    At the minimum, ``exp(s_i) = E[y_i] / y0`` for lists of any length and for random labels, so that the value of a
    score is ``y0 exp(s)``, which may exceed 1. The loss is not divided by the sum of the labels, since this sum is
    random. A list without a positive counts: the anchor lowers its scores. Inverse propensities multiply the labels,
    not the anchor, so that values are those of the relevance.

    Args:
        y0: label of the virtual item, above 0. A value near the mean label keeps scores near 0.

    Raises:
        ValueError: for a y0 that is not above 0. Without an anchor, the loss would be ``softmax``.

    >>> loss, weight = CalibratedSoftmax().per_list([[1.0, 0.0, 0.0]], [[1.0, 0.0, -1.0]], [[True, True, True]])
    >>> round(float(loss[0]), 6)
    2.253047

    Source: see ``CARD``.
    """

    every_list = True
    y0: float = 1.0

    def __post_init__(self) -> None:
        positive(self, "y0")

    def value(self, scores: TensorLike) -> Tensor:
        """The expected label ``y0 exp(s)``."""
        return self.y0 * tf.exp(tf.minimum(tf.convert_to_tensor(scores), _HIGHEST))

    def has_fixed_part(self) -> bool:
        """The anchor."""
        return True

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        logits = tf.where(known, scores, tf.float32.min)
        logs = tf.nn.log_softmax(tf.concat([tf.zeros_like(scores[:, :1]), logits], axis=1))
        worth = labels if weights is None else labels * weights
        return -tf.reduce_sum(tf.where(known, worth * logs[:, 1:], 0.0), axis=1) - self.y0 * logs[:, 0]
