"""Istella LETOR: web search results of an Italian engine with a relevance grade, 220 features."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from tfmtl2r.data.lists import Lists
from tfmtl2r.datasets._letor import LetorOrTfds
from tfmtl2r.registry import Card
from tfmtl2r.task import Task

CARD = Card(
    title="Istella LETOR, full, S or X (your own copy)",
    paper="Dato et al., Fast Ranking with Additive Ensembles of Oblivious and Non-Oblivious Regression Trees, "
    "ACM TOIS 35(2), 2016, https://doi.org/10.1145/2987380; https://istella.ai/data/",
    note="Istella's research licence, not for redistribution; one judged relevance 0-4, 33,018 queries with about 315 "
    "documents each. Good for measuring the cost of long lists, and for making your own labels from features. "
    "Pitfalls: there is only one task; features have no names; some values are the largest double and are clipped to "
    "1e6 here; the full set has no validation split",
)
__all__ = ["Istella"]

HELD_OUT = 10
"""If there is no validation split, every tenth training query is taken for it."""


@dataclasses.dataclass(frozen=True)
class Istella(LetorOrTfds):
    """Lists of the documents of a query, with 220 features and judged relevance 0 to 4.

    The full set has no validation split. Every tenth training query, in the order of the file, is moved to it.
    Istella-S and Istella-X have their own validation split. Some values are 1.8e308; they are clipped to 1e6.

    Args:
        path: a folder with ``train``, ``vali`` and ``test`` as ``.txt``, ``.txt.gz`` or ``.txt.bz2``; a folder without
            ``vali`` contains the full set.
        fold: must be 1; there are no folds.
        normalise: zscore, log1p, signed_log1p, quantile_clip, rank_gauss or allrank, or several of them side by side,
            by default signed_log1p and rank_gauss; see ``tfmtl2r.data.normalise``.
        cache_dir: folder for caches of the parsed files; empty does not cache.
        within_list, steps, noise: further inputs, see :class:`tfmtl2r.Dense`.
        tfds: configuration ``main``, ``s`` or ``x`` of ``istella`` in tensorflow-datasets, used in place of a path.

    Raises:
        ValueError: for an option out of its range, or neither a path nor a configuration.

    >>> [(task.name, task.kind) for task in Istella("istella-s").tasks()]
    [('relevance', 'graded')]
    """

    num_features: ClassVar[int] = 220
    tfds_name: ClassVar[str] = "istella"
    clip: ClassVar[float | None] = 1e6
    source: ClassVar[str] = "get Istella LETOR from https://istella.ai/data/ and unpack it"

    def tasks(self) -> tuple[Task, ...]:
        """Relevance, with NDCG@10."""
        return (Task("relevance", label="label", kind="graded", metrics=("ndcg@10",)),)

    def read(self, split: str) -> Lists:
        if split == "test" or self._has_vali():
            return self._split(split)
        if "whole" not in self._cache:
            self._cache["whole"] = self._split("train")
        lists = self._cache["whole"]
        held_out = np.arange(lists.num_lists) % HELD_OUT == HELD_OUT - 1
        return lists.select(np.flatnonzero(held_out if split == "vali" else ~held_out))

    def _has_vali(self) -> bool:
        if self.tfds:
            return self.tfds != "main"
        try:
            self.file("vali")
        except FileNotFoundError:
            return not self.file("train").is_file()
        return True
