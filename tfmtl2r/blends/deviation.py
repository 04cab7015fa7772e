"""The weighted sum of scores, each divided by the standard deviation of its head."""

from __future__ import annotations

import dataclasses

from tfmtl2r.blends.base import Blend, Heads
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor

CARD = Card(
    title="Sum of scores divided by their deviation",
    note="the default without a choice on vali: at or near the best kind on real data; works for plain rows, too",
)
__all__ = ["Deviation"]
SMALLEST = 1e-12


@dataclasses.dataclass(frozen=True)
class Deviation(Blend):
    """``score = sum_t w_t s_t / sd_t``, with ``sd_t`` the deviation of head t over all items of the training split.

    The scale of a head has no influence. A head whose scores do not vary (``sd_t`` at most 1e-12) adds nothing to the
    order, and keeps its scale.
    """

    definition = "sum over tasks of weight * score_<task> / deviation of the head on the training split"

    precedence = 0

    @property
    def needs(self) -> frozenset[str]:
        """The deviations."""
        return frozenset({"deviations"})

    def terms(self, heads: Heads) -> Tensor:
        assert heads.deviations is not None
        return heads.scores / [each if each > SMALLEST else 1.0 for each in map(float, heads.deviations)]
