"""Squared error between score differences and label differences."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.losses._pairs import LONGEST
from tfmtl2r.losses._tf_ranking import Bridged
from tfmtl2r.losses.base import has_order
from tfmtl2r.registry import Card
from tfmtl2r.types import Labels, Mask, PerList, Scores, Seed, Weights

CARD = Card(
    title="Pairwise mean squared error",
    paper="Pasumarthi et al., TF-Ranking: Scalable TensorFlow Library for Learning-to-Rank, KDD 2019, "
    "https://doi.org/10.1145/3292500.3330677",
    aliases=("pairwise_mse_loss",),
    note="regression on differences within a list; any number is a label",
)
__all__ = ["PairwiseMSE"]


@dataclasses.dataclass(frozen=True)
class PairwiseMSE(Bridged):
    """Mean squared error between score differences and label differences, over all pairs of a list.

    ``loss[b] = mean over i != j of ((s_i - s_j) / t - (y_i - y_j))^2``, including pairs with equal labels. A list
    counts if its labels differ.

    Args:
        temperature: t.

    Raises:
        ValueError: for a temperature that is not above 0.

    >>> loss, weight = PairwiseMSE().per_list([[5.0, 2.0]], [[1.0, 0.0]], [[True, True]])
    >>> float(loss[0])  # (1 - 3)^2
    4.0

    Source: see ``CARD``.
    """

    impl = "PairwiseMSELoss"
    longest = LONGEST
    numbers_per_pair = 6
    relevance = False
    standardise = True
    temperature: float = 1.0

    def counts(self, labels: Labels, known: Mask) -> PerList:
        return has_order(labels, known)

    def bridge(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        # TF-Ranking treats negative labels as missing. Subtracting the lowest label does not change differences.
        lowest = tf.reduce_min(tf.where(known, labels, tf.float32.max), axis=1, keepdims=True)
        return super().bridge(tf.where(known, labels - lowest, 0.0), scores, known, weights, seed)
