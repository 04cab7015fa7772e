"""One minus NDCG with a doubly stochastic soft permutation in place of sorting."""

from __future__ import annotations

import dataclasses

from tfmtl2r.losses._neural_ndcg import NeuralSorted
from tfmtl2r.registry import Card

CARD = Card(
    title="NeuralNDCG",
    paper="Pobrotyn and Bialobrzeski, NeuralNDCG: Direct Optimisation of a Ranking Metric via Differentiable "
    "Relaxation of Sorting, 2021, https://arxiv.org/abs/2102.07831",
    aliases=("neural_ndcg_loss",),
    note="up to 50 passes over the pairs of a list; a low temperature approximates NDCG closely, with small gradients",
)
__all__ = ["NeuralNDCG"]


@dataclasses.dataclass(frozen=True)
class NeuralNDCG(NeuralSorted):
    """``loss[b] = 1 - sum_{r <= k} 1 / log2(1 + r) sum_i P'[r, i] g(y_i) / maxDCG@k``: gains are sorted softly.

    ``P' = scale(P)`` is NeuralSort's matrix P of the scores after Sinkhorn's scaling of columns and rows in turn. The
    mean item weight of a list, weighted by label, multiplies its loss. Long lists are processed in blocks, see
    :mod:`~tfmtl2r.losses._neural_sort`. With ``samples``, the loss is the mean over that many copies of the scores with
    Gumbel noise of scale ``beta``, drawn from ``seed``. Each copy costs as much as the loss without noise.

    Args: ``temperature``, ``k``, ``gain`` and ``iterations``, and for noise ``samples``, ``beta`` and ``log_scores``,
        see :class:`~tfmtl2r.losses._neural_ndcg.NeuralSorted`.

    >>> loss, weight = NeuralNDCG().per_list([[1.0, 0.0]], [[0.0, 0.0]], [[True, True]])
    >>> round(float(loss[0]), 4)  # 1 - (1 + 1 / log2(3)) / 2
    0.1845

    Source: see ``CARD``. Differs from the authors' code: if the iterations end before convergence, an item with a sum
    above 1 is scaled down, so that the loss is >= 0. Noise is added to the scores, which are logits, or with
    ``log_scores`` to their logarithm. This logarithm is relative to the lowest score of the list, not of the batch.
    """
