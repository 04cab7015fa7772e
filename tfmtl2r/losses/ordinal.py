"""Ordinal regression: one binary cross-entropy per grade, for whether the label reaches this grade."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.losses.base import Loss, mean_over_items, positive
from tfmtl2r.registry import Card
from tfmtl2r.types import Labels, Mask, PerList, Scores, Seed, Tensor, TensorLike, Weights

CARD = Card(
    title="Ordinal regression (all thresholds)",
    paper="Rennie and Srebro, Loss Functions for Preference Levels: Regression with Discrete Ordered Labels, IJCAI "
    "Multidisciplinary Workshop on Advances in Preference Handling, 2005",
    aliases=("ordinal_loss",),
    note="pointwise; set levels to the highest grade; the model's probability of grade 1 or more is sigmoid(score)",
)
__all__ = ["Ordinal"]


@dataclasses.dataclass(frozen=True)
class Ordinal(Loss):
    """Cross-entropies of "the grade is at least k" for k = 1 to n, summed, then averaged over the items of a list.

    ``loss[b] = 1/m sum_i sum_k BCE(s_i - b_k, [y_i >= k])`` over m labelled items, with the thresholds
    ``b_k = (k - 1) spacing``. A list counts if it has a labelled item.

    Args:
        levels: n, the highest grade.
        spacing: distance between thresholds, in logits. The probability of a grade in the middle is at most
            ``tanh(spacing / 4)``, so a larger spacing allows more confident scores.

    Raises:
        ValueError: for a number that is not above 0.

    >>> loss, weight = Ordinal(levels=2, spacing=2.0).per_list([[1.0]], [[1.0]], [[True]])
    >>> round(float(loss[0]), 4)  # 2 log(1 + exp(-1)): half way between the thresholds 0 and 2
    0.6265

    Source: see ``CARD``. Pobrotyn et al., Context-Aware Learning to Rank with Self-Attention, 2020,
    https://arxiv.org/abs/2005.10084, use n outputs per item instead of thresholds. Such outputs may contradict each
    other, and their sum ranks the items. Here an item has one score, which ranks it. The model learns a bias and a
    scale of the score instead of thresholds.
    """

    listwise = False
    every_list = True
    levels: int = 4
    spacing: float = 2.0

    def __post_init__(self) -> None:
        positive(self, "levels", "spacing")

    def value(self, scores: TensorLike) -> Tensor | None:
        """``sigmoid(s)`` with one level. None with more, whose thresholds push the scores of labels 0 and 1 too low."""
        return tf.sigmoid(scores) if self.levels == 1 else None

    def highest_label(self) -> tuple[float, str]:
        return float(self.levels), f"levels is {self.levels}; set it to the highest grade"

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        grades = tf.range(1.0, self.levels + 1.0)
        reached = tf.cast(labels[:, :, None] >= grades, tf.float32)
        logits = scores[:, :, None] - self.spacing * (grades - 1.0)
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=reached, logits=logits)
        return mean_over_items(tf.reduce_sum(losses, axis=2), known, weights)
