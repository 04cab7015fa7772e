"""TF-Ranking's logistic loss of ordered pairs (as in RankNet; with lambda weights as in LambdaLoss)."""

from __future__ import annotations

import dataclasses

from tfmtl2r.losses import _pairs
from tfmtl2r.losses._pairwise import Pairwise
from tfmtl2r.registry import Card

CARD = Card(
    title="Pairwise logistic",
    paper="Burges et al., Learning to Rank using Gradient Descent, ICML 2005, https://doi.org/10.1145/1102351.1102363",
    aliases=("pairwise_logistic_loss",),
    note="lambda_weight='dcg' makes it LambdaLoss",
)
__all__ = ["PairwiseLogistic"]


@dataclasses.dataclass(frozen=True)
class PairwiseLogistic(Pairwise):
    """Mean logistic loss of the pairs of a list with different labels.

    ``loss[b] = sum_{y_i > y_j} w_ij log(1 + exp(-(s_i - s_j) / t)) / sum_{y_i > y_j} w_ij``, with lambda weights
    ``w_ij``, 1 by default. A list counts if its labels differ.

    Args: ``temperature``, ``lambda_weight`` and ``lambda_top_n``, see :class:`~tfmtl2r.losses._pairwise.Pairwise`.

    >>> loss, weight = PairwiseLogistic().per_list([[1.0, 0.0]], [[0.0, 0.0]], [[True, True]])
    >>> round(float(loss[0]), 4)  # log 2
    0.6931

    Source: see ``CARD``; Wang et al., The LambdaLoss Framework for Ranking Metric Optimization, CIKM 2018,
    https://doi.org/10.1145/3269206.3271784
    """

    def link(self) -> _pairs.Link:
        return _pairs.logistic()
