"""Checks before training whether the number that early stopping looks at exists and has a value."""

from __future__ import annotations

import numpy as np

from tfmtl2r.data import Lists
from tfmtl2r.data.columns import label_values
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.split_metrics import of_metric
from tfmtl2r.metrics.base import Metric
from tfmtl2r.names import STOP_ON, LogName, did_you_mean
from tfmtl2r.task import Task
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.training.trackers import directions, metrics_of


def check_stop_on(model: MultiTaskRanker, vali: Lists, stop_on: str | None = None) -> None:
    """Refuses early stopping on a number that does not exist, or that has no value on the validation split.

    Whether a metric has a value depends on the labels alone.

    Args:
        model: a compiled ranker.
        vali: the validation split.
        stop_on: the name of a logged number; None for the mean of the gains.

    Raises:
        ValueError: for an unknown name (the message contains the most similar), or a number without a value.
    """
    metrics = {(task.name, metric.label): (task, metric)
               for task in model.tasks for metric in metrics_of(task, not vali.is_rows)}
    if stop_on is not None:
        names = [f"val_{name}" for name in directions(model.tasks, not vali.is_rows)]
        if stop_on not in names:
            raise InputError(f"training.stop_on is {stop_on!r}, which is no logged number of the validation"
                             f"{did_you_mean(stop_on, names)}; these are {', '.join(names)}")
        chosen = [pair for (task, label), pair in metrics.items()
                  if str(LogName(label, task, validation=True)) == stop_on]
        if any(np.isnan(of_metric(metric, vali, task).value) for task, metric in chosen):
            raise InputError(f"training.stop_on is {stop_on!r}, which has no value on vali, whose labels are missing "
                             "or all the same: choose another number")
        if any(not metric.direction for _, metric in chosen):
            raise InputError(f"training.stop_on is {stop_on!r}, which has no better side: choose another number")
        if stop_on != str(LogName(STOP_ON, validation=True)):
            return
    shares = zip(model.tasks, np.asarray(model.preference), strict=True)
    first = {task.name: next(pair for (name, _), pair in metrics.items() if name == task.name)
             for task, share in shares if share > 0 and any(name == task.name for name, _ in metrics)}
    if first and not any(has_gain(metric, vali, task) for task, metric in first.values()):
        if level := [f"{metric.label} of {task.name}" for task, metric in first.values()
                     if isinstance(metric.trivial(), float) and metric.trivial() == metric.perfect()]:
            raise InputError(f"early stopping looks at the gain of each task's first metric, and {level[0]} has none: "
                             "the base rate for all items is perfect for it. Put another metric first, or set "
                             "training.patience to 0")
        raise InputError(f"no metric of {', '.join(first)} has a value on vali, whose labels are missing or all "
                         "the same: early stopping has nothing to look at; set patience to 0, or use another vali "
                         "split")


def has_gain(metric: Metric, lists: Lists, task: Task) -> bool:
    """Whether the trivial and the perfect value of a metric differ for the labels of a task."""
    trivial, perfect = _bounds(metric, lists, task)
    if not np.isfinite(of_metric(metric, lists, task).value):
        return False
    return bool(abs(perfect - trivial) > 1e-6 * abs(trivial))


def gain(metric: Metric, lists: Lists, task: Task, value: float) -> float:
    """``(m - m_trivial) / (m_perfect - m_trivial)`` of a value m of a metric; NaN where the labels leave no room."""
    trivial, perfect = _bounds(metric, lists, task)
    room = perfect - trivial
    return float((value - trivial) / room) if abs(room) > 1e-6 * abs(trivial) else float("nan")


def _bounds(metric: Metric, lists: Lists, task: Task) -> tuple[float, float]:
    """The trivial and the perfect value of a metric for the labels of a task."""
    labels = np.nan_to_num(label_values(lists, task))
    trivial, perfect = (bound if isinstance(bound, float) else of_metric(bound, lists, task, scores).value
                        for bound, scores in ((metric.trivial(), None), (metric.perfect(), labels)))
    return trivial, perfect
