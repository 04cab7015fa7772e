"""What a sweep amounts to: its fronts, their indicators with what they depend on, and the run to take."""

from __future__ import annotations

import dataclasses
import json
import os
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

if TYPE_CHECKING:
    from tfmtl2r.pareto.conditioned import Curve

FILE = "pareto.json"
PICKS = ("knee", "nearest")


@dataclasses.dataclass(frozen=True)
class Summary:
    """Fronts of a sweep in one objective space.

    Args:
        points: all runs that learn every task; of conditioned ones their curves.
        groups: the same, one set per method (and architecture and other settings, where they differ).
        single: architecture -> value of single-task training for each objective, the mean over seeds; None where it
            was not run.
        reference: of all hypervolumes.
        ideal: the best value of each objective, single-task training included.
        rows: per group, indicators; see :func:`summarise`.
        left_out: a line for each run that has no place among them, since an objective is not a finite number.
    """

    points: Objectives
    groups: dict[str, Objectives]
    single: dict[str, tuple[float | None, ...]]
    reference: Reference
    ideal: tuple[float, ...]
    rows: dict[str, dict[str, Any]]
    left_out: tuple[str, ...] = ()

    def save(self, folder: str | Path) -> Path:
        """Writes ``pareto.json``: the indicators with objectives, reference point and rule, ideal."""
        return write(folder, {
            "objectives": self.points.labels, "maximise": self.points.maximise, "single_task": self.single,
            "reference": self.reference.point, "reference_rule": self.reference.rule, "ideal": self.ideal,
            "left_out": self.left_out, "groups": self.rows,
        })


def write(folder: str | Path, content: Mapping[str, Any]) -> Path:
    """Writes ``pareto.json`` into a folder, in one go."""
    path = Path(folder) / FILE
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
    (``hypervolume``, ``share``, ``r2``), and of all seeds together (``together``). Where runs have a preference that
    has a ray (:func:`tfmtl2r.preferences.has_ray`), ``preference_error`` (radians) and ``max_weighted_loss`` are
    means over these runs of the training losses; they compare groups of the same preferences.

    Args:
        runs: of a sweep; those of one task alone become lines, the others points (a conditioned run the points of its
            curve), but those where an objective is not a finite number.
        source: see :meth:`tfmtl2r.runs.finished.Run.objective`.
        tasks: the objectives; all if empty.
        metrics: task -> metric; the first of each task if None.
        reference: of the hypervolume; :func:`tfmtl2r.pareto.reference_point` of all points if empty.

    Raises:
        ValueError: when no run learns all tasks; see also :func:`tfmtl2r.runs.finished.objectives`.
    """
    runs = list(runs)
    every = tuple(dict.fromkeys(task for run in runs for task in run.tasks))
    tasks = tuple(tasks) or every
    complete = [run for run in runs if len(run.tasks) > 1 and set(tasks) <= set(run.tasks)]
    if not complete:
        raise InputError(f"no finished run learns all of {', '.join(tasks) or 'the tasks'}: there is no front to show")
    kept, left_out = finite([point for run in complete for point in run.points(source)], source, tasks, metrics)
    if not kept:
        raise InputError(left_out[0])
    points = objectives(kept, source, tasks, metrics)
    alone, lost = finite([run for run in runs if len(run.tasks) == 1 and run.tasks[0] in tasks], source,
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
    """One set per method, and per architecture and other settings where they differ; preferences and seeds together."""
    names = [run.method + what for run, what in zip(points.runs, told_apart(points.runs), strict=True)]
    return {name: points.where([other == name for other in names]) for name in dict.fromkeys(names)}


def pick(points: Objectives | Curve, how: str, preference: Sequence[float] = ()) -> int:
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
        raise InputError(f"pick must be one of {', '.join(PICKS)}, not {how!r}")
    if how == "knee":
        if len(preference):
            raise InputError("the knee asks for no preference: leave it out, or pick nearest")
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
    """Of single-task runs of one task; None where there is none."""
    return float(objectives(runs, source, metrics=metrics).values.mean()) if runs else None


def _mean_over_preferences(runs: Sequence[Run], measure: Callable[[Any, Any], Any]) -> float | None:
    """Of the training losses; None where no run has a ray. Those of a conditioned run are of drawn preferences."""
    found = []
    for run in runs:
        if not has_ray(run.preference) or run.card.config.get("conditioned"):
            continue
        losses = [run.objective(task, "train_loss")[0] for task in run.tasks]
        if min(losses) >= 0 and max(losses) > 0:
            found.append(float(measure(losses, run.preference)))
    return float(np.mean(found)) if found else None
