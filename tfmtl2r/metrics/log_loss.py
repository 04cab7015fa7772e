"""Binary cross-entropy over items."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.metrics._labels import Entropy
from tfmtl2r.metrics.base import ItemMetric, Metric
from tfmtl2r.registry import Card
from tfmtl2r.types import Labels, Scores, Tensor

CARD = Card(
    title="Log loss",
    aliases=("logloss", "binary_cross_entropy"),
    note="measures calibration, which ranking metrics ignore",
)
__all__ = ["LogLoss"]


@dataclasses.dataclass(frozen=True)
class LogLoss(ItemMetric):
    """Mean of ``log(1 + exp(s_i)) - y_i s_i`` over all labelled items; labels above 1 are clipped to 1.

    >>> value, counts = LogLoss().per_list([[1.0, 0.0]], [[0.0, 0.0]], [[True, True]])
    >>> round(float(value[0]), 4), float(counts[0])  # log 2
    (0.6931, 2.0)
    """

    def conventions(self) -> dict[str, Any]:
        return {"mean": "items"}

    def trivial(self) -> Metric:
        """The log loss of the base rate."""
        return Entropy()

    def perfect(self) -> float:
        return 0.0

    def per_item(self, labels: Labels, scores: Scores) -> Tensor:
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.minimum(labels, 1.0), logits=scores)
