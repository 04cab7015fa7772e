"""Normalised discounted cumulative gain."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfmtl2r import ranking
from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.metrics.base import Metric, check_cutoff, check_empty, with_empty
from tfmtl2r.registry import Card
from tfmtl2r.types import Labels, Mask, PerList, Scores, Weights

CARD = Card(
    title="NDCG",
    paper="Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, ACM TOIS 20(4), 2002, "
    "https://doi.org/10.1145/582415.582418",
    note="tied items get their expected discount, so constant scores give exactly the chance level",
)
__all__ = ["NDCG"]


@dataclasses.dataclass(frozen=True)
class NDCG(Metric):
    """The sum of gain times discount, divided by its maximum and averaged over lists.

    ``value[b] = sum_i gain(y_i) d_i / maxDCG``. The gain is ``2^y - 1`` or ``y``. The discount ``d_i`` is the mean of
    ``1 / log2(1 + rank_i)``, 0 beyond rank k, over all orders of tied items.

    Args:
        k: the cutoff; None for the whole list.
        gain: ``"exp2"`` or ``"linear"``.
        empty: a list without a relevant item is skipped (``"skip"``, as in most papers), or counts as ``"zero"``
            (TF-Ranking, keras-rs) or ``"one"`` (LightGBM, allRank).
        mixed_only: count only lists with at least one label above 0 and one that is 0.

    Raises:
        ValueError: for an unknown gain or convention, a cutoff that is not a whole number >= 1, or ``mixed_only``
            together with a value for lists without a relevant item, which ``mixed_only`` leaves out.

    >>> value, counts = NDCG().per_list([[1.0, 0.0]], [[0.0, 1.0]], [[True, True]])
    >>> round(float(value[0]), 4), float(counts[0])  # 1 / log2(3)
    (0.6309, 1.0)

    Source: see ``CARD``; ties: :func:`tfmtl2r.ranking.expected_discount`.
    """

    k: int | None = None
    gain: str = "exp2"
    empty: str = "skip"
    mixed_only: bool = False

    def __post_init__(self) -> None:
        check_cutoff(self)
        check_empty(self)
        ranking.gains([[0.0]], self.gain)
        if self.mixed_only and self.empty != "skip":
            raise InputError(f"ndcg: mixed_only leaves out the lists that empty={self.empty!r} would count; choose one")

    def conventions(self) -> dict[str, Any]:
        return {**super().conventions(), "ties": "expected"}

    def perfect(self) -> Metric | float:
        return 1.0 if self.empty == "skip" else self

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights) -> tuple[PerList, PerList]:
        gains = tf.where(known, ranking.gains(labels, self.gain), 0.0)
        reached = tf.reduce_sum(gains * ranking.expected_discount(scores, known, self.k), axis=1)
        highest = tf.reduce_sum(gains * ranking.expected_discount(labels, known, self.k), axis=1)
        relevant = known & (labels > 0)
        value, counts = with_empty(tf.math.divide_no_nan(reached, highest), relevant, known, self.empty)
        if self.mixed_only:
            counts *= tf.cast(tf.reduce_any(known & ~relevant, axis=1), tf.float32)
        return value, counts
