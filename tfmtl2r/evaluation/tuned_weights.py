"""Chooses the weights of the served score on a split, for a stated utility and stated floors, without a training.

For weights w, let m_t(w) be the metric of task t on the order that is served with these weights. The weights are those
on the simplex that maximise ``U(w) = sum_t u_t m_t(w)`` among the weights with ``m_b(w) >= floor_b`` for each bound b.
The metrics are steps in w, so that the search compares candidates: the preference of the ranker, equal weights, each
task alone, weights spread evenly over the simplex, and then weights ever nearer to the best ones so far. If no
candidate keeps all floors, the weights are those with the smallest largest shortfall.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmtl2r import metrics as metric_registry
from tfmtl2r.data import Lists
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.blend_choice import Scored, no_choice, spread
from tfmtl2r.evaluation.paired_tests import bootstrap_means
from tfmtl2r.evaluation.served import difference, metrics_along, ranking_metric, values_along
from tfmtl2r.figures import figure
from tfmtl2r.metrics.base import Metric
from tfmtl2r.names import did_you_mean
from tfmtl2r.preferences import das_dennis, low_discrepancy, scaled, suited
from tfmtl2r.settings import Constraint
from tfmtl2r.task import Task
from tfmtl2r.training.blending import default_of
from tfmtl2r.training.merged import Merged
from tfmtl2r.training.model import MultiTaskRanker

_ROUNDS = (0.4, 0.15, 0.05)
"""How far each round of the search goes from the best weights so far, as a share of the simplex."""
_SPREAD, _NEAR, _CHUNK = 100, 30, 32
_SLACK = 1e-9


@dataclasses.dataclass(frozen=True)
class Wish:
    """What weights are tuned for, checked against the tasks of a ranker.

    Args:
        tasks: tasks of the ranker.
        utility: task -> what a unit of its metric is worth, >= 0; a task that is left out is worth 0.
        bounds: floors of metrics; the setting ``[[constraints]]`` with a metric.

    Raises:
        ValueError: for an unknown task, a metric that does not read an order or for which smaller is better, or plain
            bounds on losses.
    """

    tasks: tuple[Task, ...]
    utility: Mapping[str, float]
    bounds: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        for what, asked in (("utility", self.utility), ("constraints", [str(bound.task) for bound in self.bounds])):
            for name in asked:
                if name not in names:
                    raise InputError(f"{what}: {name!r} is no task of this ranker{did_you_mean(name, names)}; its "
                                     f"tasks: {', '.join(names)}")
        for bound in self.bounds:
            metric = self.metric(bound)
            if metric.reads != "score" or not metric.per_list_mean or metric.direction != "max":
                raise InputError(f"constraints.{bound.task}.metric must be a mean over lists that reads their order, "
                                 f"where larger is better, such as ndcg@10, not {bound.metric!r}")

    @property
    def worths(self) -> np.ndarray:
        """The utility, ``float64[T]``."""
        return np.array([float(self.utility.get(task.name, 0.0)) for task in self.tasks])

    def metric(self, bound: Constraint) -> Metric:
        """The metric of a bound."""
        if bound.metric is None:
            raise InputError(f"constraints.{bound.task}: tuned weights need a bound on a metric, not on a loss")
        return metric_registry.get(bound.metric)

    def place(self, bound: Constraint) -> int:
        """The position of the task of a bound."""
        return [task.name for task in self.tasks].index(str(bound.task))


@dataclasses.dataclass(frozen=True)
class Tuned:
    """Tuned weights, and what they reach.

    Args:
        weights: task -> weight, of sum 1.
        kept: whether all floors are kept on the split.
        utility: U with its 95 % bootstrap interval over lists, ``value``, ``low`` and ``high``; ``gain`` over the
            ranker's own preference and its paired standard error, ``error``.
        bounds: for each bound ``task``, ``metric``, ``floor``, ``value``, ``low``, ``high``, and ``held``, the share of
            bootstrap samples in which it holds.
        metrics: task -> its metric in U.
        lists: number of lists.
    """

    weights: dict[str, float]
    kept: bool
    utility: dict[str, float]
    bounds: list[dict[str, Any]]
    metrics: dict[str, str]
    lists: int

    def numbers(self) -> dict[str, Any]:
        """Plain data for run cards and metadata."""
        return dataclasses.asdict(self)


def tune_weights(
    model: MultiTaskRanker | Merged, lists: Lists, utility: Mapping[str, float] | None = None,
    bounds: Sequence[Constraint] = (), batch_size: int = 256,
) -> Tuned:  # fmt: skip
    """Chooses the weights of a ranker's own kind of blend, so that the order that is served fits a stated purpose.

    A conditioned ranker also reads the weights, as its preference. The values are optimistic, because the same lists
    chose the weights: :func:`reached` on another split has no such bias.

    Args:
        model: a trained ranker.
        lists: the split to choose on, usually vali.
        utility: task -> what a unit of its metric is worth; by default the preference of the ranker. The metric is the
            first of the task that reads an order, as its gain over the trivial ranking if the metrics differ.
        bounds: :class:`tfmtl2r.settings.Constraint` with a metric.
        batch_size: lists per batch.

    Raises:
        ValueError: for plain rows, a single task, fewer than two lists, or a wish that the ranker cannot have
            (:class:`Wish`).
    """
    wish = wish_of(model, utility, bounds)
    scored = Scored(model, _enough(model, lists), batch_size)
    own = scaled(np.asarray(model.preference))
    tasks = len(wish.tasks)
    first = np.concatenate([[own, np.full(tasks, 1 / tasks)], np.eye(tasks), _evenly(tasks, _SPREAD)])
    candidates = suited(first, model.method) if isinstance(model, MultiTaskRanker) else first
    worth, values = _means(scored, wish, candidates)
    floors = np.array([bound.floor_of(float(values[2 + wish.place(bound), number]))
                       for number, bound in enumerate(wish.bounds)])
    for share in _ROUNDS:
        near = (1 - share) * candidates[_best(worth, values, floors)] + share * _evenly(tasks, _NEAR)
        more, found = _means(scored, wish, near)
        candidates, worth = np.concatenate([candidates, near]), np.concatenate([worth, more])
        values = np.concatenate([values, found])
    return _reached(scored, wish, candidates[_best(worth, values, floors)], floors)


def reached(
    model: MultiTaskRanker | Merged, lists: Lists, tuned: Tuned, utility: Mapping[str, float] | None = None,
    batch_size: int = 256,
) -> Tuned:  # fmt: skip
    """What tuned weights reach on another split, such as test; the floors are those of the split of the choice.

    Args:
        model, batch_size: see :func:`tune_weights`.
        lists: the split.
        tuned: the weights.
        utility: the same as for :func:`tune_weights`.
    """
    bounds = [Constraint(row["task"], row["metric"], floor=row["floor"]) for row in tuned.bounds]
    floors = np.array([row["floor"] for row in tuned.bounds])
    return _reached(Scored(model, _enough(model, lists), batch_size), wish_of(model, utility, bounds),
                    np.array([*tuned.weights.values()]), floors)


def unreachable(tuned: Mapping[str, Any]) -> str:
    """Describes which floors no weights keep, and what is nearest; empty if all floors are kept.

    Args:
        tuned: :meth:`Tuned.numbers`.
    """
    if tuned["kept"]:
        return ""
    lost = [f"{row['task']} {row['metric']} >= {figure(row['floor'])} (nearest {figure(row['value'])}, 95 % interval "
            f"{figure(row['low'])} to {figure(row['high'])})" for row in tuned["bounds"] if row["value"] < row["floor"]]
    also = [f"{row['task']} {row['metric']} {figure(row['value'])}" for row in tuned["bounds"]
            if row["value"] >= row["floor"]]
    return ("no weights of the served score keep all floors on the validation split: " + ", ".join(lost)
            + (f"; there, {', '.join(also)}" if also else "") + ": lower a floor, or train a ranker that reaches it")


def wish_of(
    model: MultiTaskRanker | Merged, utility: Mapping[str, float] | None, bounds: Sequence[Constraint]
) -> Wish:
    """The checked wish; without a utility it is the preference of the ranker."""
    own = dict(zip((task.name for task in model.tasks), scaled(np.asarray(model.preference)).tolist(), strict=True))
    return Wish(tuple(model.tasks), own if utility is None else utility, tuple(bounds))


def _enough(model: MultiTaskRanker | Merged, lists: Lists) -> Lists:
    """Lists that are spread over a split; raises if there are too few to tune on."""
    if reason := no_choice(model, lists):
        raise InputError(f"weights cannot be tuned: {reason}")
    return spread(lists)


def _evenly(tasks: int, count: int) -> np.ndarray:
    return das_dennis(2, count // 2) if tasks == 2 else low_discrepancy(tasks, count)


def _best(worth: np.ndarray, values: np.ndarray, floors: np.ndarray) -> int:
    """The first candidate with the smallest largest shortfall; among candidates without any, the largest utility."""
    short = np.maximum(floors - values, 0.0).max(axis=1, initial=0.0)
    short = np.where(short <= _SLACK, 0.0, short)
    return int(np.lexsort([-worth, short])[0])


def _means(scored: Scored, wish: Wish, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """U of each candidate, ``[C]``, and the mean of the metric of each bound, ``[C, bounds]``."""
    worth, values = [], []
    for start in range(0, len(candidates), _CHUNK):
        measured, counts = _measured(scored, wish, candidates[start:start + _CHUNK])
        known = ~np.isnan(measured) & (counts > 0)
        weights = np.where(known, counts, 0.0)
        total = np.maximum(weights.sum(axis=-1), 1e-12)
        means = (np.where(known, measured, 0.0) * weights).sum(axis=-1) / total
        tasks = len(wish.tasks)
        worth.append(means[:, :tasks] @ wish.worths)
        values.append(means[:, tasks:])
    return np.concatenate(worth), np.concatenate(values)


def _measured(scored: Scored, wish: Wish, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The metrics of all tasks and then of all bounds, ``[C, T + bounds, B]``, and the counts, ``[T + bounds, B]``."""
    lists = scored.lists
    (orders,) = scored.orders([default_of(scored.model)], candidates)
    values, counts = metrics_along(orders, lists, wish.tasks)
    for bound in wish.bounds:
        value, count = values_along(orders, lists, wish.tasks[wish.place(bound)], wish.metric(bound))
        values, counts = np.concatenate([values, value[:, None]], axis=1), np.concatenate([counts, count[None]])
    return values, counts


def _reached(scored: Scored, wish: Wish, weights: np.ndarray, floors: np.ndarray) -> Tuned:
    own = scaled(np.asarray(scored.model.preference))
    (values, before), counts = _measured(scored, wish, np.stack([weights, own]))
    tasks, worths = len(wish.tasks), wish.worths[:, None]
    means = bootstrap_means(values, counts)
    low, high = np.nanquantile(means, [0.025, 0.975], axis=0)
    sums = means[:, :tasks] @ wish.worths
    gain, error = difference(worths * values[:tasks], worths * before[:tasks], counts[:tasks])
    value, _ = difference(worths * values[:tasks], np.zeros_like(values[:tasks]), counts[:tasks])
    rows = []
    for number, (bound, floor) in enumerate(zip(wish.bounds, floors.tolist(), strict=True), start=tasks):
        known = ~np.isnan(values[number]) & (counts[number] > 0)
        mean = float(np.average(values[number][known], weights=counts[number][known])) if known.any() else float("nan")
        rows.append({"task": bound.task, "metric": wish.metric(bound).label, "floor": floor, "value": mean,
                     "low": float(low[number]), "high": float(high[number]),
                     "held": float(np.mean(means[:, number] >= floor - _SLACK))})
    ends = [float(end) for end in np.nanquantile(sums, [0.025, 0.975])]
    return Tuned(
        dict(zip((task.name for task in wish.tasks), map(float, weights), strict=True)),
        all(row["value"] >= row["floor"] - _SLACK for row in rows),
        {"value": value, "low": ends[0], "high": ends[1], "gain": gain, "error": error}, rows,
        {task.name: ranking_metric(task).label for task in wish.tasks}, scored.lists.num_lists)
