"""What a trained ranker serves at many preferences, for its run card: points in objective space, and served utility."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfmtl2r.data import Lists
from tfmtl2r.evaluation.blend_choice import Scored
from tfmtl2r.evaluation.served import as_numbers, metrics_along, ranking_metric, utility_of, values_along
from tfmtl2r.preferences import corners, scaled, suited, usual_grid
from tfmtl2r.training.blending import default_of, described
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.types import Array


def served_results(
    model: MultiTaskRanker, splits: Mapping[str, Lists], preferences: Array | None = None, batch_size: int = 256
) -> dict[str, Any]:
    """Measures every task on the one order that the ranker serves at each preference.

    Args:
        model: a trained ranker.
        splits: split -> its lists.
        preferences: ``[N, T]``; by default :func:`tfmtl2r.preferences.usual_grid`.
        batch_size: lists per batch.

    Returns:
        ``kind``, the ranker's kind of blend; ``points``, first at the ranker's own preference and then at all
        preferences, each ``{"preference": [...], split: task -> metric -> value}``; and ``utility``: split -> served
        utility over the grid of corners, its null, gain and error. Empty for plain rows and a single task.
    """
    tasks = model.tasks
    if len(tasks) < 2 or any(lists.is_rows for lists in splits.values()):
        return {}
    rows = usual_grid(len(tasks)) if preferences is None else scaled(preferences)
    asked = np.concatenate([scaled(np.asarray(model.preference))[None], suited(rows, model.method)])
    grid, equal = corners(len(tasks)), np.full((1, len(tasks)), 1 / len(tasks))
    points: list[dict[str, Any]] = [{"preference": preference.tolist()} for preference in asked]
    utility = {}
    for split, lists in splits.items():
        every = np.concatenate([asked, grid, equal])
        (orders,) = Scored(model, lists, batch_size).orders([default_of(model)], every)
        for task in tasks:
            metric = ranking_metric(task)
            values, counts = values_along(orders[:len(asked)], lists, task, metric)
            for point, value in zip(points, values, strict=True):
                known = ~np.isnan(value) & (counts > 0)
                mean = float(np.average(value[known], weights=counts[known])) if known.any() else float("nan")
                point.setdefault(split, {})[task.name] = {metric.label: mean}
        along, counts = metrics_along(orders[len(asked):], lists, tasks)
        utility[split] = as_numbers(utility_of(along[:-1], along[-1:], counts, grid))
    return {"kind": described(default_of(model)), "points": points, "utility": utility}
