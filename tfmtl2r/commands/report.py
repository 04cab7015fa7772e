"""Write an HTML report of one or more sweeps: one offline file with sortable tables and interactive fronts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from tfmtl2r.commands.pareto import numbers
from tfmtl2r.figures import figure, signed

if TYPE_CHECKING:
    from tfmtl2r.pages.bars import Bars
    from tfmtl2r.pages.html import Cell, Front, Section, Table
    from tfmtl2r.pareto import ServedFronts, Summary
    from tfmtl2r.runs import Run
    from tfmtl2r.sweeps.study import Study

__all__ = ["Report", "write_report"]

FILE = "report.html"
_FEATURES = 15
"""The largest number of features in a chart."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Writes FOLDER/report.html from the run cards in the folder, without any training.

    Args:
        folder: the name of a sweep, or a folder of runs or sweeps, such as runs.
        to: the file; by default FOLDER/report.html.
        directory: the folder of all runs.
    """

    folder: Annotated[str, tyro.conf.Positional]
    to: str = ""
    directory: str = "runs"


def main(arguments: Sequence[str]) -> None:
    """Writes the file and prints its path."""
    options = tyro.cli(Report, args=list(arguments), prog="tfmtl2r report")
    from tfmtl2r.runs.places import find
    from tfmtl2r.sweeps.study import study, sweeps

    folder = Path(options.folder)
    if not folder.is_dir():
        folder = find(options.directory, options.folder)
    print(write_report(folder, [study(sweep) for sweep in sweeps(folder)], options.to))


def write_report(folder: Path, studies: Sequence[Study], to: str | Path = "") -> Path:
    """Writes a report with one section per sweep.

    Args:
        folder: folder of the sweep or study.
        studies: the sweeps of the folder.
        to: the file; by default ``report.html`` in the folder.
    """
    from tfmtl2r.pages.html import write_html

    versions = studies[0].runs[0].card.versions
    return write_html(to or folder / FILE, folder.resolve().name, [_section(found) for found in studies],
                      "All numbers are from run cards. " + ", ".join(f"{k} {v}" for k, v in versions.items()))


def _section(found: Study) -> Section:
    from tfmtl2r.pages.html import Section
    from tfmtl2r.sweeps.study import conclusions

    if not found.summary:
        return Section(found.name, conclusions(found), [_runs_table(found.runs), *_importance(found.runs)])
    served: list[Table | Front | Bars] = []
    if found.served is not None:
        served = [_served(found.served), _served_front(found.served)]
    parts: list[Table | Front | Bars] = [_rankers_table(found), *served, _front(found.summary),
                                         _indicators(found.summary), _runs_table(found.runs), *_importance(found.runs)]
    lost = [*(() if found.served is None else found.served.left_out), *found.summary.left_out]
    left_out = [f"Not on the front: {line}." for line in dict.fromkeys(lost)]
    return Section(found.name, [*conclusions(found), *left_out], parts)


def _rankers_table(found: Study) -> Table:
    from tfmtl2r.pages.html import Cell, Column, Table

    first = found.rankers[0].results
    tasks = {task: next(iter(row)) for task, row in first.items()}
    baseline, against = next(iter(found.comparisons.items()), ("", []))
    told = {(c.ours, c.task, c.metric): c for c in against}
    columns = [
        Column("ranker"),
        *(Column(f"{task}\n{metric}", first[task][metric]["direction"], hint="test, mean over seeds"
                 + (f"; + and −: significantly better or worse than {baseline}" if baseline else ""))
          for task, metric in tasks.items()),
        Column("delta-m %", "min", 2, "mean relative loss against single-task training: below 0 is better"),
        Column("hypervolume", "max", 5, "of its front of what is served, points averaged over seeds; of own heads "
               "and a mean over seeds where that was not measured"),
        Column("seconds\na step", "min", 4, "median; the sum over tasks if every task has its own model; parallel "
               "runs on the same machine increase it"),
        Column("trainings", hint="per seed; a hypervolume needs one training per preference, or "
               "a single training of a conditioned ranker"), Column("seeds"),
    ]
    rows = []
    for ranker in found.rankers:
        cells = [Cell(ranker.name)]
        for task, metric in tasks.items():
            c = told.get((ranker.name, task, metric))
            seeds = "\n".join(f"seed {run.seed}: {figure(run.card.results['test'][task][metric]['value'])}"
                              for run in ranker.runs if task in run.tasks)
            difference = "" if c is None else (f"\nagainst {c.theirs}: {signed(c.difference)} [{signed(c.low)}, "
                                               f"{signed(c.high)}], p after Holm {c.adjusted:.4f}")
            cells.append(Cell(ranker.results[task][metric]["value"],
                              f"± {figure(ranker.spread[task])} over seeds\n{seeds}{difference}", c.mark if c else ""))
        cells += [_spread(ranker.change, 2), _spread(ranker.volume, 5), Cell(ranker.step_s), Cell(ranker.trainings),
                  Cell(ranker.seeds)]
        rows.append(cells)
    return Table("Rankers", columns, rows)


def _served(found: ServedFronts) -> Table:
    from tfmtl2r.pages.html import Cell, Column, Table

    columns = [
        Column("front"), Column("points"), Column("seeds"), Column("trainings", "min", hint="per seed"),
        Column("U", "max", 4, "mean over preferences of preference times metrics, on the order served there"),
        Column("U above\nits null", "max", 4, "null: the equal-weight ranker asked at equal importance"),
        Column("U above\none ranker", "max", 4, "against one ranker, blended, at the same preferences"),
        Column("hypervolume", "max", 5, "of points averaged over seeds"),
    ]
    rows = [[Cell(name), Cell(row["points"]), Cell(row["seeds"]), Cell(row["trainings"]), Cell(row["utility"]),
             Cell(row["gain"], _error(row["error"])), Cell(row["over_blended"], _error(row["over_blended_error"])),
             _spread((row["hypervolume"], row["hypervolume_std"]), 5)] for name, row in found.rows.items()]
    first = next(iter(found.rows.values()))
    if first["null_points"]:
        empty = [Cell(None) for _ in range(3)]
        rows.append([Cell("null: equal-weight seeds, not averaged"), Cell(first["null_points"]),
                     Cell(first["null_points"]), Cell(1), *empty, Cell(first["null_hypervolume"])])
    return Table(f"Served ranking; reference point {numbers(found.reference.point)}: {found.reference.rule}", columns,
                 rows)


def _error(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"± {figure(value)}, one standard error"


def _served_front(found: ServedFronts) -> Front:
    from tfmtl2r.pages.html import Front, Point

    shown = []
    for name, curve in found.curves().items():
        for preference, values in zip(curve.preferences, curve.values, strict=True):
            reached = "\n".join(f"{label}: {figure(value)}" for label, value in zip(found.labels, values, strict=True))
            shown.append(Point(tuple(map(float, values)), name,
                               f"{name}\npreference {numbers(preference.tolist())}\n{reached}"))
    return Front("Served ranking: one order per preference, points averaged over seeds", found.labels,
                 (True,) * len(found.labels), shown)


def _front(summary: Summary) -> Front:
    from tfmtl2r.pages.html import Front, Point
    from tfmtl2r.pareto.front import bands, non_dominated

    points = summary.points
    on = non_dominated(points.values, points.maximise)
    names = {run.card.name: name for name, group in summary.groups.items() for run in group.runs}
    shown = []
    for run, values, kept in zip(points.runs, points.values, on, strict=True):
        preference = f"\npreference {numbers(run.preference)}" if run.preference else ""
        reached = "\n".join(f"{label}: {figure(value)}" for label, value in zip(points.labels, values, strict=True))
        shown.append(Point(tuple(map(float, values)), names[run.card.name],
                           f"{names[run.card.name]}, seed {run.seed}{preference}\n{reached}", run.card.name, not kept))
    corners = {}
    if len(points.labels) == 2:
        for name, group in summary.groups.items():
            fronts = [group.values[group.seeds == seed] for seed in sorted({*group.seeds.tolist()})]
            corners[name] = bands(fronts, (50,), points.maximise)[0]
    title = (f"Each task by its own head: {int(on.sum())} of {len(on)} points are dominated by none (others are pale)"
             + ("; lines: what at least half of the seeds attain" if corners else ""))
    return Front(title, points.labels, points.maximise, shown, corners, summary.single)


def _indicators(summary: Summary) -> Table:
    from tfmtl2r.pages.html import Cell, Column, Table

    columns = [Column("method"), Column("points"), Column("runs"), Column("hypervolume", "max", 5, "mean over seeds"),
               Column("share of box", "max", 4, "between ideal and reference point"), Column("R2", "min", 5)]
    rows = [[Cell(name), Cell(row["points"]), Cell(row["runs"]), *(_spread((row[key], row[f"{key}_std"]), 5)
                                              for key in ("hypervolume", "share", "r2"))]
            for name, row in summary.rows.items()]
    return Table("Indicators of own heads; reference point "
                 f"{numbers(summary.reference.point)}: {summary.reference.rule}", columns, rows)


def _runs_table(runs: Sequence[Run]) -> Table:
    from tfmtl2r.pages.html import Cell, Column, Table

    pairs = {(task, metric): score["direction"] for run in runs for task, row in run.card.results["test"].items()
             for metric, score in row.items()}
    columns = [Column("method"), Column("architecture"), Column("preference"), Column("seed"),
               *(Column(f"{task}\n{metric}", direction) for (task, metric), direction in pairs.items()),
               Column("ms\na step", "min", 2), Column("MiB", "min", 0, "highest resident memory of the process")]
    rows = []
    for run in runs:
        method = f"single-task {run.tasks[0]}" if len(run.tasks) == 1 else run.method
        results = run.card.results["test"]
        rows.append([
            Cell(method, run.card.name), Cell(run.architecture), Cell(numbers(run.preference)), Cell(run.seed),
            *(Cell(results.get(task, {}).get(metric, {}).get("value")) for task, metric in pairs),
            Cell(run.card.step_ms), Cell(run.card.peak_memory_mb),
        ])
    return Table("Runs, test", columns, rows, [run.card.name for run in runs])


def _importance(runs: Sequence[Run]) -> list[Bars]:
    """A chart for each run and split of which the importance of features was measured."""
    from tfmtl2r.pages.bars import Bar, Bars
    from tfmtl2r.report.tables import HALF

    found = []
    for run in runs:
        for split, measured in run.card.importance.items():
            shown = measured["features"][:_FEATURES]
            rows = [(one["name"], [
                Bar(drop["drop"], HALF * drop["error"], f"{one['name']}, {task}: {signed(drop['drop'])} \u00b1 "
                    f"{figure(HALF * drop['error'])} (95 %), exchanged by {one['of']}")
                for task, drop in one["tasks"].items()]) for one in shown]
            of = f"the {len(shown)} most important of {len(measured['features'])} features"
            found.append(Bars(f"Importance of features, {run.card.name}, {split}: {of}",
                              "drop of the metric if the values are exchanged; lines: 95 % intervals over lists",
                              [f"{task} {metric}" for task, metric in measured["metrics"].items()], rows))
    return found


def _spread(values: tuple[float, float] | None, digits: int) -> Cell:
    from tfmtl2r.pages.html import Cell

    return Cell(None) if values is None else Cell(values[0], f"± {values[1]:.{digits}f} over seeds")
