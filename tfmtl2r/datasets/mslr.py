"""MSLR-WEB10K and MSLR-WEB30K: web search results with a relevance grade, two quality scores, clicks and dwell time."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from tfmtl2r.data.labels import Grade, Invert, LogGrade, Transform, labels_from_features
from tfmtl2r.data.lists import Lists
from tfmtl2r.datasets._letor import LetorOrTfds
from tfmtl2r.datasets.base import Scores
from tfmtl2r.errors import InputError
from tfmtl2r.registry import Card
from tfmtl2r.task import Task

CARD = Card(
    title="MSLR-WEB10K / MSLR-WEB30K (your own copy)",
    paper="Qin and Liu, Introducing LETOR 4.0 Datasets, 2013, https://arxiv.org/abs/1306.2597; "
    "https://www.microsoft.com/en-us/research/project/mslr/",
    note="Microsoft research licence, not for redistribution; relevance 0-4, and graded quality, clicks and dwell made "
    "from features 132-136, which are then no inputs. Good for comparing rankers on web search. Pitfalls: clicks are "
    "0 in 96 % of rows, so the choice of 'skip' or 'zero' for empty lists changes NDCG by half; feature 135 reveals "
    "134 and 136; a raw count is not a grade; with a few dozen test lists (a slice) NDCG has a standard error of .03",
)
__all__ = ["MSLR"]

TARGETS = {"relevance": 0, "quality": 132, "quality2": 133, "clicks": 134, "dwell": 136}
ENGAGEMENT = (134, 135, 136)
BM25 = 110
QUALITY_GRADES = Grade((3, 10, 50, 100))
RECIPES: dict[str, dict[str, Transform]] = {
    "graded": {"quality": QUALITY_GRADES, "quality2": QUALITY_GRADES, "clicks": LogGrade(), "dwell": LogGrade(1.2)},
    "raw": dict.fromkeys(("quality", "quality2", "clicks", "dwell"), "none"),
    "deepmtl2r": {"quality": Invert(255.0), "quality2": Invert(255.0), "clicks": "none", "dwell": "none"},
}
LINEAR = ({"name": "ndcg", "k": 10, "gain": "linear"},)


@dataclasses.dataclass(frozen=True)
class MSLR(LetorOrTfds):
    """Lists of the documents of a query, with 136 features: judged relevance, and up to four labels made from features.

    The possible tasks are ``relevance`` (0 to 4), ``quality`` (feature 132), ``quality2`` (133), ``clicks`` (134) and
    ``dwell`` (136). A feature that becomes a label is not an input. With clicks or dwell, features 134, 135 and 136 are
    no inputs, because 135 reveals the other two. With ``targets=("relevance",)`` all 136 features are inputs.

    Args:
        path: the unpacked folder (``Fold1`` to ``Fold5``), or a folder with ``train``, ``vali`` and ``test`` as
            ``.txt``, ``.txt.gz`` or ``.txt.bz2``.
        fold: 1 to 5.
        normalise: zscore, log1p, signed_log1p, quantile_clip, rank_gauss or allrank, or several of them side by side,
            by default signed_log1p and rank_gauss; see ``tfmtl2r.data.normalise``.
        cache_dir: folder for caches of the parsed files; empty does not cache.
        within_list, steps, noise: further inputs, see :class:`tfmtl2r.Dense`.
        tfds: configuration of ``mslr_web`` in tensorflow-datasets, for example ``10k_fold1``, used in place of a path.
        targets: the tasks of the data set.
        labels: ``graded`` makes all labels 0 to 4: 132 and 133 by the edges 3, 10, 50, 100; 134 as
            ``min(4, ceil(log1p(c)))``; 136 as ``min(4, ceil(log1p(c) / 1.2))``. ``raw`` keeps the values of the file,
            for regression. ``deepmtl2r`` is the protocol of DeepMTL2R and its predecessors: 255 - 132, 255 - 133, and
            raw 134 and 136, with softmax loss and linear gain.

    Raises:
        ValueError: for an option out of its range, or neither a path nor a configuration.

    Differs from the authors' code: DeepMTL2R keeps feature 135 as an input.

    >>> data = MSLR("MSLR-WEB30K", targets=("relevance", "clicks"))
    >>> [(task.name, task.label, task.kind) for task in data.tasks()]
    [('relevance', 'label', 'graded'), ('clicks', 'clicks', 'graded')]
    """

    num_features: ClassVar[int] = 136
    tfds_name: ClassVar[str] = "mslr_web"
    source: ClassVar[str] = (
        "get MSLR-WEB10K or MSLR-WEB30K from https://www.microsoft.com/en-us/research/project/mslr/ and unpack it"
    )

    targets: tuple[str, ...] = tuple(TARGETS)
    labels: str = "graded"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "targets", tuple(self.targets))
        unknown = [target for target in self.targets if target not in TARGETS]
        if unknown or not self.targets or len(set(self.targets)) < len(self.targets):
            raise InputError(f"targets must be one or more different names of {', '.join(TARGETS)}, not {self.targets}")
        if self.labels not in RECIPES:
            raise InputError(f"labels must be one of {', '.join(RECIPES)}, not {self.labels!r}")

    def tasks(self) -> tuple[Task, ...]:
        """The targets, with NDCG@10."""
        return tuple(self._task(name) for name in self.targets)

    def trivial_scores(self) -> dict[str, dict[str, Scores]]:
        """Ranking by BM25 of the whole document (feature 110)."""
        return {"BM25": {"relevance": lambda lists: lists.columns["features"][:, BM25 - 1]}}

    def _task(self, name: str) -> Task:
        if name == "relevance":
            return Task(name, label="label", kind="graded", metrics=("ndcg@10",))
        if self.labels == "graded":
            return Task(name, kind="graded", metrics=("ndcg@10",))
        loss: Any = "softmax" if self.labels == "deepmtl2r" else None
        return Task(name, kind="regression", loss=loss, metrics=LINEAR)

    def read(self, split: str) -> Lists:
        lists = self._split(split)
        recipe = RECIPES[self.labels]
        labels = {name: (TARGETS[name], recipe[name]) for name in self.targets if name in recipe}
        leave = ENGAGEMENT if {"clicks", "dwell"} & set(labels) else ()
        return labels_from_features(lists, labels, leave=leave)
