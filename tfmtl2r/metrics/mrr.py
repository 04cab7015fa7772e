"""Mean reciprocal rank."""

from __future__ import annotations

import dataclasses

from tfmtl2r.metrics._tf_ranking import Bridged
from tfmtl2r.registry import Card

CARD = Card(
    title="MRR",
    paper="Voorhees, The TREC-8 Question Answering Track Report, 1999, https://trec.nist.gov/pubs/trec8/t8_proceedings.html",
    note="depends on the first relevant item only",
)
__all__ = ["MRR"]


@dataclasses.dataclass(frozen=True)
class MRR(Bridged):
    """One over the rank of the first relevant item (0 if this rank is beyond k), averaged over lists.

    Args: ``k``, ``empty`` and ``above``, see :class:`~tfmtl2r.metrics._tf_ranking.Bridged`.

    >>> value, counts = MRR().per_list([[1.0, 0.0]], [[0.0, 1.0]], [[True, True]])
    >>> float(value[0]), float(counts[0])
    (0.5, 1.0)

    Source: see ``CARD``.
    """

    impl = "MRRMetric"
