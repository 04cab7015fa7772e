"""The curve of a conditioned ranker: one model evaluated for many preferences."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tfmtl2r.data.lists import Lists
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.scoring import score_along
from tfmtl2r.evaluation.split_metrics import Score
from tfmtl2r.preferences import scaled
from tfmtl2r.task import Task
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.training.trackers import metrics_of
from tfmtl2r.types import Array


@dataclasses.dataclass(frozen=True)
class Curve:
    """Results of one model for each preference. Plots, choices and indicators accept a curve in place of runs.

    Args:
        preferences: ``[N, T]``; each row has the sum 1.
        values: ``[N, T]``, one metric of each task.
        maximise: whether each metric is maximised.
        labels: label of each metric.
        results: for each preference, task -> metric -> score with its values per list.
    """

    preferences: np.ndarray
    values: np.ndarray
    maximise: tuple[bool, ...]
    labels: tuple[str, ...]
    results: tuple[dict[str, dict[str, Score]], ...] = ()

    @property
    def seeds(self) -> np.ndarray:
        """Zeros, ``int[N]``: all points belong to the same front."""
        return np.zeros(len(self.values), int)


def curve(
    model: MultiTaskRanker, lists: Lists, preferences: Array, metrics: Mapping[str, str] | None = None,
    tasks: Sequence[str] = (), batch_size: int = 256,
) -> Curve:  # fmt: skip
    """Evaluates a conditioned ranker for many preferences.

    Args:
        model: a ranker trained with ``conditioned``.
        lists: a split with labels.
        preferences: ``[N, T]``, for example from :func:`tfmtl2r.pareto.das_dennis`.
        metrics: task -> metric; None selects the first metric of each task.
        tasks: tasks whose metrics are the objectives; all tasks if empty.
        batch_size: lists per batch.

    Raises:
        ValueError: when the ranker is not conditioned, a preference is invalid, or the ranker does not have a task or
            metric.
    """
    preferences = np.atleast_2d(np.asarray(preferences, np.float64))
    if not len(preferences):
        raise InputError("a curve needs at least one preference")
    chosen = _chosen(model.tasks, not lists.is_rows, tasks, metrics or {})
    results = tuple(score_along(model, lists, preferences, batch_size))
    valued = {task: metric for task, metric in chosen.items()
              if not all(np.isnan(row[task][metric].value) for row in results)}
    chosen = valued or chosen  # as in tfmtl2r.runs.finished.objectives
    first = [results[0][task][metric] for task, metric in chosen.items()]
    return Curve(
        scaled(preferences),
        np.array([[row[task][metric].value for task, metric in chosen.items()] for row in results]),
        tuple(found.direction == "max" for found in first),
        tuple(f"{task} {metric}" for task, metric in chosen.items()), results,
    )


def _chosen(
    known: Sequence[Task], lists: bool, tasks: Sequence[str], metrics: Mapping[str, str]
) -> dict[str, str]:
    """Returns task -> metric, checked before the evaluation."""
    labels = {task.name: [metric.label for metric in metrics_of(task, lists) if metric.direction] for task in known}
    for task in (*tasks, *metrics):
        if task not in labels:
            raise InputError(f"the ranker has no task {task!r}; its tasks: {', '.join(labels)}")
    chosen = {}
    for task in tasks or labels:
        chosen[task] = metrics.get(task) or next(iter(labels[task]), "")
        if chosen[task] not in labels[task]:
            raise InputError(f"task {task!r} has no metric {chosen[task]!r}; its metrics: "
                             f"{', '.join(labels[task]) or 'none'}")
    return chosen
