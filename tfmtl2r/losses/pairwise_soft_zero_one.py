"""Share of pairs in the wrong order, with a sigmoid in place of the comparison."""

from __future__ import annotations

import dataclasses

from tfmtl2r.losses import _pairs
from tfmtl2r.losses._pairwise import Pairwise
from tfmtl2r.registry import Card

CARD = Card(
    title="Pairwise soft zero-one",
    paper="Pasumarthi et al., TF-Ranking: Scalable TensorFlow Library for Learning-to-Rank, KDD 2019, "
    "https://doi.org/10.1145/3292500.3330677",
    aliases=("pairwise_soft_zero_one_loss",),
    note="smoothed 1 - AUC of the list; bounded, so outliers and pairs far in the wrong order have small gradients",
)
__all__ = ["PairwiseSoftZeroOne"]


@dataclasses.dataclass(frozen=True)
class PairwiseSoftZeroOne(Pairwise):
    """Mean sigmoid of the negative score difference, over the pairs of a list with different labels.

    ``loss[b] = sum_{y_i > y_j} w_ij sigmoid(-(s_i - s_j) / t) / sum_{y_i > y_j} w_ij``, with lambda weights ``w_ij``, 1
    by default. A list counts if its labels differ.

    Args: ``temperature``, ``lambda_weight`` and ``lambda_top_n``, see :class:`~tfmtl2r.losses._pairwise.Pairwise`.

    >>> loss, weight = PairwiseSoftZeroOne().per_list([[1.0, 0.0]], [[0.0, 0.0]], [[True, True]])
    >>> float(loss[0])
    0.5

    Source: see ``CARD``.
    """

    def link(self) -> _pairs.Link:
        return _pairs.soft_zero_one()
