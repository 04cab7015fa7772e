"""The weighted sum of raw scores."""

from __future__ import annotations

import dataclasses

from tfmtl2r.blends.base import Blend, Heads
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor

CARD = Card(
    title="Weighted sum of raw scores",
    note="for scores that share a unit, or weights of your own that contain the scales",
)
__all__ = ["Sum"]


@dataclasses.dataclass(frozen=True)
class Sum(Blend):
    """``score = sum_t w_t s_t``. The scales of the scores matter: a head with large scores decides the order."""

    definition = "sum over tasks of weight * score_<task>, on raw scores"

    def terms(self, heads: Heads) -> Tensor:
        return heads.scores
