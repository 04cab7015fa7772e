"""One minus NDCG under a soft permutation matrix (PiRank)."""

from __future__ import annotations

import dataclasses

from tfmtl2r import _keras2
from tfmtl2r._backend import tf
from tfmtl2r.losses._pairs import LONGEST
from tfmtl2r.losses._tf_ranking import Bridged
from tfmtl2r.losses.base import list_weight
from tfmtl2r.registry import Card
from tfmtl2r.types import Labels, Mask, PerList, Scores, Seed, Weights

CARD = Card(
    title="NeuralSort NDCG (PiRank)",
    paper="Swezey et al., PiRank: Scalable Learning To Rank via Differentiable Sorting, NeurIPS 2021, "
    "https://arxiv.org/abs/2012.06731",
    aliases=("neural_sort_ndcg_loss", "pirank"),
    note="[B, L, L] memory; a low temperature approximates NDCG closely, but has small gradients far from the optimum",
)
__all__ = ["NeuralSortNDCG"]


@dataclasses.dataclass(frozen=True)
class NeuralSortNDCG(Bridged):
    """``1 - NDCG`` with NeuralSort's soft permutation matrix P of the scores.

    ``loss[b] = 1 - sum_{r, i} P[r, i] (2^y_i - 1) / log2(1 + r) / maxDCG``. Columns of P that sum to more than 1 are
    scaled to sum 1, so the loss lies in [0, 1].

    Args:
        temperature: divides the scores.

    Raises:
        ValueError: for a temperature that is not above 0.

    >>> loss, weight = NeuralSortNDCG().per_list([[1.0, 0.0]], [[0.0, 0.0]], [[True, True]])
    >>> round(float(loss[0]), 4)  # 1 - (1 + 1 / log2(3)) / 2
    0.1845

    Source: see ``CARD``. Differs from the authors' code: NeuralSort's matrix is stochastic only in its rows, so an item
    could count 1.1 times and NDCG could exceed 1. Scaled columns keep the loss >= 0.
    """

    grades = True
    longest = LONGEST
    numbers_per_pair = 6
    temperature: float = 1.0

    def bridge(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        impl = _keras2.losses_impl()
        placed = impl.neural_sort(scores, mask=known)
        placed /= tf.maximum(tf.reduce_sum(placed, axis=1, keepdims=True), 1.0)
        return (1.0 - tf.squeeze(impl.ndcg(labels, perm_mat=placed), axis=1)) * list_weight(labels, weights)
