"""The curve of one ranker for many preferences: of the ranking that it serves, or of its own heads if conditioned."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tfmtl2r.data.lists import Lists
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.blend_choice import served_orders
from tfmtl2r.evaluation.scoring import score_along
from tfmtl2r.evaluation.served import ranking_metric, score_order
from tfmtl2r.evaluation.split_metrics import Score
from tfmtl2r.preferences import normalised, scaled
from tfmtl2r.task import Task
from tfmtl2r.training.blending import default_of
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
    preferences = _checked(preferences)
    chosen = _chosen(model.tasks, not lists.is_rows, tasks, metrics or {})
    return _curve(preferences, chosen, tuple(score_along(model, lists, preferences, batch_size)))


def served_curve(
    model: MultiTaskRanker, lists: Lists, preferences: Array, tasks: Sequence[str] = (), batch_size: int = 256
) -> Curve:
    """Evaluates the ranking that a ranker serves at many preferences, conditioned or not.

    The ranker orders each list once per preference by its kind of blend, and every task is measured on this order.

    Args:
        model: a trained ranker of lists.
        lists: a split with labels.
        preferences: ``[N, T]``.
        tasks: tasks whose metrics are the objectives; all tasks if empty. Each has the first of its metrics that reads
            an order.
        batch_size: lists per batch.

    Raises:
        ValueError: for plain rows, an invalid preference, or a task that the ranker does not have.
    """
    preferences = np.stack([normalised(each, model.tasks) for each in _checked(preferences)])
    known = [task.name for task in model.tasks]
    if unknown := [task for task in tasks if task not in known]:
        raise InputError(f"the ranker has no task {unknown[0]!r}; its tasks: {', '.join(known)}")
    (orders,) = served_orders(model, [default_of(model)], lists, preferences, batch_size)
    results = tuple(score_order(order, lists, model.tasks) for order in orders)
    return _curve(preferences, {task: ranking_metric(model.tasks[known.index(task)]).label
                                for task in tasks or known}, results)


def _checked(preferences: Array) -> np.ndarray:
    rows = np.atleast_2d(np.asarray(preferences, np.float64))
    if not len(rows):
        raise InputError("a curve needs at least one preference")
    return rows


def _curve(preferences: np.ndarray, chosen: dict[str, str], results: tuple[dict[str, dict[str, Score]], ...]) -> Curve:
    """The curve of a metric of each task."""
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
