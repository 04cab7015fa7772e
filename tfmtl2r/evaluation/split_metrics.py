"""Metrics of scores on a split, with values per list, so that two rankings can be compared list by list."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmtl2r.data import Lists
from tfmtl2r.data.columns import bounded, item_weights, label_values
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation import click_estimates
from tfmtl2r.metrics.base import Metric
from tfmtl2r.task import Task
from tfmtl2r.training.trackers import metrics_of

COUNTS = "counts/"
"""Prefix of the arrays in ``per_list.npz`` that contain how many times each list counts."""
WITHOUT = "without/"
"""Prefix of the arrays in ``per_list.npz`` that contain a metric over all items without a tenth of the lists each."""
GROUPS = 10
ORDER = "order/"
"""Prefix of the digests in ``per_list.npz`` of the order of the lists."""
_CHUNK = 512  # lists per evaluation; bounds memory, and most chunks have the same shape


@dataclasses.dataclass(frozen=True)
class Score:
    """One metric of one task on one split.

    Args:
        value: the value of the metric.
        num_lists: number of lists in the mean; for a metric over all items, the number of items.
        per_list: ``[lists of the split]``, NaN for a list that does not count; None for a metric over all items.
        counts: ``[lists of the split]``, how many times each list counts in the mean; None for a metric over all items.
        conventions: the exact definition of the metric: its gain, ties, empty lists and so on.
        direction: ``"max"`` or ``"min"``; empty for a metric without a better side.
        if_calibrated: what a perfectly calibrated model with the same scores would show; None for most metrics.
        without: ``[GROUPS]``, the value without the lists of a group each, for standard errors of a metric over all
            items; None if they were not asked for, or the split has fewer lists than groups.
    """

    value: float
    num_lists: int
    per_list: np.ndarray | None
    counts: np.ndarray | None
    conventions: dict[str, Any]
    direction: str
    if_calibrated: float | None = None
    without: np.ndarray | None = None

    @property
    def beside(self) -> dict[str, float]:
        """``{"if_calibrated": ...}`` for a metric that has it."""
        return {} if self.if_calibrated is None else {"if_calibrated": self.if_calibrated}


def evaluate(
    scores: Mapping[str, np.ndarray], lists: Lists, tasks: Sequence[Task], weights: Mapping[str, str] | None = None,
    propensity_weights: Mapping[str, str] | None = None, tau: float | None = None,
    values: Mapping[str, np.ndarray] | None = None, levels: Mapping[str, np.ndarray] | None = None,
    jackknife: bool = False,
) -> dict[str, dict[str, Score]]:
    """Evaluates scores of items against the labels of a split.

    Args:
        scores: task -> ``[N]``, one score per item in the order of ``lists``.
        lists: the split.
        tasks: the tasks to evaluate, each with its metrics; a task without scores is left out.
        weights: task -> column of importance weights, as in :func:`tfmtl2r.data.batches`; by default the task's
            ``weight_column``.
        propensity_weights: task -> column of inverse propensities of a task of clicks, as in
            :func:`tfmtl2r.data.batches`; by default the ``propensity_column`` of a binary task in lists. The results
            then also contain estimates from weighted clicks, such as ``ips_ndcg@5`` and ``snips_ndcg@5``
            (:mod:`tfmtl2r.evaluation.click_estimates`).
        tau: inverse propensities above ``1 / tau`` count as ``1 / tau``; by default the task's ``tau``.
        values: task -> ``[N]``, the values of the scores in the label's unit, for metrics that read them; by default
            the scores.
        levels: task -> ``[N]``, the same for the tasks whose values are known, such as probabilities. Metrics that read
            a level are NaN for other tasks; without ``levels``, they are left out.
        jackknife: True to compute metrics over all items without a tenth of the lists each, too
            (:attr:`Score.without`). A list is in the group of its place, modulo their number.

    Returns:
        task -> metric -> result.

    Raises:
        ValueError: for a tau outside (0, 1], for inverse propensities of plain rows or of a task that is not binary,
            when the number of scores differs from the number of items, a score is not finite, or a column of
            weights is missing or contains what it may not.
    """
    results: dict[str, dict[str, Score]] = {}
    for task in tasks:
        if task.name not in scores:
            continue
        metrics = [metric for metric in metrics_of(task, not lists.is_rows)
                   if metric.reads in ("score", "value") or levels is not None]
        sources = {"score": scores, "value": {**scores, **(values or {})}}
        read = {kind: _of_items(sources.get(kind, levels or {}), lists, task)
                for kind in dict.fromkeys(["score", *(metric.reads for metric in metrics)])
                if kind in sources or task.name in (levels or {})}
        labels = _labels(lists, task)
        each = item_weights(lists, task.name, (weights or {}).get(task.name, task.weight_column))
        results[task.name] = {
            metric.label: _score(metric, labels, read.get(metric.reads), each, lists, jackknife) for metric in metrics
        }
        own = task.propensity_column if task.kind == "binary" and not lists.is_rows else None
        if column := (propensity_weights or {}).get(task.name, own):
            bound = task.tau if tau is None else tau
            results[task.name] |= _estimates(task, labels, read["score"], column, bound, lists)
    return results


def _estimates(
    task: Task, labels: np.ndarray, scores: np.ndarray, column: str, tau: float | None, lists: Lists
) -> dict[str, Score]:
    """The estimates of a task's metrics from clicks and the column of their inverse propensities."""
    if task.kind != "binary" or lists.is_rows:
        raise InputError(f"task {task.name!r}: inverse propensities correct metrics of clicks in lists; the task is "
                         f"{task.kind}, and the data are {'plain rows' if lists.is_rows else 'lists'}")
    weights = bounded(item_weights(lists, task.name, column), tau)
    found: dict[str, Score] = {}
    for metric in filter(click_estimates.estimable, metrics_of(task, True)):
        both = click_estimates.per_list(metric, labels, scores, weights, lists)
        for kind, (values, counts) in zip(("ips", "snips"), both, strict=True):
            conventions = {**metric.conventions(), "estimate": kind, "tau": tau}
            found[f"{kind}_{metric.label}"] = _mean(values, counts, conventions, metric.direction)
    return found


def of_metric(metric: Metric, lists: Lists, task: Task, scores: np.ndarray | None = None) -> Score:
    """One metric of a task, of scores ``[N]`` or, without scores, of constant scores."""
    scores = np.zeros(lists.num_items, np.float32) if scores is None else scores
    return _score(metric, _labels(lists, task), scores, item_weights(lists, task.name, task.weight_column), lists)


def _labels(lists: Lists, task: Task) -> np.ndarray:
    """The labels of a task, ``float32[N]``; NaN where missing, as in training."""
    labels = label_values(lists, task)
    return labels if task.kind == "regression" else np.where(labels < 0, np.nan, labels)


def _of_items(scores: Mapping[str, np.ndarray], lists: Lists, task: Task) -> np.ndarray:
    """The scores (or values) of a task, ``float32[N]``, after a check."""
    values = np.asarray(scores[task.name], np.float32)
    if values.shape != (lists.num_items,):
        raise InputError(f"task {task.name!r}: expected {lists.num_items} scores, one per item, got {values.shape}")
    if not np.isfinite(values).all():
        raise InputError(f"task {task.name!r}: item {int(np.argmin(np.isfinite(values)))} has no finite score")
    return values


def _score(
    metric: Metric, labels: np.ndarray, scores: np.ndarray | None, weights: np.ndarray, lists: Lists,
    jackknife: bool = False,
) -> Score:
    metric.validate(labels)
    if scores is None:
        return Score(float("nan"), len(labels), None, None, metric.conventions(), metric.direction)
    if not metric.per_list_mean:
        calibrated = metric.if_calibrated()
        beside = None if calibrated is None else calibrated.exact(labels, scores, weights)
        value = metric.exact(labels, scores, weights)
        without = None
        if jackknife and lists.num_lists >= GROUPS:
            group = np.repeat(np.arange(lists.num_lists) % GROUPS, _sizes(lists))
            left = [group != number for number in range(GROUPS)]
            without = np.array([metric.exact(labels[items], scores[items], weights[items]) for items in left])
        return Score(value, len(labels), None, None, metric.conventions(), metric.direction, beside, without)
    sizes = _sizes(lists)
    starts = np.cumsum(sizes) - sizes
    parts, counts = [], []
    for chunk in np.array_split(np.arange(len(sizes)), max(1, -(-len(sizes) // _CHUNK))):
        place = np.arange(sizes[chunk].max())
        valid = place < sizes[chunk][:, None]
        index = np.where(valid, starts[chunk][:, None] + place, 0)
        value, count = metric.per_list(labels[index], scores[index], valid, weights[index])
        parts.append(np.where(count.numpy() > 0, value.numpy(), np.nan))
        counts.append(count.numpy())
    return _mean(np.concatenate(parts), np.concatenate(counts), metric.conventions(), metric.direction)


def _sizes(lists: Lists) -> np.ndarray:
    return np.ones(lists.num_items, np.int64) if lists.is_rows else lists.sizes


def _mean(values: np.ndarray, counts: np.ndarray, conventions: dict[str, Any], direction: str) -> Score:
    """The mean of values of lists, which are NaN where a list does not count."""
    counted = ~np.isnan(values)
    mean = float(np.average(values[counted], weights=counts[counted])) if counted.any() else float("nan")
    return Score(mean, int(counted.sum()), values, counts, conventions, direction)


def per_list_arrays(split: str, results: Mapping[str, Mapping[str, Score]]) -> dict[str, np.ndarray]:
    """Arrays for ``per_list.npz``: the values per list as ``split/task/metric``, and how many times each list counts.

    Args:
        split: name of the split.
        results: the return value of :func:`evaluate`. Metrics over all items have no values per list, and only the
            values without groups of lists, if these were asked for.
    """
    scores = {f"{split}/{task}/{metric}": s for task, row in results.items() for metric, s in row.items()}
    found = {key: s.per_list for key, s in scores.items()} | {COUNTS + key: s.counts for key, s in scores.items()}
    found |= {WITHOUT + key: s.without for key, s in scores.items()}
    return {key: values for key, values in found.items() if values is not None}
