"""Mean squared error over items."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.metrics._labels import Variance
from tfmtl2r.metrics.base import ItemMetric, Metric
from tfmtl2r.registry import Card
from tfmtl2r.types import Labels, Scores, Tensor

CARD = Card(
    title="Mean squared error",
    aliases=("mean_squared_error",),
    note="any number is a label; only NaN is missing",
)
__all__ = ["MSE"]


@dataclasses.dataclass(frozen=True)
class MSE(ItemMetric):
    """Mean of ``(v_i - y_i)^2`` over all labelled items, so longer lists have more influence.

    v is the value of the score in the label's unit.

    >>> value, counts = MSE().per_list([[1.0, -1.0]], [[1.0, 1.0]], [[True, True]])
    >>> float(value[0]), float(counts[0])
    (2.0, 2.0)
    """

    relevance = False

    def conventions(self) -> dict[str, Any]:
        return {"mean": "items"}

    def trivial(self) -> Metric:
        """The error of the mean of the labels."""
        return Variance()

    def perfect(self) -> float:
        return 0.0

    def per_item(self, labels: Labels, scores: Scores) -> Tensor:
        return tf.math.squared_difference(scores, labels)
