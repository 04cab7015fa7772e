"""The fronts of a sweep, measured on what is served: one order of each list per preference, for all tasks.

A run that was trained for one preference is a point: its order at this preference. Any other run, conditioned or not,
is a front by itself: its orders at all preferences of its card. The ranker with equal weights is also the front ``one
ranker, blended``. The first figure is the served utility ``U = mean over preferences r of r . metrics(order at r)``,
and what it is above its null, the order of the equal-weight ranker at equal importance. Noise does not add to U. It
does add to the hypervolume of many points, so that points are averaged over seeds first, and the hypervolume of the
equal-weight seeds, each a point of its own, stands beside.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tfmtl2r.evaluation.seeds import deviation
from tfmtl2r.pareto.conditioned import Curve
from tfmtl2r.pareto.front import Reference, hypervolume, non_dominated, reference_point
from tfmtl2r.runs.finished import Objectives, Run, described, told_apart
from tfmtl2r.settings import Settings

BLENDED, NULL = "one ranker, blended", "null: equal-weight seeds"
_SAME = 0.02
"""The largest difference of two preferences that count as the same one."""
_EVEN = 0.05
"""The largest difference of two shares that count as equal importance."""


@dataclasses.dataclass(frozen=True)
class ServedFront:
    """One front.

    Args:
        preferences: ``[G, T]``.
        values: ``[S, G, T]``, the metric of each task for each seed and preference.
        seeds: the S seeds.
        trainings: number of trainings per seed.
        error: the standard error of U over lists, of a single run with a front of its own; otherwise None.
    """

    preferences: np.ndarray
    values: np.ndarray
    seeds: tuple[int, ...]
    trainings: int
    error: float | None = None

    def utility(self) -> np.ndarray:
        """U of each seed, ``[S]``."""
        return np.einsum("gt,sgt->s", self.preferences, self.values) / len(self.preferences)


@dataclasses.dataclass(frozen=True)
class ServedFronts:
    """All fronts of a sweep in one objective space.

    Args:
        labels: label of each objective.
        fronts: name -> front; ``one ranker, blended`` is the first, if there are runs with equal weights.
        null: ``[S, T]``, what the equal-weight ranker of each seed serves at equal importance.
        reference: reference point of all hypervolumes.
        rows: name -> ``points``, ``seeds``, ``trainings``, ``utility``, ``gain`` above its null and ``error`` (None
            where metrics differ or there are no equal weights), ``over_blended`` and its ``over_blended_error`` (None
            where the preferences differ), ``hypervolume`` of the points averaged over seeds, ``hypervolume_std`` of
            the fronts of each seed, ``null_hypervolume`` of as many equal-weight seeds as there are (``null_points``),
            and ``non_dominated``.
        left_out: a message for each run that is on no front.
    """

    labels: tuple[str, ...]
    fronts: dict[str, ServedFront]
    null: np.ndarray
    reference: Reference
    rows: dict[str, dict[str, Any]]
    left_out: tuple[str, ...] = ()

    def curves(self) -> dict[str, Curve]:
        """The fronts averaged over seeds, for pictures."""
        up = (True,) * len(self.labels)
        found = {name: Curve(front.preferences, front.values.mean(axis=0), up, self.labels)
                 for name, front in self.fronts.items()}
        equal = np.full(self.null.shape, 1 / len(self.labels))
        return {**found, **({NULL: Curve(equal, self.null, up, self.labels)} if len(self.null) else {})}

    def numbers(self) -> dict[str, Any]:
        """Plain data for ``pareto.json``."""
        points = {name: {"preferences": front.preferences.tolist(), "values": front.values.mean(axis=0).tolist()}
                  for name, front in self.fronts.items()}
        return {"measured_on": "served ranking", "objectives": self.labels, "reference": self.reference.point,
                "reference_rule": self.reference.rule, "left_out": self.left_out, "null": self.null.tolist(),
                "groups": {name: {**row, **points[name]} for name, row in self.rows.items()}}


def served_fronts(
    runs: Iterable[Run], split: str = "test", tasks: Sequence[str] = (), reference: Sequence[float] = ()
) -> ServedFronts | None:
    """Measures the fronts of a sweep on what is served; None if no run was measured so.

    Args:
        runs: the runs of a sweep. Runs of a single task are on no front.
        split: ``"test"`` or ``"vali"``.
        tasks: tasks whose metrics are the objectives; all tasks if empty.
        reference: reference point of the hypervolumes; by default beyond all points.
    """
    found = _measured(runs, split, tasks)
    if found is None:
        return None
    known, tasks, labels, left_out = found
    groups: dict[str, list[Run]] = {}
    for run, differs in zip(known, told_apart(known), strict=True):
        groups.setdefault(run.method + differs, []).append(run)
    plain = described(Settings().method)
    fronts: dict[str, ServedFront] = {}
    null = np.empty((0, len(tasks)))
    for name, group in groups.items():
        if group[0].method == plain and (even := _evenest(group)):
            shown = BLENDED + name.removeprefix(plain)
            fronts = {shown: _front(even, split, tasks, alone=True), **fronts}
            null = np.concatenate([null, _at_centre(even, split, tasks)])
    for name, group in groups.items():
        if group[0].method != plain or _evenest(group) != group:  # otherwise it is the one above
            fronts[name] = _front(group, split, tasks)
    limit = Reference(tuple(map(float, reference)))
    if not len(reference):
        every = [front.values.mean(axis=0) for front in fronts.values()]
        limit = reference_point(np.concatenate([*every, null]), (True,) * len(tasks))
    same = len({label.removeprefix(task) for task, label in zip(tasks, labels, strict=True)}) == 1
    first_name = next(iter(fronts))
    blended = fronts[first_name] if first_name.startswith(BLENDED) else None
    rows = {name: _row(front, blended, null, limit, same) for name, front in fronts.items()}
    return ServedFronts(labels, fronts, null, limit, rows, tuple(left_out))


def served_candidates(runs: Iterable[Run], split: str, tasks: Sequence[str] = ()) -> Objectives | None:
    """All that the runs of a sweep can serve: each run as it was trained, and at each preference of its card.

    Args:
        runs, split, tasks: see :func:`served_fronts`.

    Returns:
        One point per run and preference, where ``asked`` of a run is the preference, empty for its own; None if no run
        was measured so.
    """
    found = _measured(runs, split, tasks)
    if found is None:
        return None
    known, tasks, labels, _ = found
    points = [(dataclasses.replace(run, asked=tuple(point["preference"]) if number else ()), point)
              for run in known for number, point in enumerate(run.card.served["points"])]
    return Objectives(tuple(run for run, _ in points), np.array([_value(point, split, tasks) for _, point in points]),
                      (True,) * len(tasks), labels, tuple(tasks))


def _measured(
    runs: Iterable[Run], split: str, tasks: Sequence[str]
) -> tuple[list[Run], tuple[str, ...], tuple[str, ...], list[str]] | None:
    """The runs whose cards have finite metrics of what is served; the tasks and labels of the objectives; and a message
    for each run and task that is left out. None without any run."""
    joint = [run for run in runs if len(run.tasks) > 1]
    known = [run for run in joint if run.card.served and split in run.card.served["points"][0]]
    if not known:
        return None
    left_out = [f"run {run.card.name!r} has no served ranking: an earlier version wrote its card" for run in joint
                if run not in known]
    first = known[0].card.served["points"][0][split]
    wanted = tuple(tasks) or known[0].tasks
    tasks = tuple(task for task in wanted if any(np.isfinite(_value(run.card.served["points"][0], split, [task]))
                                                 for run in known)) or wanted
    whole = [run for run in known if np.isfinite([_value(point, split, tasks)
                                                  for point in run.card.served["points"]]).all()]
    left_out += [f"run {run.card.name!r}: what it serves has no finite {split} metric" for run in known
                 if run not in whole]
    left_out += [f"task {task!r}: its served {split} metric has no value in any run" for task in wanted
                 if task not in tasks]
    if not whole:
        return None
    labels = tuple(f"{task} {next(iter(first[task]))} ({split}, served)" for task in tasks)
    return whole, tasks, labels, left_out


def front_verdict(found: ServedFronts) -> list[str]:
    """States in words which fronts respond to the preference, and which are better than one ranker, blended."""
    rows = {name: row for name, row in found.rows.items() if row["gain"] is not None}
    if not rows:
        return []
    lines = ["Fronts are measured on the served ranking: one order of each list per preference. U is the mean over "
             "preferences of preference times metrics; its null is the equal-weight ranker asked at equal importance."]
    for name, row in rows.items():
        if name.startswith(BLENDED):
            lines.append(f"{name[0].upper()}{name[1:]}: U {row['utility']:.4f}, {_signed(row['gain'], row['error'])} "
                         f"above its null, with {row['trainings']} training per seed.")
    others = {name: row for name, row in rows.items() if row["over_blended"] is not None}
    for words, holds in (("Better than", lambda d, e: d > 2 * e), ("Worse than", lambda d, e: d < -2 * e),
                         ("No clear difference from", lambda d, e: abs(d) <= 2 * e)):
        named = [f"{name} ({_signed(row['over_blended'], row['over_blended_error'])}; {row['trainings']} training"
                 f"{'s' if row['trainings'] > 1 else ''})"
                 for name, row in others.items() if holds(row["over_blended"], row["over_blended_error"])]
        if named:
            lines.append(f"{words} {BLENDED}, in U: {', '.join(named)}.")
    untold = [name for name, row in others.items() if math.isnan(row["over_blended_error"])]
    if untold:
        lines.append(f"With a single seed, no error of the difference from {BLENDED} is known: "
                     + ", ".join(f"{name} ({others[name]['over_blended']:+.4f})" for name in untold) + ".")
    silent = [name for name, row in rows.items() if not row["gain"] > 2 * (row["error"] or 0.0)]
    if silent:
        lines.append("Fronts that do not respond to the preference (U not clearly above its null): "
                     f"{', '.join(silent)}.")
    return lines


def _signed(value: float, error: float | None) -> str:
    return f"{value:+.4f}" + ("" if error is None or math.isnan(error) else f" ± {error:.4f}")


def _spread(run: Run) -> float:
    return max(run.preference, default=0.0) - min(run.preference, default=0.0)


def _evenest(group: Sequence[Run]) -> list[Run]:
    """The runs with equal importance, or nearly so; none of conditioned rankers."""
    plain = [run for run in group if run.card.config.get("conditioned") is None and _spread(run) <= _EVEN]
    least = min((_spread(run) for run in plain), default=0.0)
    return [run for run in plain if _spread(run) <= least + 1e-9]


def _value(point: dict[str, Any], split: str, tasks: Sequence[str]) -> list[float]:
    return [float(next(iter(point[split][task].values()))) for task in tasks]


def _at_centre(even: Sequence[Run], split: str, tasks: Sequence[str]) -> np.ndarray:
    """What the runs serve at the preference nearest to equal importance, ``[S, T]``, in the order of their seeds."""
    found = []
    for run in sorted(even, key=lambda run: run.seed):
        point = min(run.card.served["points"], key=lambda point: np.ptp(point["preference"]))
        found.append(_value(point, split, tasks))
    return np.array(found).reshape(-1, len(tasks))


def _front(group: Sequence[Run], split: str, tasks: Sequence[str], alone: bool = False) -> ServedFront:
    """The front of runs that differ in preference and seed only; ``alone`` makes each run a front by itself."""
    seeds: dict[int, dict[tuple[float, ...], list[float]]] = {}
    places = [group[0].tasks.index(task) for task in tasks]
    for run in group:
        own = run.preference and run.card.config.get("conditioned") is None and not alone
        points = run.card.served["points"]
        for point in points[:1] if own else points[1:]:
            shares = np.array(point["preference"])[places]
            key = tuple((shares / max(shares.sum(), 1e-12)).round(6).tolist())
            seeds.setdefault(run.seed, {})[key] = _value(point, split, tasks)
    common = [key for key in next(iter(seeds.values())) if all(key in of for of in seeds.values())]
    values = np.array([[of[key] for key in common] for _, of in sorted(seeds.items())])
    errors = [run.card.served["utility"][split]["error"] for run in group]
    single = errors[0] if len(group) == 1 and len(tasks) == len(group[0].tasks) else None
    return ServedFront(np.array(common), values, tuple(sorted(seeds)), len(group) // len(seeds), single)


def _row(
    front: ServedFront, blended: ServedFront | None, null: np.ndarray, limit: Reference, same: bool
) -> dict[str, Any]:
    """The figures of a front; see :class:`ServedFronts`."""
    up = (True,) * front.values.shape[2]
    mean = front.values.mean(axis=0)
    row: dict[str, Any] = {"points": len(mean), "seeds": len(front.seeds), "trainings": front.trainings,
                           "utility": None, "gain": None, "error": None, "over_blended": None,
                           "over_blended_error": None, "hypervolume": hypervolume(mean, limit, up),
                           "hypervolume_std": deviation(hypervolume(one, limit, up) for one in front.values),
                           "non_dominated": int(non_dominated(mean, up).sum()), "null_hypervolume": None,
                           "null_points": len(null)}
    if len(null):
        row["null_hypervolume"] = hypervolume(null, limit, up)
    if not same:
        return row
    utility = front.utility()
    row["utility"] = float(utility.mean())
    if len(null):
        centre = null if len(null) == len(utility) else np.tile(null.mean(axis=0), (len(utility), 1))
        gains = utility - centre @ front.preferences.mean(axis=0)
        row["gain"] = float(gains.mean())
        row["error"] = deviation(gains.tolist()) / len(gains) ** 0.5 if len(gains) > 1 else front.error
    if blended is not None and front is not blended and front.seeds == blended.seeds and (
            front.preferences.shape == blended.preferences.shape):
        order = [int(np.abs(blended.preferences - each).max(axis=1).argmin()) for each in front.preferences]
        if np.abs(blended.preferences[order] - front.preferences).max() <= _SAME and len({*order}) == len(order):
            apart = utility - np.einsum("gt,sgt->s", front.preferences, blended.values[:, order]) / len(order)
            row["over_blended"] = float(apart.mean())
            row["over_blended_error"] = (deviation(apart.tolist()) / len(apart) ** 0.5 if len(apart) > 1
                                         else float("nan"))
    return row
