"""Mean average precision."""

from __future__ import annotations

import dataclasses

from tfmtl2r.metrics._tf_ranking import Bridged
from tfmtl2r.registry import Card

CARD = Card(
    title="MAP",
    paper="Buckley and Voorhees, Evaluating evaluation measure stability, SIGIR 2000, "
    "https://doi.org/10.1145/345508.345543",
    note="with a cutoff it divides by all relevant items, so a list with more than k of them cannot reach 1",
)
__all__ = ["MAP"]


@dataclasses.dataclass(frozen=True)
class MAP(Bridged):
    """Sum of the precisions at the ranks of the relevant items up to k, divided by the number of relevant items.

    Args: ``k``, ``empty`` and ``above``, see :class:`~tfmtl2r.metrics._tf_ranking.Bridged`.

    >>> value, counts = MAP().per_list([[1.0, 0.0, 1.0]], [[3.0, 2.0, 1.0]], [[True, True, True]])
    >>> round(float(value[0]), 4)  # (1/1 + 2/3) / 2
    0.8333

    Source: see ``CARD``.
    """

    impl = "MeanAveragePrecisionMetric"
