"""Means over the ordered pairs of a list, weighted by lambda weights.

TF-Ranking has the same losses. Its logistic loss has a gradient of exactly 0 between items whose scores tie, so that
training does not start from equal scores, and its matrices of pairs need memory for ``[B, L, L]`` numbers. The sums
here have the gradient of the formula everywhere, and are computed in blocks, see :mod:`~tfmtl2r.losses._pairs`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

from tfmtl2r import ranking
from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError, not_defined
from tfmtl2r.losses import _pairs
from tfmtl2r.losses.base import Loss, has_order, positive
from tfmtl2r.types import Features, Labels, Mask, PerList, Scores, Seed, Tensor, Weights

PAIR_WEIGHTS = ("dcg", "dcg_v2", "label_diff", "precision")
PairWeight: TypeAlias = Callable[[Features, Features], Tensor]


@dataclasses.dataclass(frozen=True)
class Pairwise(Loss):
    """The mean of a link over the pairs with ``y_i > y_j``, weighted by lambda weights.

    Ranks for lambda weights break ties by the seed. The item weight of the better item multiplies a pair.

    Args:
        temperature: scores are divided by it.
        lambda_weight: weight of a pair: ``"dcg"`` (LambdaLoss, gain ``2^y - 1``, discount ``1 / log2(1 + rank)``),
            ``"dcg_v2"`` (the same, but well defined with a cutoff), ``"label_diff"``, ``"precision"`` (1 if the cutoff
            separates the pair), or None for equal weights.
        lambda_top_n: the cutoff of ``dcg``, ``dcg_v2`` and ``precision``; ``precision`` requires a cutoff.

    Raises:
        ValueError: for an unknown lambda weight, a cutoff that is unused or missing, or a number that is not above 0.
    """

    numbers_per_pair = _pairs.NUMBERS_IN_BLOCKS
    temperature: float = 1.0
    lambda_weight: str | None = None
    lambda_top_n: int | None = None

    def __post_init__(self) -> None:
        positive(self, "temperature", "lambda_top_n")
        name = type(self).__name__
        if self.lambda_weight not in (None, *PAIR_WEIGHTS):
            known = ", ".join(PAIR_WEIGHTS)
            raise InputError(f"{name}: lambda_weight must be one of {known} or None, not {self.lambda_weight!r}")
        if self.lambda_weight == "precision" and self.lambda_top_n is None:
            raise InputError(f"{name}: lambda_weight 'precision' needs lambda_top_n, the cutoff")
        if self.lambda_top_n is not None and self.lambda_weight in (None, "label_diff"):
            raise InputError(f"{name}: lambda_top_n has no effect with lambda_weight {self.lambda_weight!r}")

    def link(self) -> _pairs.Link:
        """The loss of a pair as a function of the difference of its scores, with its derivative."""
        raise not_defined(self, "link")

    def counts(self, labels: Labels, known: Mask) -> PerList:
        return has_order(labels, known)

    def pairs_at_once(self, lists: int, length: int) -> int:
        return _pairs.most_in_blocks(lists, length)

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        items = _pairs.items_of(labels, known, weights)
        if self.lambda_weight is None:
            return mean_of_pairs(scores / self.temperature, items, None, self.link())
        items |= ranked(labels, scores, known, seed)
        weigh = {
            "label_diff": lambda i, j: tf.abs(i["labels"] - j["labels"]), "precision": self._precision,
            "dcg": self._dcg, "dcg_v2": lambda i, j: rank_gain(i, j, self.lambda_top_n),
        }[self.lambda_weight]
        return mean_of_pairs(scores / self.temperature, items, weigh, self.link())

    def _precision(self, i: Features, j: Features) -> Tensor:
        inside = [item["rank"] <= float(self.lambda_top_n or 0) for item in (i, j)]
        return tf.cast((j["labels"] <= 0) & (inside[0] != inside[1]), tf.float32)

    def _dcg(self, i: Features, j: Features) -> Tensor:
        weight = rank_gain(i, j)
        if self.lambda_top_n is None:
            return weight
        return tf.where(tf.minimum(i["rank"], j["rank"]) <= float(self.lambda_top_n), weight, 0.0)


def ranked(labels: Labels, scores: Scores, known: Mask, seed: Seed) -> Features:
    """The ``rank`` and the ``gain`` of every item, ``float32[B, L]``, for weights of pairs."""
    return {"rank": tf.cast(ranking.ranks(scores, known, seed), tf.float32), "gain": ranking.gains(labels)}


def rank_share(i: Features, j: Features) -> Tensor:
    """``1 / log2(1 + d) - 1 / log2(2 + d)`` with ``d = |r_i - r_j|``."""
    apart = tf.maximum(tf.abs(i["rank"] - j["rank"]), 1.0)
    return ranking.discounts(apart) - ranking.discounts(apart + 1.0)


def rank_gain(i: Features, j: Features, top_n: int | None = None) -> Tensor:
    """``|G_i - G_j|`` times :func:`rank_share`.

    With a cutoff, a pair whose higher rank number r is above it is divided by ``1 - 1 / log2(1 + r)``.
    """
    weight = rank_share(i, j) * tf.abs(i["gain"] - j["gain"])
    if top_n is None:
        return weight
    worse = tf.maximum(i["rank"], j["rank"])
    # A pair has two ranks, so the worse rank is at least 2.
    return tf.where(worse > float(top_n), weight / (1.0 - ranking.discounts(tf.maximum(worse, 2.0))), weight)


def mean_of_pairs(values: Tensor, items: Features, weigh: PairWeight | None, link: _pairs.Link) -> PerList:
    """The sum over ordered pairs of item weight times pair weight times link, divided by the sum of pair weights.

    Args:
        values: ``float32[B, L]``, whose differences the link takes.
        items: see :func:`tfmtl2r.losses._pairs.items_of`, with whatever ``weigh`` reads.
        weigh: the weights of pairs, or None for 1.
        link: the loss of a pair.
    """
    def pairs(i: Features, j: Features) -> tuple[Mask, Tensor]:
        weight = i["weights"] if weigh is None else i["weights"] * weigh(i, j)
        return _pairs.ordered(i, j), weight

    total, mass = _pairs.sums(values, items, pairs, link)
    if weigh is not None:
        mass, _ = _pairs.sums(values, items, lambda i, j: (_pairs.ordered(i, j), weigh(i, j)), _one)
    return tf.math.divide_no_nan(total, tf.stop_gradient(mass))


def _one(differences: Tensor) -> tuple[Tensor, Tensor]:
    """The link 1, whose sum is the sum of the weights."""
    return tf.ones_like(differences), tf.zeros_like(differences)
