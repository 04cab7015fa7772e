"""A conditioned ranker as a curve: one model asked for many preferences."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmtl2r.data.lists import Lists
from tfmtl2r.experiment import score
from tfmtl2r.report.evaluation import Score
from tfmtl2r.training.model import MultiTaskRanker


@dataclasses.dataclass(frozen=True)
class Curve:
    """What one model reaches for each preference.

    Args:
        preferences: ``[N, T]``, each of sum 1.
        points: ``[N, T]``, each task's metric.
        maximise: whether each is to be maximised.
        labels: what each is.
        results: per preference, task -> metric -> score with its values per list.
    """

    preferences: np.ndarray
    points: np.ndarray
    maximise: tuple[bool, ...]
    labels: tuple[str, ...]
    results: tuple[dict[str, dict[str, Score]], ...]


def curve(
    model: MultiTaskRanker, lists: Lists, preferences: Any, metrics: Mapping[str, str] | None = None,
    tasks: Sequence[str] = (), batch_size: int = 256,
) -> Curve:  # fmt: skip
    """Evaluates a conditioned ranker for many preferences.

    Args:
        model: trained with ``conditioned``.
        lists: a split with labels.
        preferences: ``[N, T]``, such as those of :func:`tfmtl2r.pareto.das_dennis`.
        metrics: task -> metric; the first of each task if None.
        tasks: the objectives; all if empty.
        batch_size: lists per batch.

    Raises:
        ValueError: for an ordinary ranker, or preferences that are none.
    """
    preferences = np.atleast_2d(np.asarray(preferences, np.float64))
    results = tuple(score(model, lists, batch_size, preference) for preference in preferences)
    tasks = tuple(tasks) or tuple(task.name for task in model.tasks)
    chosen = {task: (metrics or {}).get(task) or next(iter(results[0][task])) for task in tasks}
    points = np.array([[row[task][metric].value for task, metric in chosen.items()] for row in results])
    return Curve(
        preferences / preferences.sum(axis=1, keepdims=True), points,
        tuple(results[0][task][metric].direction == "max" for task, metric in chosen.items()),
        tuple(f"{task} {metric}" for task, metric in chosen.items()), results,
    )
