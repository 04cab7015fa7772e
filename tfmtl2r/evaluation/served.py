"""The served utility: what the orders that a ranker serves are worth to the preferences that they were asked for.

For a grid of G preferences r_g, and m_t(o) the metric of task t on the order o that is served::

    U = 1/G sum_g sum_t r_gt m_t(order served at r_g)

The null replaces every order by the one that is served at equal importance. U minus its null is what the response to
preferences is worth. U is linear in the metrics, so that noise of training or of data adds nothing to it on average. A
hypervolume is not: a set of noisy points has a larger one than their mean.

If the metrics of all tasks are the same, they are added as they are. Otherwise, each metric counts as its gain over the
trivial ranking, ``(m - m_trivial) / (m_perfect - m_trivial)``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmtl2r import metrics as metric_registry
from tfmtl2r.data import Lists, batches
from tfmtl2r.data.columns import item_weights, label_values
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.split_metrics import Score, of_metric
from tfmtl2r.metrics.base import Metric
from tfmtl2r.task import Task
from tfmtl2r.training.blending import SCORE
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.training.trackers import metrics_of
from tfmtl2r.types import Array

_PLACES = 4_000_000
"""The largest number of places of items in one computation; bounds memory."""


@dataclasses.dataclass(frozen=True)
class Utility:
    """The served utility of one ranker, list by list.

    Args:
        per_list: ``[T, B]``, the share of each task in U: the mean over the grid of ``r_gt m_t``; NaN where a list does
            not count.
        null_per_list: the same for the null.
        counts: ``[T, B]``, how many times each list counts.
    """

    per_list: np.ndarray
    null_per_list: np.ndarray
    counts: np.ndarray

    @property
    def value(self) -> float:
        """U."""
        return difference(self.per_list, np.zeros_like(self.per_list), self.counts)[0]

    @property
    def gain(self) -> tuple[float, float]:
        """U minus its null, and the standard error, paired list by list."""
        return difference(self.per_list, self.null_per_list, self.counts)

    def over(self, other: Utility) -> tuple[float, float]:
        """U minus that of another ranker on the same lists, and the standard error, paired list by list."""
        return difference(self.per_list, other.per_list, self.counts)


def difference(ours: np.ndarray, theirs: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """The difference of two sums over tasks of means over lists, and its standard error.

    A list belongs to the means of several tasks, so that the error is that of the sum of its residuals.

    Args:
        ours, theirs: ``[T, B]``.
        counts: ``[T, B]``, the weight of each list in the mean of each task.

    >>> difference(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]]), np.ones([1, 2]))
    (1.0, 1.0)
    """
    known = ~np.isnan(ours - theirs) & (counts > 0)
    weights = np.where(known, counts, 0.0)
    total = np.where(weights.sum(axis=1) > 0, weights.sum(axis=1), 1.0)[:, None]
    apart = np.where(known, ours - theirs, 0.0)
    means = (weights / total * apart).sum(axis=1, keepdims=True)
    residuals = (weights / total * (apart - means)).sum(axis=0)
    lists = int(known.any(axis=0).sum())
    error = float(np.sqrt((residuals**2).sum() * lists / (lists - 1))) if lists > 1 else float("nan")
    return float(means.sum()), error


def served_utility(
    orders: Array, centre: Array, preferences: Array, lists: Lists, tasks: Sequence[Task]
) -> Utility:
    """The served utility of a front.

    Args:
        orders: ``[G, N]``, the score of every item that is served at each preference.
        centre: the scores that are served at equal importance, ``[N]``; or of several rankers, ``[S, N]``, whose mean
            utility is the null.
        preferences: ``[G, T]``, each row of sum 1.
        lists: the split with its labels, in lists.
        tasks: the tasks.

    Raises:
        ValueError: for plain rows, which have no order to serve.
    """
    orders, centre = np.asarray(orders), np.atleast_2d(centre)
    values, counts = metrics_along(np.concatenate([orders, centre]), lists, tasks)
    return utility_of(values[:len(orders)], values[len(orders):], counts, preferences)


def utility_of(values: np.ndarray, centre: np.ndarray, counts: np.ndarray, preferences: Array) -> Utility:
    """The served utility from the metrics of each order, ``[G, T, B]``, and of those at the centre, ``[S, T, B]``."""
    shares = np.asarray(preferences, np.float64)[:, :, None]
    mean = centre.mean(axis=0)
    return Utility((shares * values).mean(axis=0), shares.mean(axis=0) * mean, counts)


def metrics_along(orders: np.ndarray, lists: Lists, tasks: Sequence[Task]) -> tuple[np.ndarray, np.ndarray]:
    """The metric of every task on each order, list by list.

    Args:
        orders: ``[M, N]``, scores of the items.
        lists: the split.
        tasks: the tasks.

    Returns:
        ``[M, T, B]``, NaN where a list does not count, as gains if the units differ; and counts ``[T, B]``.
    """
    if lists.is_rows:
        raise InputError("plain rows have no lists to order: the served utility needs lists")
    chosen = [ranking_metric(task) for task in tasks]
    same = len({(metric.label, str(metric.conventions())) for metric in chosen}) == 1
    found, counts = [], []
    for task, metric in zip(tasks, chosen, strict=True):
        value, count = values_along(orders, lists, task, metric)
        found.append(value if same else _gains(metric, value, count, lists, task))
        counts.append(count)
    return np.stack(found, axis=1), np.stack(counts)


def values_along(orders: np.ndarray, lists: Lists, task: Task, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    """A metric of one task on each order, ``[M, B]`` with NaN where a list does not count, and the counts ``[B]``."""
    labels, weights = labels_of(lists, task, metric), item_weights(lists, task.name, task.weight_column)
    return _per_list(metric, labels, orders, weights, lists)


def ranking_metric(task: Task) -> Metric:
    """The first metric of a task that reads an order; without one ``ndcg@10``, with linear gains for a regression."""
    for metric in metrics_of(task, True):
        if metric.reads == "score" and metric.per_list_mean and metric.direction == "max":
            return metric
    return metric_registry.get("ndcg", k=10, gain="linear" if task.kind == "regression" else "exp2")


def labels_of(lists: Lists, task: Task, metric: Metric) -> np.ndarray:
    """The labels of a task as the metric reads them, ``float32[N]``. Labels of a regression start at 0."""
    labels = label_values(lists, task)
    if task.kind != "regression":
        return np.where(labels < 0, np.nan, labels)
    lowest = np.nanmin(labels, initial=0.0)
    return labels - lowest if metric.relevance else labels


def score_served(
    model: MultiTaskRanker, lists: Lists, preference: Array, batch_size: int = 256
) -> dict[str, dict[str, Score]]:
    """Evaluates the ranking that is served at a preference: one order, on which every task is measured.

    Args:
        model: a trained ranker.
        lists: the split.
        preference: importance of each task, in the order of the tasks.
        batch_size: lists per batch.

    Returns:
        task -> metric -> result, for the metrics that read an order; ``ndcg@10`` for a task in lists without any.

    Raises:
        ValueError: for an invalid preference, or plain rows of a task without such a metric.
    """
    data = batches(lists, (), model.architecture.schema, batch_size=batch_size)
    served = model.predict(data, layout="items", preference=preference)[SCORE]
    return score_order(served, lists, model.tasks)


def score_order(order: np.ndarray, lists: Lists, tasks: Sequence[Task]) -> dict[str, dict[str, Score]]:
    """Evaluates one order of the items for every task; see :func:`score_served`.

    Args:
        order: the served score of every item, ``[N]``.
        lists: the split.
        tasks: the tasks.
    """
    results: dict[str, dict[str, Score]] = {}
    for task in tasks:
        chosen = [metric for metric in metrics_of(task, not lists.is_rows) if metric.reads == "score"]
        if not chosen and lists.is_rows:
            raise InputError(f"task {task.name!r} has no metric that reads an order, such as auc: give it one")
        if chosen:
            results[task.name] = {metric.label: of_metric(metric, lists, task, order) for metric in chosen}
        else:
            metric = ranking_metric(task)
            labelled = lists.with_column(task.label, labels_of(lists, task, metric))
            plain = dataclasses.replace(task, transform=None)
            results[task.name] = {metric.label: of_metric(metric, labelled, plain, order)}
    return results


def _per_list(
    metric: Metric, labels: np.ndarray, orders: np.ndarray, weights: np.ndarray, lists: Lists
) -> tuple[np.ndarray, np.ndarray]:
    """A metric of each order, ``[M, B]`` with NaN where a list does not count, and the counts ``[B]``."""
    values, counts = [], []
    for index, valid in places(lists, len(orders)):
        each = orders[:, index]
        many, shape = len(orders), each.shape
        value, count = metric.per_list(
            np.tile(labels[index], (many, 1)), each.reshape(-1, shape[-1]), np.tile(valid, (many, 1)),
            np.tile(weights[index], (many, 1)))
        value, count = (np.asarray(part).reshape(shape[:2]) for part in (value, count))
        values.append(np.where(count > 0, value, np.nan))
        counts.append(count[0])
    return np.concatenate(values, axis=1), np.concatenate(counts)


def places(lists: Lists, copies: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Positions of items in lists, ``int[B, L]``, and which are real, for parts of the lists that fit into memory."""
    starts = np.cumsum(lists.sizes) - lists.sizes
    longest = max(1, int(lists.sizes.max(initial=1)))
    size = max(1, _PLACES // (longest * copies))
    found = []
    for first in range(0, lists.num_lists, size):
        part = slice(first, first + size)
        place = np.arange(max(1, int(lists.sizes[part].max(initial=1))))
        valid = place < lists.sizes[part][:, None]
        found.append((np.where(valid, starts[part][:, None] + place, 0), valid))
    return found


def _gains(metric: Metric, values: np.ndarray, counts: np.ndarray, lists: Lists, task: Task) -> np.ndarray:
    """Values as gains over the trivial ranking."""
    labels, weights = labels_of(lists, task, metric), item_weights(lists, task.name, task.weight_column)
    ends = []
    for bound, scores in ((metric.trivial(), np.zeros_like(labels)), (metric.perfect(), np.nan_to_num(labels))):
        if isinstance(bound, Metric):
            value, count = _per_list(bound, labels, scores[None], weights, lists)
            known = count > 0
            bound = float(np.average(value[0][known], weights=count[known])) if known.any() else float("nan")
        ends.append(float(bound))
    room = ends[1] - ends[0]
    return (values - ends[0]) / room if abs(room) > 1e-9 else np.full_like(values, np.nan)


def as_numbers(utility: Utility) -> dict[str, Any]:
    """U, its null, the gain and its standard error, for tables and files."""
    gain, error = utility.gain
    return {"utility": utility.value, "null": utility.value - gain, "gain": gain, "error": error}
