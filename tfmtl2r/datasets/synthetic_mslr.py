"""Synthetic lists shaped like those of MSLR, with graded labels for several tasks and an adjustable conflict."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfmtl2r.data.lists import Lists
from tfmtl2r.data.synthetic import grade, latent_lists
from tfmtl2r.datasets.base import DataSet
from tfmtl2r.errors import InputError
from tfmtl2r.registry import Card
from tfmtl2r.task import Task

CARD = Card(
    title="Synthetic lists shaped like MSLR-WEB, with conflicting tasks",
    note="136 features, 10 to 337 items per list, grades 0 to 4 as frequent as in MSLR; conflict is an option",
)
__all__ = ["SyntheticMSLR"]


@dataclasses.dataclass(frozen=True)
class SyntheticMSLR(DataSet):
    """Lists with one feature vector per item and a grade per task; formulas: :mod:`tfmtl2r.data.synthetic`.

    Args:
        num_lists: number of training lists; vali and test each have a quarter of it.
        num_tasks: number of tasks T.
        num_features: length of the feature vector.
        conflict: from 0 (all tasks have the same labels) to 1 (the tasks have as little in common as T tasks can).
        max_length: length of the longest list.
        seed: seed of all random numbers.

    Raises:
        ValueError: for a number out of its range.

    >>> lists = SyntheticMSLR(num_lists=8, max_length=20).lists("train")
    >>> lists.num_lists, lists.columns["features"].shape[1], int(lists.sizes.max())
    (8, 136, 20)
    """

    num_lists: int = 400
    num_tasks: int = 5
    num_features: int = 136
    conflict: float = 0.5
    max_length: int = 337
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_lists < 4:
            raise InputError(f"num_lists must be at least 4, not {self.num_lists}")
        if self.num_tasks < 1:
            raise InputError(f"num_tasks must be at least 1, not {self.num_tasks}")
        if self.max_length < 1:
            raise InputError(f"max_length must be at least 1, not {self.max_length}")

    def tasks(self) -> tuple[Task, ...]:
        """``task_1`` to ``task_T``, all graded."""
        return tuple(Task(f"task_{t + 1}", f"label_{t + 1}", "graded") for t in range(self.num_tasks))

    def read(self, split: str) -> Lists:
        lists, utility = self._latent(split)
        # The thresholds come from the training split, so that a grade means the same utility in every split.
        reference = utility if split == "train" else self._latent("train")[1]
        grades = grade(utility, reference)
        for t in range(self.num_tasks):
            lists = lists.with_column(f"label_{t + 1}", grades[:, t])
        return lists

    def _latent(self, split: str) -> tuple[Lists, np.ndarray]:
        count = self.num_lists if split == "train" else self.num_lists // 4
        return latent_lists(count, num_tasks=self.num_tasks, features=self.num_features, conflict=self.conflict,
                            max_length=self.max_length, seed=self.seed, split=split)
