"""Precision at a cutoff."""

from __future__ import annotations

import dataclasses

from tfmtl2r.metrics._tf_ranking import Bridged
from tfmtl2r.registry import Card

CARD = Card(
    title="Precision",
    paper="van Rijsbergen, Information Retrieval, 1979, https://www.dcs.gla.ac.uk/Keith/Preface.html",
    note="the divisor is k, or the length of a list shorter than k",
)
__all__ = ["Precision"]


@dataclasses.dataclass(frozen=True)
class Precision(Bridged):
    """The share of relevant items among the first k, averaged over lists.

    Args: ``k``, ``empty`` and ``above``, see :class:`~tfmtl2r.metrics._tf_ranking.Bridged`.

    >>> value, counts = Precision(k=2).per_list([[1.0, 0.0, 1.0]], [[3.0, 2.0, 1.0]], [[True, True, True]])
    >>> float(value[0])
    0.5

    Source: see ``CARD``.
    """

    impl = "PrecisionMetric"
