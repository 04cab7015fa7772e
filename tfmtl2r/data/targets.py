"""Fits what a task knows about its label: statistics of the training split, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from tfmtl2r.data.columns import item_weights, label_values, raw_labels, read_beside
from tfmtl2r.data.lists import Lists
from tfmtl2r.errors import InputError
from tfmtl2r.task import LabelStatistics, Task
from tfmtl2r.transforms import of_task


def fit_tasks(lists: Lists, tasks: Iterable[Task]) -> tuple[Task, ...]:
    """Returns the tasks with fitted transforms and label statistics, as :func:`tfmtl2r.data.fit_schema` fits features.

    Rows without a label do not count. Rows count with their weight, if a task has a ``weight_column``.

    Args:
        lists: the **training** split.
        tasks: the tasks. Fitted transforms and statistics that they already have stay.

    Raises:
        ValueError: for a missing column, an invalid label or weight, or labels that a transform cannot be fitted on.

    >>> lists = Lists({"dwell": np.array([0.0, 1.0, 3.0, np.nan])})
    >>> [task] = fit_tasks(lists, [Task("dwell", kind="regression", transform={"name": "winsorise", "upper": 0.5})])
    >>> task.transform.edges, round(task.statistics.mean, 4), round(task.statistics.sd, 4)
    ((None, 1.0), 0.6667, 0.4714)
    """
    return tuple(_fitted(lists, task) for task in tasks)


def _fitted(lists: Lists, task: Task) -> Task:
    if (prepared := lists.ready(task.label)) is not None:
        return prepared.fitted(task)
    weights = item_weights(lists, task.name, task.weight_column).astype(np.float64)
    transform = of_task(task)
    if transform is not None:
        labels = raw_labels(lists, task)
        known = ~np.isnan(labels) & (weights > 0)
        if not known.any():
            raise InputError(f"task {task.name!r}, column {task.label!r}: no row of the training split has a label, so "
                             "that its transform cannot be fitted")
        try:
            beside = {name: values[known] for name, values in read_beside(lists, task, transform).items()}
            transform = transform.fit(labels[known], weights[known], beside)
        except InputError as error:
            raise InputError(f"task {task.name!r}, column {task.label!r}: {error}") from error
        task = dataclasses.replace(task, transform=transform)
    if task.statistics is not None:
        return task
    labels = label_values(lists, task).astype(np.float64)
    if task.kind != "regression":
        labels = np.where(labels < 0, np.nan, labels)
    elif transform is not None and transform.reversible:
        labels = transform.apply(labels, {})
        transform.back(labels[:1], {})  # a transform without a way back is found here, not after the training
    known = ~np.isnan(labels) & (weights > 0)
    if not known.any():
        return task
    return dataclasses.replace(task, statistics=statistics(labels[known], weights[known]))


def statistics(labels: np.ndarray, weights: np.ndarray) -> LabelStatistics:
    """Weighted mean and standard deviation of labels without NaN; the latter is 1 for labels that do not vary."""
    mean = float(np.average(labels, weights=weights))
    sd = float(np.sqrt(np.average((labels - mean) ** 2, weights=weights)))
    return LabelStatistics(mean, sd if sd > 1e-6 * abs(mean) else 1.0)
