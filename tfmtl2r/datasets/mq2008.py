"""LETOR 4.0 MQ2008: results of the Million Query track with a relevance grade and a judging probability."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfmtl2r.data.labels import labels_from_features
from tfmtl2r.data.lists import Lists
from tfmtl2r.datasets._letor import LetorFolder
from tfmtl2r.datasets.base import Scores
from tfmtl2r.errors import InputError
from tfmtl2r.registry import Card
from tfmtl2r.task import Task

CARD = Card(
    title="LETOR 4.0 MQ2008 (your own copy)",
    paper="Qin and Liu, Introducing LETOR 4.0 Datasets, 2013, https://arxiv.org/abs/1306.2597; "
    "https://www.microsoft.com/en-us/research/project/letor-learning-rank-information-retrieval/",
    note="for research only, not for redistribution; relevance 0-2, TREC's prob, PageRank as an authority label. Good "
    "for small, quick experiments. Pitfalls: a quarter of the lists has no relevant document; prob is the probability "
    "that a document was judged, not a preference of a user; features are scaled per query; 157 test lists are too few "
    "for claims about differences below .01",
)
__all__ = ["MQ2008"]

PAGERANK = 41
BM25 = 25


@dataclasses.dataclass(frozen=True)
class MQ2008(LetorFolder):
    """Lists of the documents of a query, with 46 features.

    The tasks are ``relevance`` (0 to 2), ``prob`` (regression, read from the comment of each row) and ``authority``
    (regression). ``authority`` is PageRank, feature 41, which is therefore not an input.

    Args:
        path: the unpacked folder (``Fold1`` to ``Fold5``), or a folder with ``train``, ``vali`` and ``test``.
        fold: 1 to 5.
        normalise: zscore, log1p, signed_log1p, quantile_clip, rank_gauss or allrank, or several of them side by side,
            by default signed_log1p and rank_gauss; see ``tfmtl2r.data.normalise``.
        cache_dir: folder for caches of the parsed files; empty does not cache.
        within_list, steps, noise: further inputs, see :class:`tfmtl2r.Dense`.

    Raises:
        ValueError: for an option out of its range or a missing path.

    >>> [task.name for task in MQ2008("MQ2008").tasks()]
    ['relevance', 'prob', 'authority']
    """

    num_features: ClassVar[int] = 46
    comments: ClassVar[bool] = True
    source: ClassVar[str] = (
        "get LETOR 4.0 (MQ2008, supervised ranking) from "
        "https://www.microsoft.com/en-us/research/project/letor-learning-rank-information-retrieval/ and unpack it"
    )

    def tasks(self) -> tuple[Task, ...]:
        """Relevance, probability and authority."""
        return (
            Task("relevance", label="label", kind="graded", metrics=("ndcg@10",)),
            Task("prob", kind="regression"),
            Task("authority", kind="regression"),
        )

    def trivial_scores(self) -> dict[str, dict[str, Scores]]:
        """Ranking by BM25 of the whole document (feature 25)."""
        return {"BM25": {"relevance": lambda lists: lists.columns["features"][:, BM25 - 1]}}

    def read(self, split: str) -> Lists:
        lists = self._letor(split)
        if lists.columns.get("prob") is None or lists.columns["prob"].dtype.kind != "f":
            raise InputError(f"{self.file(split)}: expected comments such as #docid = X inc = 1 prob = 0.08 with a "
                             "number as prob; this is not LETOR 4.0's MQ2008")
        return labels_from_features(lists, {"authority": (PAGERANK, "none")})
