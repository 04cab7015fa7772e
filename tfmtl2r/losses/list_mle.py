"""Likelihood of the order of the labels under the Plackett-Luce model."""

from __future__ import annotations

import dataclasses

from tfmtl2r import ranking
from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.losses._plackett_luce import negative_log_likelihood
from tfmtl2r.losses.base import Loss, has_order, list_weight, positive
from tfmtl2r.registry import Card
from tfmtl2r.types import Labels, Mask, PerList, Scores, Seed, Weights

CARD = Card(
    title="ListMLE",
    paper="Xia et al., Listwise Approach to Learning to Rank: Theory and Algorithm, ICML 2008, "
    "https://doi.org/10.1145/1390156.1390306",
    aliases=("list_mle_loss",),
    note="sums over positions, so long lists have more influence; items with equal labels are ordered at random",
)
__all__ = ["ListMLE"]


@dataclasses.dataclass(frozen=True)
class ListMLE(Loss):
    """The negative log probability of the order of the labels under the Plackett-Luce model of the scores.

    With items in descending order of label, ``loss[b] = sum_i d_i (log(sum_{j >= i} exp(s_j / t)) - s_i / t)``, where
    ``d_i`` is 1 or ``1 / log2(1 + i)``. Items with equal labels are ordered at random from ``seed``. A list counts if
    its labels differ.

    Args:
        temperature: t.
        lambda_weight: ``"list_mle"`` discounts positions (position-aware ListMLE); None does not.

    Raises:
        ValueError: for an unknown lambda weight, or a temperature that is not above 0.

    >>> loss, weight = ListMLE().per_list([[2.0, 1.0, 0.0]], [[0.0, 0.0, 0.0]], [[True, True, True]])
    >>> round(float(loss[0]), 4)  # log 3 + log 2
    1.7918

    Source: see ``CARD``; Lan et al., Position-Aware ListMLE: A Sequential Learning Process for Ranking, UAI 2014.
    This is not TF-Ranking's version, which adds a constant for every padded item and overflows at score differences of
    about 90.
    """

    needs_seed = True
    temperature: float = 1.0
    lambda_weight: str | None = None

    def __post_init__(self) -> None:
        positive(self, "temperature")
        if self.lambda_weight not in (None, "list_mle"):
            raise InputError(f"ListMLE: lambda_weight must be 'list_mle' or None, not {self.lambda_weight!r}")

    def counts(self, labels: Labels, known: Mask) -> PerList:
        return has_order(labels, known)

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        place = ranking.ranks(labels, known, seed)
        terms = negative_log_likelihood(scores / self.temperature, place, known)
        if self.lambda_weight:
            terms *= ranking.discounts(tf.range(1, tf.shape(scores)[1] + 1))
        return tf.reduce_sum(terms, axis=1) * list_weight(labels, weights)
