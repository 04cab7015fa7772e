"""Summary of a sweep: fronts, their quality indicators with reference and ideal points, and the run to choose."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.seeds import deviation
from tfmtl2r.pareto.front import Reference, ideal_point, indicators, knee, max_weighted_loss, nearest, preference_error
from tfmtl2r.pareto.front import reference_point as worst_point
from tfmtl2r.preferences import has_ray
from tfmtl2r.runs.finished import Objectives, Run, finite, objectives, told_apart
from tfmtl2r.writing import write_json

if TYPE_CHECKING:
    from tfmtl2r.pareto.conditioned import Curve

FILE = "pareto.json"
PICKS = ("knee", "nearest")


@dataclasses.dataclass(frozen=True)
class Summary:
    """Fronts of a sweep in one objective space.

    Args:
        points: all runs that learn every task; a conditioned run is replaced by the points of its curve.
        groups: the same points, one set per method (and per architecture and other settings, if they differ).
        single: architecture -> value of single-task training for each objective, as mean over seeds; None for a task
            without single-task run.
        reference: reference point of all hypervolumes.
        ideal: the best value of each objective, including single-task training.
        rows: group -> indicators; see :func:`summarise`.
        left_out: a message for each task that has no value in any run, and for each run that is left out because
            another objective is not a finite number.
    """

    points: Objectives
    groups: dict[str, Objectives]
    single: dict[str, tuple[float | None, ...]]
    reference: Reference
    ideal: tuple[float, ...]
    rows: dict[str, dict[str, Any]]
    left_out: tuple[str, ...] = ()

    def numbers(self) -> dict[str, Any]:
        """Objectives, reference point and its rule, ideal point and all indicators, for ``pareto.json``."""
        return {
            "objectives": self.points.labels, "maximise": self.points.maximise, "single_task": self.single,
            "reference": self.reference.point, "reference_rule": self.reference.rule, "ideal": self.ideal,
            "left_out": self.left_out, "groups": self.rows,
        }


def write(folder: str | Path, content: Mapping[str, Any]) -> Path:
    """Writes ``pareto.json`` into a folder, atomically."""
    return write_json(Path(folder) / FILE, content)


def summarise(
    runs: Iterable[Run], source: str = "test", tasks: Sequence[str] = (), metrics: Mapping[str, str] | None = None,
    reference: Sequence[float] = (),
) -> Summary:
    """Places the runs of a sweep in objective space and measures the front of each method.

    The indicators ``hypervolume``, ``share`` and ``r2`` of a group are means over the fronts of its seeds, together
    with standard deviations. ``together`` contains the indicators of all seeds together. ``preference_error`` (radians)
    and ``max_weighted_loss`` are means over the runs whose preference has a ray
    (:func:`tfmtl2r.preferences.has_ray`). Both are computed from training losses, and comparable only between groups
    with the same preferences.

    Args:
        runs: the runs of a sweep. Single-task runs become lines. Other runs become points; a conditioned run becomes
            the points of its curve. Runs with an objective that is not a finite number are left out.
        source: see :meth:`tfmtl2r.runs.finished.Run.objective`.
        tasks: tasks whose objectives to use; all tasks if empty.
        metrics: task -> metric; None selects the first metric of each task.
        reference: reference point of the hypervolume; :func:`tfmtl2r.pareto.reference_point` of all points if empty.

    Raises:
        ValueError: when no run learns all tasks; see also :func:`tfmtl2r.runs.finished.objectives`.
    """
    runs = list(runs)
    every = tuple(dict.fromkeys(task for run in runs for task in run.tasks))
    tasks = tuple(tasks) or every
    complete = [run for run in runs if len(run.tasks) > 1 and set(tasks) <= set(run.tasks)]
    if not complete:
        raise InputError(f"no finished run learns all of {', '.join(tasks) or 'the tasks'}: there is no front to show")
    kept, tasks, left_out = finite([point for run in complete for point in run.points(source)], source, tasks, metrics)
    if not kept:
        raise InputError(left_out[0])
    points = objectives(kept, source, tasks, metrics)
    alone, _, lost = finite([run for run in runs if len(run.tasks) == 1 and run.tasks[0] in tasks], source,
                         metrics=metrics)
    single = {architecture: tuple(_mean_of([run for run in alone if run.architecture == architecture
                                            and run.tasks == (task,)], source, metrics) for task in tasks)
              for architecture in dict.fromkeys(run.architecture for run in alone)}
    best = ideal_point(points.values, points.maximise)
    known = [[b if value is None else value for value, b in zip(values, best, strict=True)]
             for values in single.values()]
    ideal = ideal_point([best, *known], points.maximise)
    limit = (Reference(tuple(map(float, reference))) if len(reference)
             else worst_point(points.values, points.maximise))
    groups = by_method(points)
    return Summary(points, groups, single, limit, ideal,
                   {name: _row(group, limit, ideal) for name, group in groups.items()}, (*left_out, *lost))


def by_method(points: Objectives) -> dict[str, Objectives]:
    """Groups points by method (and by architecture and other settings, if they differ), over preferences and seeds."""
    names = [run.method + what for run, what in zip(points.runs, told_apart(points.runs), strict=True)]
    return {name: points.where([other == name for other in names]) for name in dict.fromkeys(names)}


def pick(points: Objectives | Curve, how: str, preference: Sequence[float] = ()) -> int:
    """Chooses one of the points.

    Args:
        points: all candidates.
        how: ``"knee"`` (:func:`tfmtl2r.pareto.knee`) or ``"nearest"`` (:func:`tfmtl2r.pareto.nearest`).
        preference: importance of each objective; only for ``"nearest"``.

    Returns:
        The row of the chosen point.

    Raises:
        ValueError: for an unknown rule, ``"nearest"`` without a preference, or ``"knee"`` with a preference.
    """
    if how not in PICKS:
        raise InputError(f"pick must be one of {', '.join(PICKS)}, not {how!r}")
    if how == "knee":
        if len(preference):
            raise InputError("the knee uses no preference: leave the preference out, or pick nearest")
        return knee(points.values, points.maximise)
    if not len(preference):
        raise InputError(f"nearest to what? give a preference: the importance of {', '.join(points.labels)}")
    return nearest(points.values, preference, points.maximise)


def _row(group: Objectives, reference: Reference, ideal: Sequence[float]) -> dict[str, Any]:
    fronts = [indicators(group.values[group.seeds == seed], reference, ideal, group.maximise)
              for seed in np.unique(group.seeds)]
    row: dict[str, Any] = {"points": len(group.runs), "runs": len({run.card.name for run in group.runs}),
                           "seeds": len(fronts)}
    for name in ("hypervolume", "share", "r2"):
        values = [front[name] for front in fronts]
        row[name], row[f"{name}_std"] = float(np.mean(values)), deviation(values)
    row["together"] = indicators(group.values, reference, ideal, group.maximise)
    for name, measure in (("preference_error", preference_error), ("max_weighted_loss", max_weighted_loss)):
        row[name] = _mean_over_preferences(group.runs, measure)
    return row


def _mean_of(runs: Sequence[Run], source: str, metrics: Mapping[str, str] | None) -> float | None:
    """The mean objective of single-task runs of one task; None if there are no runs."""
    return float(objectives(runs, source, metrics=metrics).values.mean()) if runs else None


def _mean_over_preferences(runs: Sequence[Run], measure: Callable[[Any, Any], Any]) -> float | None:
    """The mean of a measure of training losses; None if no run has a ray.

    Conditioned runs are left out, because their training losses belong to randomly drawn preferences.
    """
    found = []
    for run in runs:
        if not has_ray(run.preference) or run.card.config.get("conditioned"):
            continue
        losses = [run.objective(task, "train_loss")[0] for task in run.tasks]
        if min(losses) >= 0 and max(losses) > 0:
            found.append(float(measure(losses, run.preference)))
    return float(np.mean(found)) if found else None
