"""LETOR 3.0 OHSUMED: medical abstracts that are possibly or definitely relevant to a query."""

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
    "for showing tasks that agree. Pitfalls: 106 queries in all and about 20 in a test fold are far too few for a "
    "claim; the positives of the second task are a subset of those of the first, so there is no conflict to balance",
)
__all__ = ["OHSUMED"]


@dataclasses.dataclass(frozen=True)
class OHSUMED(LetorFolder):
    """Lists of the abstracts for a query, with 45 features and two tasks: at least possibly, and definitely relevant.

    Args:
        path: the unpacked folder (``Fold1`` to ``Fold5``), or a folder with ``train``, ``vali`` and ``test`` (or
            ``trainingset``, ``validationset`` and ``testset``).
        fold: 1 to 5.
        normalise: zscore, log1p, signed_log1p, quantile_clip, rank_gauss or allrank, or several of them side by side,
            by default signed_log1p and rank_gauss; see ``tfmtl2r.data.normalise``.
        cache_dir: folder for caches of the parsed files; empty does not cache.
        within_list, steps, noise: further inputs, see :class:`tfmtl2r.Dense`.

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
        """``relevant`` (relevance 1 or 2) and ``definitely_relevant`` (relevance 2)."""
        return (
            Task("relevant", kind="binary", metrics=("ndcg@10", "auc")),
            Task("definitely_relevant", kind="binary", metrics=("ndcg@10", "auc")),
        )

    def read(self, split: str) -> Lists:
        lists = self._letor(split)
        grade = lists.columns["label"]
        lists = lists.with_column("relevant", (grade >= 1).astype(np.float32))
        return lists.with_column("definitely_relevant", (grade >= 2).astype(np.float32))
