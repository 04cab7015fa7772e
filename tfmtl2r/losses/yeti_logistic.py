"""Pairwise logistic loss of neighbours in sampled orders."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.losses import _pairs
from tfmtl2r.losses._pairwise import mean_of_pairs, rank_gain, ranked
from tfmtl2r.losses._tf_ranking import Sampled
from tfmtl2r.losses.base import has_order
from tfmtl2r.registry import Card
from tfmtl2r.types import Features, Labels, Mask, PerList, Scores, Seed, Tensor, Weights

CARD = Card(
    title="YetiLoss (logistic)",
    paper="Lyzhin et al., Which Tricks are Important for Learning to Rank?, ICML 2023, "
    "https://arxiv.org/abs/2204.01500",
    aliases=("yeti_logistic_loss",),
    note="only neighbours in a sampled order are compared, as in CatBoost's YetiRank",
)
__all__ = ["YetiLogistic"]


@dataclasses.dataclass(frozen=True)
class YetiLogistic(Sampled):
    """Mean logistic loss of ordered pairs with adjacent ranks, over S copies of the scores with Gumbel noise.

    A copy is ``z = (s + noise) / gumbel_temperature / t``. Its loss is the mean of ``log(1 + exp(-(z_i - z_j)))`` over
    the pairs with ``y_i > y_j`` and ``|rank_i - rank_j| = 1``, weighted by the difference of their gains ``2^y - 1``.
    The loss is the mean over the copies.

    Args: ``temperature`` (t), ``sample_size`` (S) and ``gumbel_temperature``, see
        :class:`~tfmtl2r.losses._tf_ranking.Sampled`.

    >>> loss, weight = YetiLogistic().per_list([[1.0, 0.0]], [[90.0, 0.0]], [[True, True]])
    >>> round(float(loss[0]), 4)
    0.0

    Source: see ``CARD``.
    """

    grades = True
    numbers_per_pair = _pairs.NUMBERS_IN_BLOCKS

    def counts(self, labels: Labels, known: Mask) -> PerList:
        return has_order(labels, known)

    def pairs_at_once(self, lists: int, length: int) -> int:
        return _pairs.most_in_blocks(self.sample_size * lists, length)

    def bridge(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        def weigh(i: Features, j: Features) -> Tensor:
            return tf.where(tf.abs(i["rank"] - j["rank"]) <= 1.0, rank_gain(i, j), 0.0)

        items = _pairs.items_of(labels, known, weights) | ranked(labels, scores, known, seed)
        return mean_of_pairs(scores, items, weigh, _pairs.logistic())
