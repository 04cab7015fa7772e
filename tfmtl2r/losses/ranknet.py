"""Logistic loss of ordered pairs, optionally weighted by the difference of their labels."""

from __future__ import annotations

import dataclasses

from tfmtl2r.errors import InputError
from tfmtl2r.losses import _pairs
from tfmtl2r.losses.base import Loss, has_order, positive
from tfmtl2r.registry import Card
from tfmtl2r.types import Features, Labels, Mask, PerList, Scores, Seed, Tensor, Weights

CARD = Card(
    title="RankNet",
    paper="Burges et al., Learning to Rank using Gradient Descent, ICML 2005, https://doi.org/10.1145/1102351.1102363",
    note="as pairwise_logistic, but weights by label differences are not normalised",
)
__all__ = ["RankNet"]


@dataclasses.dataclass(frozen=True)
class RankNet(Loss):
    """Mean over the pairs of a list with ``y_i > y_j`` of ``w_ij log(1 + exp(-(s_i - s_j) / t))``.

    The mean divides by the number of pairs, so that lists with larger weights have a larger loss.
    ``pairwise_logistic`` with lambda weights divides by the sum of the weights instead. A list counts if its labels
    differ. The item weight of the better item multiplies the pair. Long lists are processed in blocks, see
    :mod:`~tfmtl2r.losses._pairs`.

    Args:
        weighing: ``w_ij``: ``"label_diff"`` for ``|y_i - y_j|``, ``"squared_label_diff"`` for ``|y_i^2 - y_j^2|``, or
            None for 1.
        temperature: t.

    Raises:
        ValueError: for an unknown weighing, or a temperature that is not above 0.

    >>> args = [[2.0, 0.0]], [[0.0, 0.0]], [[True, True]]
    >>> [round(float(RankNet(w).per_list(*args)[0][0]), 4) for w in (None, "label_diff", "squared_label_diff")]
    [0.6931, 1.3863, 2.7726]

    Source: see ``CARD``; Pobrotyn et al., Context-Aware Learning to Rank with Self-Attention, 2020,
    https://arxiv.org/abs/2005.10084, for the weighings. Differs from their code: the mean is over a list, not over a
    batch, and never 0 / 0.
    """

    numbers_per_pair = _pairs.NUMBERS_IN_BLOCKS
    weighing: str | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        positive(self, "temperature")
        if self.weighing not in _pairs.LABEL_WEIGHINGS:
            known = ", ".join(map(str, _pairs.LABEL_WEIGHINGS))
            raise InputError(f"RankNet: weighing must be one of {known}, not {self.weighing!r}")

    def counts(self, labels: Labels, known: Mask) -> PerList:
        return has_order(labels, known)

    def pairs_at_once(self, lists: int, length: int) -> int:
        return _pairs.most_in_blocks(lists, length)

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        def pairs(i: Features, j: Features) -> tuple[Tensor, Tensor]:
            weight = _pairs.LABEL_WEIGHINGS[self.weighing](i["labels"], j["labels"])
            return _pairs.ordered(i, j), i["weights"] * weight

        items = _pairs.items_of(labels, known, weights)
        return _pairs.mean(scores, items, pairs, _pairs.logistic(1.0 / self.temperature))
