"""One minus NDCG with sigmoids in place of comparisons."""

from __future__ import annotations

import dataclasses

from tfmtl2r.losses._pairs import LONGEST
from tfmtl2r.losses._tf_ranking import Bridged
from tfmtl2r.registry import Card

CARD = Card(
    title="ApproxNDCG",
    paper="Qin, Liu and Li, A general approximation framework for direct optimization of information retrieval "
    "measures, Information Retrieval 13, 2010, https://doi.org/10.1007/s10791-009-9124-x",
    aliases=("approx_ndcg_loss",),
    note="not convex; a low temperature approximates NDCG closely, but has small gradients far from the optimum",
)
__all__ = ["ApproxNDCG"]


@dataclasses.dataclass(frozen=True)
class ApproxNDCG(Bridged):
    """``1 - NDCG`` at approximate ranks.

    ``rank_i = 1 + sum_{j != i} sigmoid((s_j - s_i) / t)`` and ``loss[b] = 1 - sum_i (2^y_i - 1) / log2(1 + rank_i) /
    maxDCG``, in [0, 1).

    Args:
        temperature: t. As t approaches 0, the ranks become exact and the gradient vanishes.

    Raises:
        ValueError: for a temperature that is not above 0.

    >>> loss, weight = ApproxNDCG().per_list([[1.0, 0.0]], [[0.0, 0.0]], [[True, True]])
    >>> round(float(loss[0]), 4)  # 1 - 1 / log2(2.5), since both ranks are 1.5
    0.2435

    Source: see ``CARD``; Bruch et al., Revisiting Approximate Metric Optimization in the Age of Deep Neural Networks,
    SIGIR 2019, https://doi.org/10.1145/3331184.3331347
    """

    impl = "ApproxNDCGLoss"
    longest = LONGEST
    numbers_per_pair = 3
    offset = 1.0
    grades = True
    temperature: float = 0.1
