"""Checks before training whether the labels of every task can be learnt with its loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfmtl2r.data.columns import label_values
from tfmtl2r.data.lists import Lists
from tfmtl2r.errors import InputError
from tfmtl2r.task import Task
from tfmtl2r.training.readings import Reading, loss_of

__all__ = ["validate_labels"]


def validate_labels(tasks: Sequence[Task], lists: Lists, limit: int | None) -> None:
    """Checks the labels of each task with its loss before training. Errors contain the name of the task.

    Training lists are cut to the limit, if there is one.
    """
    longest = 0 if lists.is_rows else int(lists.sizes.max(initial=0))
    for task in tasks:
        loss, labels = loss_of(task, not lists.is_rows), label_values(lists, task)
        try:
            loss.check_length(min(longest, limit or longest))
            loss.validate(np.asarray(Reading(dataclasses.replace(task, statistics=None), loss).target(labels)))
        except ValueError as error:
            raise InputError(f"task {task.name!r}, column {task.label!r}: {error}") from error
        _validate_presence(task, labels)


def _validate_presence(task: Task, labels: np.ndarray) -> None:
    """Refuses a task from which nothing can be learnt."""
    known = ~np.isnan(labels) if task.kind == "regression" else labels >= 0
    lacking = "label" if not known.any() else ""
    if not lacking and task.kind != "regression" and not (labels[known] > 0).any():
        lacking = f"label above 0 ({int(known.sum())} have the label 0)"
    if lacking:
        raise InputError(f"task {task.name!r}, column {task.label!r}: none of the {len(labels)} items of train has a "
                         f"{lacking}, so that the task cannot be learnt; correct the column, or leave the task out")
