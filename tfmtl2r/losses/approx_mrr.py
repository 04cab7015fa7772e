"""One minus the reciprocal rank with sigmoids in place of comparisons."""

from __future__ import annotations

import dataclasses

from tfmtl2r.losses._pairs import LONGEST
from tfmtl2r.losses._tf_ranking import Bridged
from tfmtl2r.registry import Card

CARD = Card(
    title="ApproxMRR",
    paper="Qin, Liu and Li, A general approximation framework for direct optimization of information retrieval "
    "measures, Information Retrieval 13, 2010, https://doi.org/10.1007/s10791-009-9124-x",
    aliases=("approx_mrr_loss",),
    note="averages over all relevant items of a list, while the metric uses only the first one",
)
__all__ = ["ApproxMRR"]


@dataclasses.dataclass(frozen=True)
class ApproxMRR(Bridged):
    """One minus the mean reciprocal approximate rank of the relevant items, weighted by label.

    ``rank_i = 1 + sum_{j != i} sigmoid((s_j - s_i) / t)`` and ``loss[b] = 1 - sum_i y_i / rank_i / sum_i y_i``, in
    [0, 1).

    Args:
        temperature: t. As t approaches 0, the ranks become exact and the gradient vanishes.

    Raises:
        ValueError: for a temperature that is not above 0.

    >>> loss, weight = ApproxMRR().per_list([[1.0, 0.0]], [[0.0, 0.0]], [[True, True]])
    >>> round(float(loss[0]), 4)  # 1 - 1 / 1.5
    0.3333

    Source: see ``CARD``.
    """

    impl = "ApproxMRRLoss"
    longest = LONGEST
    numbers_per_pair = 3
    offset = 1.0
    temperature: float = 0.1
