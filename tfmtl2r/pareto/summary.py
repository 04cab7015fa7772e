"""What a sweep amounts to: its fronts, their indicators with what they depend on, and the run to take."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r.pareto.front import Reference, indicators, knee, max_weighted_loss, nearest, preference_error
from tfmtl2r.pareto.front import reference_point as worst_point
from tfmtl2r.pareto.runs import Objectives, Run, objectives

FILE = "pareto.json"
PICKS = ("knee", "nearest")


@dataclasses.dataclass(frozen=True)
class Summary:
    """Fronts of a sweep in one objective space.

    Args:
        points: all runs that learn every task.
        groups: the same, one set per method (and architecture, where there are several).
        single: value of single-task training for each objective, the mean over seeds; None where it was not run.
        reference: of all hypervolumes.
        ideal: the best value of each objective, single-task training included.
        rows: per group, indicators; see :func:`summarise`.
    """

    points: Objectives
    groups: dict[str, Objectives]
    single: tuple[float | None, ...]
    reference: Reference
    ideal: tuple[float, ...]
    rows: dict[str, dict[str, Any]]

    def save(self, folder: str | Path) -> Path:
        """Writes ``pareto.json``: the indicators with objectives, reference point and rule, ideal."""
        path = Path(folder) / FILE
        content = {"objectives": self.points.labels, "maximise": self.points.maximise, "single_task": self.single,
                   "reference": self.reference.point, "reference_rule": self.reference.rule, "ideal": self.ideal,
                   "groups": self.rows}
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, path)
        return path


def summarise(
    runs: Iterable[Run], source: str = "test", tasks: Sequence[str] = (), metrics: Mapping[str, str] | None = None,
    reference: Sequence[float] = (),
) -> Summary:
    """Places the runs of a sweep in objective space and measures the front of each method.

    The indicators of a group are those of each seed's front, as mean and standard deviation over seeds
    (``hypervolume``, ``share``, ``r2``), and of all seeds together (``together``). Where runs have a preference above
    0 for every task, ``preference_error`` (radians) and ``max_weighted_loss`` are means over runs of the training
    losses.

    Args:
        runs: of a sweep; those of one task alone become lines, the others points.
        source: see :meth:`tfmtl2r.pareto.runs.Run.objective`.
        tasks: the objectives; all if empty.
        metrics: task -> metric; the first of each task if None.
        reference: of the hypervolume; :func:`tfmtl2r.pareto.reference_point` of all points if empty.

    Raises:
        ValueError: when no run learns all tasks; see also :func:`tfmtl2r.pareto.runs.objectives`.
    """
    runs = list(runs)
    every = tuple(dict.fromkeys(task for run in runs for task in run.tasks))
    tasks = tuple(tasks) or every
    complete = [run for run in runs if len(run.tasks) > 1 and set(tasks) <= set(run.tasks)]
    if not complete:
        raise ValueError(f"no finished run learns all of {', '.join(tasks) or 'the tasks'}: there is no front to show")
    points = objectives(complete, source, tasks, metrics)
    single: list[float | None] = []
    for task in tasks:
        alone = [run for run in runs if run.tasks == (task,)]
        values = [run.objective(task, source, (metrics or {}).get(task))[0] for run in alone]
        single.append(float(np.mean(values)) if values else None)
    known = [best if value is None else (max if up else min)(best, value)
             for best, value, up in zip(points.ideal(), single, points.maximise, strict=True)]
    limit = (Reference(tuple(map(float, reference))) if len(reference)
             else worst_point(points.values, points.maximise))
    groups = by_method(points)
    ideal = tuple(map(float, known))
    return Summary(points, groups, tuple(single), limit, ideal,
                   {name: _row(group, limit, ideal) for name, group in groups.items()})


def by_method(points: Objectives) -> dict[str, Objectives]:
    """One set per method, and per architecture where there are several."""
    several = len({run.architecture for run in points.runs}) > 1
    names = [f"{run.method} {run.architecture}" if several else run.method for run in points.runs]
    return {name: points.where([other == name for other in names]) for name in dict.fromkeys(names)}


def pick(points: Objectives, how: str, preference: Sequence[float] = ()) -> int:
    """The run to take.

    Args:
        points: all candidates.
        how: ``"knee"`` (:func:`tfmtl2r.pareto.knee`) or ``"nearest"`` (:func:`tfmtl2r.pareto.nearest`).
        preference: importance of each objective, for ``"nearest"``.

    Returns:
        The row.

    Raises:
        ValueError: for another rule, or a preference that is missing or not used.
    """
    if how not in PICKS:
        raise ValueError(f"pick must be one of {', '.join(PICKS)}, not {how!r}")
    if how == "knee":
        if len(preference):
            raise ValueError("the knee asks for no preference: leave it out, or pick nearest")
        return knee(points.values, points.maximise)
    if not len(preference):
        raise ValueError(f"nearest to what? give a preference: the importance of {', '.join(points.labels)}")
    return nearest(points.values, preference, points.maximise)


def _row(group: Objectives, reference: Reference, ideal: Sequence[float]) -> dict[str, Any]:
    seeds = np.array([run.seed for run in group.runs])
    fronts = [indicators(group.values[seeds == seed], reference, ideal, group.maximise) for seed in np.unique(seeds)]
    row: dict[str, Any] = {"runs": len(group.runs), "seeds": len(fronts)}
    for name in ("hypervolume", "share", "r2"):
        values = [front[name] for front in fronts]
        row[name], row[f"{name}_std"] = float(np.mean(values)), float(np.std(values))
    row["together"] = indicators(group.values, reference, ideal, group.maximise)
    for name, measure in (("preference_error", preference_error), ("max_weighted_loss", max_weighted_loss)):
        row[name] = _mean_over_preferences(group.runs, measure)
    return row


def _mean_over_preferences(runs: Sequence[Run], measure: Callable[[Any, Any], Any]) -> float | None:
    """Of the training losses; None where no run has a ray."""
    found = []
    for run in runs:
        losses = [run.objective(task, "train_loss")[0] for task in run.tasks]
        if run.preference and min(run.preference) > 0 and min(losses) >= 0 and max(losses) > 0:
            found.append(float(measure(losses, run.preference)))
    return float(np.mean(found)) if found else None
