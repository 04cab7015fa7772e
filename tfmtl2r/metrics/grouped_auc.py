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

    With weights of items, a pair weighs the product of its two weights.

    >>> value, counts = GroupedAUC().per_list([[1.0, 0.0, 0.0]], [[0.3, 0.3, 0.1]], [[True, True, True]])
    >>> float(value[0]), float(counts[0])
    (0.75, 1.0)

    Source: see ``CARD``.
    """

    above: float = 0.0
    weighted: bool = False

    def conventions(self) -> dict[str, Any]:
        return {**super().conventions(), "empty": "skip", "ties": "half"}

    def trivial(self) -> float:
        return 0.5

    def perfect(self) -> float:
        return 1.0

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights) -> tuple[PerList, PerList]:
        positive = known & (labels > self.above)
        negative = known & ~positive
        # Infinity marks the items that are not negative, so the scores themselves must be finite.
        scores = tf.clip_by_value(scores, tf.float32.min, tf.float32.max)
        marked = tf.where(negative, scores, np.inf)
        order = tf.argsort(marked, axis=-1)
        opponents = tf.gather(marked, order, batch_dims=1)
        each = tf.gather(tf.where(negative, weights, 0.0), order, batch_dims=1)
        up_to = tf.pad(tf.cumsum(each, axis=1), [[0, 0], [1, 0]])  # weight of the opponents before each place
        beaten = [tf.gather(up_to, tf.searchsorted(opponents, scores, side=side), batch_dims=1)
                  for side in ("left", "right")]
        positives = tf.where(positive, weights, 0.0)
        won = tf.reduce_sum(positives * (beaten[0] + beaten[1]) / 2.0, axis=1)
        pairs = tf.reduce_sum(positives, axis=1) * up_to[:, -1]
        both = tf.cast(pairs > 0, tf.float32)
        counts = both * tf.reduce_sum(weights, axis=1) if self.weighted else both
        return tf.math.divide_no_nan(won, pairs), counts
