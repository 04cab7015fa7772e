"""The weighted sum of values in the unit of each label."""

from __future__ import annotations

import dataclasses

from tfmtl2r.blends.base import Blend, Heads
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor

CARD = Card(
    title="Weighted sum of values",
    note="for heads with probabilities or quantities, such as the expected profit sum_t price_t * probability_t",
)
__all__ = ["Value"]


@dataclasses.dataclass(frozen=True)
class Value(Blend):
    """``score = sum_t w_t value_t``, with ``value_t`` the score in the unit of the label: a probability, seconds.

    Every task needs a loss that determines the level of its scores, or a calibrator.
    """

    definition = "sum over tasks of weight * value_<task>"

    precedence = 1

    @property
    def needs(self) -> frozenset[str]:
        """The values."""
        return frozenset({"values"})

    def terms(self, heads: Heads) -> Tensor:
        assert heads.values is not None
        return heads.values
