"""One minus NDCG with soft discounts of items in place of sorted gains."""

from __future__ import annotations

import dataclasses

from tfmtl2r.losses._neural_ndcg import NeuralSorted
from tfmtl2r.registry import Card

CARD = Card(
    title="NeuralNDCG, transposed",
    paper="Pobrotyn and Bialobrzeski, NeuralNDCG: Direct Optimisation of a Ranking Metric via Differentiable "
    "Relaxation of Sorting, 2021, https://arxiv.org/abs/2102.07831",
    aliases=("neural_ndcg_transposed_loss",),
    note="equal to neural_ndcg if the scaling converges; otherwise ranks, not items, are limited to a sum of 1",
)
__all__ = ["NeuralNDCGTransposed"]


@dataclasses.dataclass(frozen=True)
class NeuralNDCGTransposed(NeuralSorted):
    """``loss[b] = 1 - sum_i g(y_i) sum_{r <= k} P'[i, r] / log2(1 + r) / maxDCG@k``: items get expected discounts.

    ``P' = scale(P^T)`` is the transposed matrix of NeuralSort after Sinkhorn's scaling. The scaled matrix is unique, so
    this loss equals ``neural_ndcg`` if the scaling converges. If the iterations end earlier, each item sums to 1, and
    then ranks with a sum above 1 are scaled down. Item weights, long lists and noise work as in ``neural_ndcg``.

    Args: ``temperature``, ``k``, ``gain`` and ``iterations``, and for noise ``samples``, ``beta`` and ``log_scores``,
        see :class:`~tfmtl2r.losses._neural_ndcg.NeuralSorted`.

    >>> loss, weight = NeuralNDCGTransposed(k=1).per_list([[1.0, 0.0]], [[0.0, 0.0]], [[True, True]])
    >>> round(float(loss[0]), 4)  # 1 - 1/2
    0.5

    Source: see ``CARD``. Differs from the authors' code in the same way as ``neural_ndcg``.
    """

    transposed = True
