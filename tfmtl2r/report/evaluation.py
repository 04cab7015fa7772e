"""Metrics of scores on a split: per list, so that two rankings can be compared list by list."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmtl2r.data import Lists
from tfmtl2r.data.columns import label_values
from tfmtl2r.metrics._base import evaluate as per_list_values
from tfmtl2r.task import Task
from tfmtl2r.training.trackers import metrics_of

_CHUNK = 512  # lists per evaluation: bounds memory, and one shape serves most chunks


@dataclasses.dataclass(frozen=True)
class Score:
    """One metric of one task on one split.

    Args:
        value: the metric.
        lists: how many lists it is a mean over (items, for a metric over all items).
        per_list: ``[lists of the split]``, NaN where a list does not count; None for a metric over all items.
        conventions: what the metric means exactly.
        direction: ``"max"`` or ``"min"``.
    """

    value: float
    lists: int
    per_list: np.ndarray | None
    conventions: dict[str, Any]
    direction: str


def evaluate(
    scores: Mapping[str, np.ndarray], lists: Lists, tasks: Sequence[Task]
) -> dict[str, dict[str, Score]]:
    """Evaluates scores of items against the labels of a split.

    Args:
        scores: task -> ``[N]``, one score per item in the order of ``lists``; tasks without scores are left out.
        lists: the split.
        tasks: what to evaluate, each with its metrics.

    Returns:
        task -> metric -> result.

    Raises:
        ValueError: when the number of scores is not the number of items, or a score is not finite.
    """
    results: dict[str, dict[str, Score]] = {}
    for task in tasks:
        if task.name not in scores:
            continue
        values = np.asarray(scores[task.name], np.float32)
        if values.shape != (lists.num_items,):
            raise ValueError(f"task {task.name!r}: expected {lists.num_items} scores, one per item, got {values.shape}")
        if not np.isfinite(values).all():
            raise ValueError(f"task {task.name!r}: item {int(np.argmin(np.isfinite(values)))} has no finite score")
        labels = label_values(lists, task)
        results[task.name] = {
            metric.label: _score(metric, labels, values, lists) for metric in metrics_of(task, not lists.is_rows)
        }
    return results


def _score(metric: Any, labels: np.ndarray, scores: np.ndarray, lists: Lists) -> Score:
    metric.validate(labels)
    if not metric.per_list_mean:
        return Score(metric.exact(labels, scores), len(labels), None, metric.conventions(), metric.direction)
    sizes = np.ones(lists.num_items, np.int64) if lists.is_rows else lists.sizes
    starts = np.cumsum(sizes) - sizes
    parts, counts = [], []
    for chunk in np.array_split(np.arange(len(sizes)), max(1, -(-len(sizes) // _CHUNK))):
        place = np.arange(sizes[chunk].max())
        valid = place < sizes[chunk][:, None]
        index = np.where(valid, starts[chunk][:, None] + place, 0)
        parts.append(per_list_values(metric, labels[index], scores[index], valid))
        counts.append(metric.per_list(labels[index], scores[index], valid)[1].numpy())
    values, weight = np.concatenate(parts), np.concatenate(counts)
    counted = ~np.isnan(values)
    mean = float(np.average(values[counted], weights=weight[counted])) if counted.any() else float("nan")
    return Score(mean, int(counted.sum()), values, metric.conventions(), metric.direction)


def bootstrap(
    ours: np.ndarray, theirs: np.ndarray, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """The mean difference of two rankings over lists, with a paired percentile interval.

    Lists are drawn with replacement, both rankings on the same lists, so that differences between lists cancel out.

    Args:
        ours, theirs: a metric per list, the same lists; NaN in either leaves the list out.
        level: of the interval.
        draws: bootstrap samples.
        seed: of the draws.

    Returns:
        Mean of ``ours - theirs``, lower and upper end.

    Raises:
        ValueError: for arrays of different lists, or when no list counts in both.

    >>> bootstrap(np.array([1.0, 1.0]), np.array([0.5, 0.5]))
    (0.5, 0.5, 0.5)

    Source: Efron, Bootstrap Methods: Another Look at the Jackknife, 1979, https://doi.org/10.1214/aos/1176344552.
    """
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    if ours.shape != theirs.shape:
        raise ValueError(f"paired values must come from the same lists, got {ours.shape} and {theirs.shape}")
    difference = (ours - theirs)[~np.isnan(ours - theirs)]
    if not len(difference):
        raise ValueError("no list counts in both rankings")
    rng = np.random.default_rng(seed)
    means = np.array([difference[rng.integers(0, len(difference), len(difference))].mean() for _ in range(draws)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(difference.mean()), float(low), float(high)
