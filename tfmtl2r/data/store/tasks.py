"""Tasks in a manifest: what decides about their labels, and what was fitted on the training split."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from tfmtl2r import transforms
from tfmtl2r.task import LabelStatistics, Task


def described(task: Task) -> dict[str, Any]:
    """What decides about the labels of a task, as JSON holds it."""
    transform = None if task.transform is None else transforms.registry.describe(transforms.get(task.transform))
    found = {"label": task.label, "kind": task.kind, "only_where": [dict(rule) for rule in task.only_where],
             "transform": transform, "weight_column": task.weight_column}
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def recorded(task: Task, fitted: Task) -> dict[str, Any]:
    """A task for a manifest.

    Args:
        task: the task as it was given.
        fitted: the task with its statistics.
    """
    statistics = None if fitted.statistics is None else dataclasses.asdict(fitted.statistics)
    return {**described(task), "fitted": described(fitted)["transform"], "statistics": statistics}


def with_statistics(task: Task, record: dict[str, Any]) -> Task:
    """The task with the transform and the statistics of a manifest; statistics that it has stay."""
    found = dataclasses.replace(task, transform=record["fitted"]) if record["fitted"] is not None else task
    if task.statistics is None and record["statistics"] is not None:
        found = dataclasses.replace(found, statistics=LabelStatistics(**record["statistics"]))
    return found
