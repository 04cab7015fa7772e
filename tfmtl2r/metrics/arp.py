"""Average relevance position."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfmtl2r import _keras2
from tfmtl2r._backend import tf
from tfmtl2r.metrics._tf_ranking import without_ties
from tfmtl2r.metrics.base import Metric, with_empty
from tfmtl2r.registry import Card
from tfmtl2r.types import Labels, Mask, PerList, Scores, Weights

CARD = Card(
    title="ARP",
    paper="Zhu, Recall, Precision and Average Precision, University of Waterloo, 2004",
    aliases=("average_relevance_position",),
    note="lower is better; grows with the length of the lists",
)
__all__ = ["ARP"]


@dataclasses.dataclass(frozen=True)
class ARP(Metric):
    """The mean rank of the items, weighted by label; then the mean over lists with a relevant item.

    ``value[b] = sum_i y_i rank_i / sum_i y_i``. Every list counts once. TF-Ranking weights a list by the sum of its
    labels instead.

    >>> value, counts = ARP().per_list([[1.0, 0.0, 1.0]], [[3.0, 2.0, 1.0]], [[True, True, True]])
    >>> float(value[0])  # (1 + 3) / 2
    2.0

    Source: see ``CARD``.
    """

    direction = "min"

    def conventions(self) -> dict[str, Any]:
        return {"empty": "skip", "ties": "seeded shuffle"}

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights) -> tuple[PerList, PerList]:
        built = _keras2.metrics_impl().ARPMetric(name=None)
        value, _ = built.compute(labels, without_ties(scores, known), None, known)
        return with_empty(tf.squeeze(value, axis=1), known & (labels > 0), known, "skip")
