"""The average of several baselines, whose scores are standardised within the list."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmtl2r import baselines
from tfmtl2r.baselines.base import Baseline, Fitted, Training, standardised
from tfmtl2r.data import Lists
from tfmtl2r.errors import InputError
from tfmtl2r.registry import Card

CARD = Card(
    title="Average of baselines",
    note="the mean of the scores of several tree sets; the reference of ensembles and merged networks",
)
__all__ = ["Average"]


@dataclasses.dataclass(frozen=True)
class Average(Baseline):
    """The mean over baselines of their scores, each standardised within the list: ``mean_b (s_b - mean) / sd``.

    Args:
        of: the baselines, each a name or ``{"name": ..., option: value}``.

    Raises:
        ValueError: for fewer than two baselines.

    >>> Average(of=("lightgbm", "xgboost")).of
    ('lightgbm', 'xgboost')
    """

    of: Sequence[Any] = ("lightgbm", "catboost")

    def __post_init__(self) -> None:
        object.__setattr__(self, "of", tuple(self.of))
        if len(self.of) < 2:
            raise InputError(f"an average needs at least two baselines, not {list(self.of)}")

    def check(self) -> None:
        for member in self.of:
            baselines.get(member).check()

    def fit(self, training: Training) -> Fitted:
        described = [baselines.registry.describe(baselines.get(member)) for member in self.of]
        members = [training.fit(baselines.get(one), one) for one in described]
        scorers = {task.name: _Mean([member.scorers[task.name] for member in members]) for task in training.tasks}
        return Fitted(scorers, chosen={task.name: {member["name"]: found.chosen.get(task.name, {}) for member, found in
                                                   zip(described, members, strict=True)} for task in training.tasks})


@dataclasses.dataclass(frozen=True)
class _Mean:
    """The mean of standardised scores of one task."""

    scorers: Sequence[Any]

    def __call__(self, lists: Lists) -> np.ndarray:
        return np.mean([standardised(scorer(lists), lists) for scorer in self.scorers], axis=0)
