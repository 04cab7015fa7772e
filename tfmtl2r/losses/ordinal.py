"""Ordinal regression: one binary cross-entropy for every grade that a label reaches or not."""

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
    note="pointwise; set levels to the highest grade; sigmoid(score) is the probability of grade 1 or more",
)
__all__ = ["Ordinal"]


@dataclasses.dataclass(frozen=True)
class Ordinal(Loss):
    """Cross-entropies of "the grade is at least k" for k = 1 to n, summed, then averaged over the items of a list.

    ``loss[b] = 1/m sum_i sum_k BCE(s_i - b_k, [y_i >= k])`` over m labelled items, with the thresholds
    ``b_k = (k - 1) spacing``. A list with a labelled item counts.

    Args:
        levels: n, the highest grade.
        spacing: between thresholds, in logits. The larger, the surer a score can be of a grade in the middle, whose
            probability is at most ``tanh(spacing / 4)``.

    Raises:
        ValueError: for a number that is not above 0.

    >>> loss, weight = Ordinal(levels=2, spacing=2.0).per_list([[1.0]], [[1.0]], [[True]])
    >>> round(float(loss[0]), 4)  # 2 log(1 + exp(-1)): half way between the thresholds 0 and 2
    0.6265

    Source: see ``CARD``; with n outputs per item in place of thresholds: Pobrotyn et al., Context-Aware Learning to
    Rank with Self-Attention, 2020, https://arxiv.org/abs/2005.10084. Here an item has one score, which is what it is
    ranked by; n free outputs could contradict each other, and are ranked by their sum. A bias and a scale of the score
    stand for learned thresholds.
    """

    listwise = False
    levels: int = 4
    spacing: float = 2.0

    def __post_init__(self) -> None:
        positive(self, "levels", "spacing")

    def value(self, scores: TensorLike) -> Tensor | None:
        """With one level the probability ``sigmoid(s)``. With more levels None: labels of 0 and 1 push scores down."""
        return tf.sigmoid(scores) if self.levels == 1 else None

    def highest_label(self) -> tuple[float, str]:
        return float(self.levels), f"levels is {self.levels}; set it to the highest grade"

    def counts(self, labels: Labels, known: Mask) -> PerList:
        return tf.reduce_any(known, axis=1)

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        grades = tf.range(1.0, self.levels + 1.0)
        reached = tf.cast(labels[:, :, None] >= grades, tf.float32)
        logits = scores[:, :, None] - self.spacing * (grades - 1.0)
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=reached, logits=logits)
        return mean_over_items(tf.reduce_sum(losses, axis=2), known, weights)
