"""Regression compatible ranking: cross-entropy of items and of the list, whose best scores agree."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.losses.base import Loss, mean_over_items
from tfmtl2r.registry import Card
from tfmtl2r.types import Labels, Mask, PerList, Scores, Seed, Tensor, TensorLike, Weights

CARD = Card(
    title="Regression compatible ranking (RCR)",
    paper="Bai et al., Regression Compatible Listwise Objectives for Calibrated Ranking with Binary Relevance, "
    "CIKM 2023, https://arxiv.org/abs/2211.01494",
    aliases=("regression_compatible_ranking", "rcr_loss"),
    note="probabilities and a good order for binary labels; a list without a positive still trains its level",
)
__all__ = ["RCR"]


@dataclasses.dataclass(frozen=True)
class RCR(Loss):
    """``(1 - alpha) BCE + alpha L_list`` with ``L_list = -1/C sum_i w_i y_i log q_i`` and ``q_i = p_i / sum_j p_j``.

    p is ``sigmoid(s)``, and BCE is the mean binary cross-entropy of the labelled items, so that the probability
    ``E[y_i]`` minimises both parts if C does not depend on the labels. ``log q`` is the log softmax of
    ``log sigmoid(s)``. The list part is 0 in a list without a positive; the list counts all the same. Labels above 1
    count as 1.

    Args:
        alpha: weight of the list part, from 0 (binary cross-entropy) to 1, which leaves the level of the scores free.
        normalise: ``"none"`` for C = 1; ``"positives"`` for ``C = sum_i w_i y_i``, which weighs lists with one and many
            positives alike, but pulls the probabilities of frequent and rare positives apart.

    Raises:
        ValueError: for an alpha outside [0, 1], or another normalisation.

    >>> loss, weight = RCR().per_list([[1.0, 0.0, 0.0]], [[1.0, 0.0, -1.0]], [[True, True, True]])
    >>> round(float(loss[0]), 5)  # (0.43989 + 0.71873) / 2
    0.57931

    Source: see ``CARD``.

    Differs from the paper: C is constant by default, since a random C moves the minimum of the list part.
    """

    every_list = True
    alpha: float = 0.5
    normalise: str = "none"

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise InputError(f"RCR: alpha must lie between 0 and 1, not {self.alpha!r}")
        if self.normalise not in ("none", "positives"):
            raise InputError(f"RCR: normalise must be 'none' or 'positives', not {self.normalise!r}")

    def value(self, scores: TensorLike) -> Tensor | None:
        """The probability ``sigmoid(s)``; None for the list part alone, which leaves the level free."""
        return tf.sigmoid(scores) if self.alpha < 1 else None

    def has_fixed_part(self) -> bool:
        """With ``normalise = "positives"``: inverse propensities enter C, too."""
        return self.normalise == "positives"

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        labels = tf.minimum(labels, 1.0)
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=scores)
        logs = tf.nn.log_softmax(tf.where(known, tf.math.log_sigmoid(scores), tf.float32.min))
        worth = labels if weights is None else labels * weights
        listwise = -tf.reduce_sum(tf.where(known, worth * logs, 0.0), axis=1)
        if self.normalise == "positives":
            listwise = tf.math.divide_no_nan(listwise, tf.reduce_sum(worth, axis=1))
        return (1 - self.alpha) * mean_over_items(losses, known, weights) + self.alpha * listwise
