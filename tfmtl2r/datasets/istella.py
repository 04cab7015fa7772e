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
    "documents. Good for the cost of long lists and for labels of your own made of features. Pitfalls: one task only; "
    "features have no names; some values are the largest double there is, brought to 1e6 here; the full set has no "
    "validation split",
)
__all__ = ["Istella"]

HELD_OUT = 10
"""Where there is no validation split, every so many-th training query makes one."""


@dataclasses.dataclass(frozen=True)
class Istella(LetorOrTfds):
    """Documents of a query, 220 features, judged relevance 0 to 4.

    The full set comes without a validation split: every tenth training query, counted in the order of the file, is
    taken out for it. Istella-S and Istella-X bring their own. Some values are 1.8e308; they become 1e6.

    Args:
        path: a folder with ``train``, ``vali`` and ``test`` as ``.txt``, ``.txt.gz`` or ``.txt.bz2``; without
            ``vali`` it is the full set.
        fold: leave it at 1; there are no folds.
        normalise: zscore, log1p, signed_log1p, quantile_clip or allrank; see ``tfmtl2r.data.normalise``.
        cache_dir: keep the parsed files here; not kept if empty.
        tfds: read tensorflow-datasets' ``istella`` with this configuration, ``main``, ``s`` or ``x``, in place of a
            path.

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
