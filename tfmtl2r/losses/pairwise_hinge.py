"""Hinge loss of ordered pairs (RankSVM)."""

from __future__ import annotations

import dataclasses

from tfmtl2r.losses import _pairs
from tfmtl2r.losses._pairwise import Pairwise
from tfmtl2r.registry import Card

CARD = Card(
    title="Pairwise hinge",
    paper="Joachims, Optimizing Search Engines using Clickthrough Data, KDD 2002, https://doi.org/10.1145/775047.775067",
    aliases=("pairwise_hinge_loss", "ranksvm"),
    note="pairs with a margin above 1 have no gradient",
)
__all__ = ["PairwiseHinge"]


@dataclasses.dataclass(frozen=True)
class PairwiseHinge(Pairwise):
    """Mean hinge loss of the pairs of a list with different labels.

    ``loss[b] = sum_{y_i > y_j} w_ij max(0, 1 - (s_i - s_j) / t) / sum_{y_i > y_j} w_ij``, with lambda weights
    ``w_ij``, 1 by default. A list counts if its labels differ.

    Args: ``temperature``, ``lambda_weight`` and ``lambda_top_n``, see :class:`~tfmtl2r.losses._pairwise.Pairwise`.

    >>> loss, weight = PairwiseHinge().per_list([[1.0, 0.0]], [[0.25, 0.0]], [[True, True]])
    >>> float(loss[0])
    0.75

    Source: see ``CARD``.
    """

    def link(self) -> _pairs.Link:
        return _pairs.hinge(1.0)
