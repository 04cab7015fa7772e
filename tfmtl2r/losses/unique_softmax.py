"""Softmax of each item against the items with lower labels."""

from __future__ import annotations

import dataclasses

from tfmtl2r.losses._pairs import LONGEST
from tfmtl2r.losses._tf_ranking import Bridged
from tfmtl2r.registry import Card

CARD = Card(
    title="Unique-rating softmax",
    paper="Zhu and Klabjan, Listwise Learning to Rank by Exploring Unique Ratings, WSDM 2020, "
    "https://arxiv.org/abs/2001.01828",
    aliases=("unique_softmax_loss",),
    note="items with equal labels do not compete; a sum over items, so lists with many relevant items count more",
)
__all__ = ["UniqueSoftmax"]


@dataclasses.dataclass(frozen=True)
class UniqueSoftmax(Bridged):
    """Cross-entropy of each item in a softmax over itself and the items with lower labels, weighted by its gain.

    ``loss[b] = - sum_i (2^y_i - 1) log(exp(s_i / t) / (exp(s_i / t) + sum_{j: y_j < y_i} exp(s_j / t)))``, a sum over
    the items of a list.

    Args:
        temperature: t.

    Raises:
        ValueError: for a temperature that is not above 0.

    >>> loss, weight = UniqueSoftmax().per_list([[1.0, 1.0, 0.0]], [[0.0, 0.0, 0.0]], [[True, True, True]])
    >>> round(float(loss[0]), 4)  # 2 log 2: the two relevant items do not compete
    1.3863

    Source: see ``CARD``.
    """

    impl = "UniqueSoftmaxLoss"
    longest = LONGEST
    numbers_per_pair = 8
    grades = True
    temperature: float = 1.0
