"""LETOR 3.0 OHSUMED: medical abstracts, possibly or definitely relevant to a query."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from tfmtl2r.data.lists import Lists
from tfmtl2r.datasets._letor import LetorFolder
from tfmtl2r.registry import Card
from tfmtl2r.task import Task

CARD = Card(
    title="LETOR 3.0 OHSUMED (your own copy)",
    paper="Qin et al., LETOR: A Benchmark Collection for Research on Learning to Rank, Information Retrieval 13, 2010, "
    "https://doi.org/10.1007/s10791-009-9123-y; "
    "https://www.microsoft.com/en-us/research/project/letor-learning-rank-information-retrieval/",
    note="for research only, not for redistribution; two ordered binary tasks, relevance >= 1 and relevance = 2. Good "
    "for showing tasks that agree. Pitfalls: 106 queries in all, about 20 in a test fold, far too few for a claim; "
    "the second task is a subset of the first, so there is no conflict to balance",
)
__all__ = ["OHSUMED"]


@dataclasses.dataclass(frozen=True)
class OHSUMED(LetorFolder):
    """Abstracts for a query, 45 features: at least possibly relevant, definitely relevant.

    Args:
        path: the unpacked folder (``Fold1`` to ``Fold5``), or one with ``train``, ``vali`` and ``test`` (also
            ``trainingset``, ``validationset`` and ``testset``).
        fold: 1 to 5.
        normalise: zscore, log1p, signed_log1p, quantile_clip or allrank.
        cache_dir: keep the parsed files here; not kept if empty.

    Raises:
        ValueError: for an option out of its range or a missing path.

    >>> [task.name for task in OHSUMED("OHSUMED").tasks()]
    ['relevant', 'definitely_relevant']
    """

    num_features: ClassVar[int] = 45
    source: ClassVar[str] = (
        "get LETOR 3.0 (OHSUMED, QueryLevelNorm) from "
        "https://www.microsoft.com/en-us/research/project/letor-learning-rank-information-retrieval/ and unpack it"
    )

    def tasks(self) -> tuple[Task, ...]:
        """Relevance at least 1, relevance 2."""
        return (
            Task("relevant", kind="binary", metrics=("ndcg@10", "auc")),
            Task("definitely_relevant", kind="binary", metrics=("ndcg@10", "auc")),
        )

    def read(self, split: str) -> Lists:
        lists = self._letor(split)
        grade = lists.columns["label"]
        lists = lists.with_column("relevant", (grade >= 1).astype(np.float32))
        return lists.with_column("definitely_relevant", (grade >= 2).astype(np.float32))
