"""Recall at a cutoff."""

from __future__ import annotations

import dataclasses

from tfmtl2r.metrics._tf_ranking import Bridged
from tfmtl2r.registry import Card

CARD = Card(
    title="Recall",
    paper="van Rijsbergen, Information Retrieval, 1979, https://www.dcs.gla.ac.uk/Keith/Preface.html",
    note="without a cutoff it is 1 for every list",
)
__all__ = ["Recall"]


@dataclasses.dataclass(frozen=True)
class Recall(Bridged):
    """The share of a list's relevant items that are among the first k, averaged over lists.

    Args: ``k``, ``empty`` and ``above``, see :class:`~tfmtl2r.metrics._tf_ranking.Bridged`.

    >>> value, counts = Recall(k=2).per_list([[1.0, 0.0, 1.0]], [[3.0, 2.0, 1.0]], [[True, True, True]])
    >>> float(value[0])
    0.5

    Source: see ``CARD``.
    """

    impl = "RecallMetric"
