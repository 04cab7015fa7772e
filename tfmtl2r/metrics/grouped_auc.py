"""AUC within lists."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.metrics.base import Metric
from tfmtl2r.registry import Card
from tfmtl2r.types import Labels, Mask, PerList, Scores, Weights

CARD = Card(
    title="Grouped AUC",
    paper="Zhu et al., Optimized Cost per Click in Taobao Display Advertising, KDD 2017, "
    "https://doi.org/10.1145/3097983.3098134",
    aliases=("gauc", "group_auc"),
    note="a list with positives only, or negatives only, does not count",
)
__all__ = ["GroupedAUC"]


@dataclasses.dataclass(frozen=True)
class GroupedAUC(Metric):
    """The probability that a positive item scores higher than a negative item of its list; a tie counts half.

    Args:
        above: an item is positive if its label is above this number.
        weighted: True counts a list as many times as it has labelled items, as in the paper; False counts it once.

    >>> value, counts = GroupedAUC().per_list([[1.0, 0.0, 0.0]], [[0.3, 0.3, 0.1]], [[True, True, True]])
    >>> float(value[0]), float(counts[0])
    (0.75, 1.0)

    Source: see ``CARD``.
    """

    above: float = 0.0
    weighted: bool = False

    def conventions(self) -> dict[str, Any]:
        return {**super().conventions(), "empty": "skip", "ties": "half"}

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights) -> tuple[PerList, PerList]:
        positive = known & (labels > self.above)
        negative = known & ~positive
        # Infinity marks the items that are not negative, so the scores themselves must be finite.
        scores = tf.clip_by_value(scores, tf.float32.min, tf.float32.max)
        opponents = tf.sort(tf.where(negative, scores, np.inf), axis=-1)
        below = tf.searchsorted(opponents, scores, side="left")
        upto = tf.searchsorted(opponents, scores, side="right")
        won = tf.reduce_sum(tf.where(positive, tf.cast(below + upto, tf.float32) / 2.0, 0.0), axis=1)
        positives = tf.reduce_sum(tf.cast(positive, tf.float32), axis=1)
        negatives = tf.reduce_sum(tf.cast(negative, tf.float32), axis=1)
        both = tf.cast((positives > 0) & (negatives > 0), tf.float32)
        counts = both * (positives + negatives) if self.weighted else both
        return tf.math.divide_no_nan(won, positives * negatives), counts
