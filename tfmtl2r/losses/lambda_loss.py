"""LambdaLoss: logistic loss of pairs, weighted by the effect of their order on NDCG."""

from __future__ import annotations

import dataclasses
import math

from tfmtl2r import ranking
from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.losses import _pairs
from tfmtl2r.losses._pairwise import rank_share
from tfmtl2r.losses.base import Loss, has_order, ndcg_gains, positive
from tfmtl2r.registry import Card
from tfmtl2r.types import Features, Labels, Mask, PerList, Scores, Seed, Tensor, Weights

CARD = Card(
    title="LambdaLoss",
    paper="Wang et al., The LambdaLoss Framework for Ranking Metric Optimization, CIKM 2018, "
    "https://doi.org/10.1145/3269206.3271784",
    note="ranks graded goals best, each in its own order; costs pairs; with k, a list whose first k labels are equal "
    "gives no gradient",
)
__all__ = ["LambdaLoss"]
NDCG_WEIGHINGS = ("ndcg_loss1", "ndcg_loss2", "lambda_rank", "ndcg_loss2pp")
WEIGHINGS = (*NDCG_WEIGHINGS, "ranknet", "label_diff", "squared_label_diff")
REDUCTIONS = ("mean", "sum")


@dataclasses.dataclass(frozen=True)
class LambdaLoss(Loss):
    """``loss[b] = - sum or mean over pairs of w_ij log2(sigmoid(sigma (s_i - s_j)))``.

    The pairs have ``y_i > y_j`` and ranks ``r_i, r_j <= k`` by the current scores. With the gains
    ``G_i = (2^y_i - 1) / maxDCG@k``, the discounts ``1 / D_i = 1 / log2(1 + r_i)`` and ``d = |r_i - r_j|``:

    ======================  ==================================================================
    weighing                w_ij
    ======================  ==================================================================
    ``ranknet``             1
    ``ndcg_loss1``          ``G_i / D_i``, over all pairs of two items, whatever their labels
    ``ndcg_loss2``          ``|1 / log2(1 + d) - 1 / log2(2 + d)| |G_i - G_j|``
    ``lambda_rank``         ``|1 / D_i - 1 / D_j| |G_i - G_j|``
    ``ndcg_loss2pp``        ``mu`` times ``w_ij`` of ``ndcg_loss2``, plus ``w_ij`` of ``lambda_rank``
    ``label_diff``          ``|y_i - y_j|``
    ``squared_label_diff``  ``|y_i^2 - y_j^2|``
    ======================  ==================================================================

    Weights have no gradient. Ranks break ties by ``seed``. A list counts if its labels differ. The item weight of the
    better item i multiplies the pair. Long lists are processed in blocks, see :mod:`~tfmtl2r.losses._pairs`.

    Args:
        weighing: see the table.
        k: the cutoff; None for whole lists. The loss of a list without a pair in its first k is 0.
        sigma: steepness.
        mu: factor of ``ndcg_loss2pp``.
        reduction: over the pairs of a list: ``"sum"``, or ``"mean"``, which divides by the number of pairs and trains
            far worse, since the weights of most pairs are small.

    Raises:
        ValueError: for an unknown weighing or reduction, or a number that is not above 0.

    >>> args = [[1.0, 0.0]], [[0.0, 0.0]], [[True, True]]
    >>> float(LambdaLoss("ranknet").per_list(*args)[0][0])  # - log2(1/2)
    1.0
    >>> round(float(LambdaLoss("lambda_rank").per_list(*args)[0][0]), 4)  # 1 - 1 / log2(3)
    0.3691

    Source: see ``CARD``; Dong et al., DeepMTL2R, 2026, https://arxiv.org/abs/2602.14519, for the set of weighings.
    Differs from the authors' code: means and sums are over a list, not over a batch, and never 0 / 0. Probabilities
    have no floor of 1e-10, below which the gradient would be 0. ``ndcg_loss1`` leaves out the "pairs" of an item with
    itself, which have no gradient, and the largest loss where the order is best.
    """

    needs_seed = True
    numbers_per_pair = _pairs.NUMBERS_IN_BLOCKS
    weighing: str = "ndcg_loss2pp"
    k: int | None = None
    sigma: float = 1.0
    mu: float = 10.0
    reduction: str = "sum"

    def __post_init__(self) -> None:
        positive(self, "k", "sigma", "mu")
        for option, known in (("weighing", WEIGHINGS), ("reduction", REDUCTIONS)):
            value = getattr(self, option)
            if value not in known:
                raise InputError(f"LambdaLoss: {option} must be one of {', '.join(known)}, not {value!r}")

    def exponential_gain(self) -> bool:
        return self.weighing in NDCG_WEIGHINGS

    def counts(self, labels: Labels, known: Mask) -> PerList:
        return has_order(labels, known)

    def pairs_at_once(self, lists: int, length: int) -> int:
        return _pairs.most_in_blocks(lists, length)

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        items = _pairs.items_of(labels, known, weights)
        items["rank"] = tf.cast(ranking.ranks(scores, known, seed), tf.float32)
        if self.exponential_gain():
            items["gain"] = ndcg_gains(labels, known, self.k)
        total, pairs = _pairs.sums(scores, items, self._pairs, _pairs.logistic(self.sigma))
        total /= math.log(2.0)
        return tf.math.divide_no_nan(total, pairs) if self.reduction == "mean" else total

    def _pairs(self, i: Features, j: Features) -> tuple[Tensor, Tensor]:
        """Which items form pairs, and their weights."""
        if self.weighing == "ndcg_loss1":
            there = (i["rank"] != j["rank"]) & i["known"] & j["known"]
        else:
            there = _pairs.ordered(i, j)
        if self.k is not None:
            there &= tf.maximum(i["rank"], j["rank"]) <= self.k
        return there, i["weights"] * self._weight(i, j)

    def _weight(self, i: Features, j: Features) -> Tensor:
        if not self.exponential_gain():
            by_labels = _pairs.LABEL_WEIGHINGS[None if self.weighing == "ranknet" else self.weighing]
            return by_labels(i["labels"], j["labels"])
        discount = ranking.discounts(i["rank"])
        if self.weighing == "ndcg_loss1":
            return i["gain"] * discount
        worth: Tensor | float = 0.0
        if self.weighing != "ndcg_loss2":
            worth = tf.abs(discount - ranking.discounts(j["rank"]))
        if self.weighing != "lambda_rank":
            share = rank_share(i, j)
            worth += share if self.weighing == "ndcg_loss2" else self.mu * share
        return worth * tf.abs(i["gain"] - j["gain"])
