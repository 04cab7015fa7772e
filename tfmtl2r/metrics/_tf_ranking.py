"""The bridge to TF-Ranking's metrics of binary relevance.

TF-Ranking breaks ties at random on every call, treats labels of 1 or more as relevant, and has one fixed convention for
lists without a relevant item. Here, TF-Ranking receives labels of 0 or 1, and minus the rank as the score. The ranks
break ties by a fixed seed, so that a repeated evaluation returns the same number. The convention for lists without a
relevant item is an option of the metric.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from tfmtl2r import _keras2, ranking
from tfmtl2r._backend import tf
from tfmtl2r.metrics.base import Metric, check_cutoff, check_empty, with_empty
from tfmtl2r.types import Labels, Mask, PerList, Scores, Weights


@dataclasses.dataclass(frozen=True)
class Bridged(Metric):
    """A metric of TF-Ranking on binary relevance.

    Args:
        k: the cutoff, so that only the first k ranks count; None for the whole list.
        empty: a list without a relevant item is skipped (``"skip"``) or counts as ``"zero"`` or ``"one"``.
        above: an item is relevant if its label is above this number.

    Raises:
        ValueError: for a cutoff that is not a whole number >= 1, or an unknown convention.
    """

    impl: ClassVar[str] = ""
    k: int | None = None
    empty: str = "skip"
    above: float = 0.0

    def __post_init__(self) -> None:
        check_cutoff(self)
        check_empty(self)

    def conventions(self) -> dict[str, Any]:
        return {**super().conventions(), "ties": "seeded shuffle"}

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights) -> tuple[PerList, PerList]:
        relevant = known & (labels > self.above)
        built = getattr(_keras2.metrics_impl(), self.impl)(name=None, topn=self.k)
        value, _ = built.compute(tf.cast(relevant, tf.float32), without_ties(scores, known), None, known)
        return with_empty(tf.squeeze(value, axis=1), relevant, known, self.empty)


def without_ties(scores: Scores, known: Mask) -> Scores:
    """Minus the rank of every item, ``float32[B, L]``: the order of the scores, without ties."""
    return -tf.cast(ranking.ranks(scores, known), tf.float32)
