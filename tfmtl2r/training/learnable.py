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
        loss, known, positive = loss_of(task, not lists.is_rows), 0, 0
        reading = Reading(dataclasses.replace(task, statistics=None), loss)
        for part in lists.parts():
            labels = label_values(part, task)
            try:
                loss.check_length(min(longest, limit or longest))
                loss.validate(np.asarray(reading.target(labels)))
            except ValueError as error:
                raise InputError(f"task {task.name!r}, column {task.label!r}: {error}") from error
            there = ~np.isnan(labels) if task.kind == "regression" else labels >= 0
            known, positive = known + int(there.sum()), positive + int((labels[there] > 0).sum())
        _validate_presence(task, lists.num_items, known, positive)


def _validate_presence(task: Task, items: int, known: int, positive: int) -> None:
    """Refuses a task from which nothing can be learnt."""
    lacking = "" if known else "label"
    if known and task.kind != "regression" and not positive:
        lacking = f"label above 0 ({known} have the label 0)"
    if lacking:
        raise InputError(f"task {task.name!r}, column {task.label!r}: none of the {items} items of train has a "
                         f"{lacking}, so that the task cannot be learnt; correct the column, or leave the task out")
