"""Trivial rankings: rankings without training that every trained ranker must beat."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tfmtl2r.datasets.base import DataSet
from tfmtl2r.evaluation.split_metrics import evaluate
from tfmtl2r.task import Task


def trivial_results(
    dataset: DataSet, split: str, tasks: Iterable[str | Task] | None = None, seed: int = 0
) -> dict[str, dict[str, dict[str, Any]]]:
    """Results of a random order and of the data set's own trivial rankings.

    Args:
        dataset: a data set.
        split: name of the split.
        tasks: names or tasks; None selects the data set's default tasks.
        seed: seed of the random order.

    Returns:
        ranking -> task -> metric -> the fields of a :class:`tfmtl2r.evaluation.Score` as a dictionary.
    """
    lists, chosen = dataset.lists(split), dataset.select(tasks)
    rng = np.random.default_rng(seed)
    scores = {"random": {task.name: rng.random(lists.num_items) for task in chosen}}
    for name, functions in dataset.trivial_scores().items():
        scores[name] = {task.name: functions[task.name](lists) for task in chosen if task.name in functions}
    return {
        name: {
            task: {metric: dict(vars(score)) for metric, score in row.items()}
            for task, row in evaluate(by_task, lists, chosen).items()
        }
        for name, by_task in scores.items()
    }
