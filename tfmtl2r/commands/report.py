"""Write a sweep, or a study of several, as one HTML file: sortable tables, fronts to hover over, opens offline."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from tfmtl2r.commands.pareto import _numbers

FILE = "report.html"
BASELINES = "baselines"
"""Subfolder of a sweep for run cards of rankers that no sweep trains, such as boosted trees."""
EQUAL, TUNED, SINGLE = "equal weights", "tuned weights", "single-task"
Results = Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Report:
    """Writes FOLDER/report.html from the run cards below it; trains nothing.

    Args:
        folder: a sweep, such as runs/NAME, or a folder of sweeps.
        to: the file; FOLDER/report.html if not given.
    """

    folder: Annotated[str, tyro.conf.Positional]
    to: str = ""


@dataclasses.dataclass(frozen=True)
class Ranker:
    """A row of the comparison: one way of training, all seeds.

    Args:
        name: shown.
        runs: one per seed; for single-task training one per task and seed.
        results: test, the mean over seeds.
        seeds: how many.
        spread: task -> standard deviation over seeds of its first metric.
        change: delta-m in percent, mean and standard deviation over seeds; None without single-task runs.
        volume: hypervolume of its front of preferences, mean and standard deviation over seeds; None without one.
        trainings: per seed, what it took to get this row.
        step_s: seconds of a training step; of one step for every task where each has a model of its own.
        special: a balancing method other than weights on the losses.
        alone: task -> its single-task runs.
    """

    name: str
    runs: Sequence[Any]
    results: Results
    seeds: int
    spread: Mapping[str, float]
    change: tuple[float, float] | None
    volume: tuple[float, float] | None
    trainings: int
    step_s: float | None
    special: bool
    alone: Mapping[str, Sequence[Any]]


@dataclasses.dataclass(frozen=True)
class Study:
    """A sweep and what it amounts to.

    Args:
        name: of the folder.
        runs: the sweep's finished ones.
        rankers: rows of the comparison, best first.
        comparisons: baseline (``"tuned weights"``, ``"equal weights"``) -> all others against it.
        transfer: all rankers of several tasks against single-task training.
        summary: fronts, see :func:`tfmtl2r.pareto.summary.summarise`; None if no run learns all tasks.
        unfinished: names of planned runs without a result.
    """

    name: str
    runs: Sequence[Any]
    rankers: Sequence[Ranker]
    comparisons: Mapping[str, Sequence[Any]]
    transfer: Sequence[Any]
    summary: Any
    unfinished: Sequence[str]


def main(arguments: Sequence[str]) -> None:
    """Writes the file and prints its path."""
    options = tyro.cli(Report, args=list(arguments), prog="tfmtl2r report")
    folder = Path(options.folder)
    print(write_report(folder, [study(sweep) for sweep in sweeps(folder)], options.to))


def write_report(folder: Path, studies: Sequence[Study], to: str | Path = "") -> Path:
    """One section for each sweep.

    Args:
        folder: of the sweep or study.
        studies: its sweeps.
        to: the file; ``report.html`` in the folder if empty.
    """
    from tfmtl2r.report.html import write_html

    versions = studies[0].runs[0].card.versions
    return write_html(to or folder / FILE, folder.resolve().name, [_section(found) for found in studies],
                      "All numbers are from run cards. " + ", ".join(f"{k} {v}" for k, v in versions.items()))


def sweeps(folder: Path) -> list[Path]:
    """The folder itself if it holds runs, else its subfolders that do.

    Raises:
        FileNotFoundError: when neither does.
    """
    if list(folder.glob("*/run.json")):
        return [folder]
    found = sorted({card.parent.parent for card in folder.glob("*/*/run.json")})
    if not found:
        raise FileNotFoundError(f"{folder} holds no finished run, nor do its subfolders; tfmtl2r sweep makes some")
    return found


def study(folder: Path) -> Study:
    """Reads a sweep and compares what it trained."""
    from tfmtl2r.pareto.runs import load_all, same_data
    from tfmtl2r.pareto.significance import compare, negative_transfer
    from tfmtl2r.pareto.summary import summarise

    runs = load_all(folder)
    beside = load_all(folder / BASELINES) if (folder / BASELINES).is_dir() else []
    same_data([*runs, *beside])
    manifest = folder / "sweep.json"
    planned = json.loads(manifest.read_text(encoding="utf-8"))["runs"] if manifest.is_file() else []
    unfinished = sorted({job["name"] for job in planned} - {run.card.name for run in runs})
    tasks = {task for run in runs for task in run.tasks}
    summary = summarise(runs) if any(len(run.tasks) > 1 and set(run.tasks) == tasks for run in runs) else None
    if summary is None:
        return Study(folder.name, runs, [], {}, [], None, unfinished)
    found = _rankers(summary, runs, beside)
    joint = {ranker.name: ranker for ranker in found if len(ranker.runs[0].tasks) > 1}
    groups = {name: ranker.runs for name, ranker in joint.items()}
    alone = {name: ranker.alone for name, ranker in joint.items() if ranker.alone}
    transfer = negative_transfer({name: groups[name] for name in alone}, alone) if alone else []
    comparisons = {name: compare(groups, name) for name in (TUNED, EQUAL) if name in groups}
    return Study(folder.name, runs, found, comparisons, transfer, summary, unfinished)


def tuned(candidates: Sequence[Any]) -> list[Any]:
    """For each seed the run with the best validation metrics.

    Best is the largest mean over tasks of the metric relative to its mean over all candidates, negated where small is
    good. Test results have no say.

    Args:
        candidates: runs of several preferences and seeds.
    """
    import numpy as np

    from tfmtl2r.pareto.runs import objectives

    found = objectives(candidates, "vali")
    scale = np.abs(found.values.mean(axis=0))
    gain = (np.where(found.maximise, 1, -1) * found.values / np.where(scale > 0, scale, 1)).mean(axis=1)
    best: dict[int, int] = {}
    for row, run in enumerate(candidates):
        if run.seed not in best or gain[row] > gain[best[run.seed]]:
            best[run.seed] = row
    return [candidates[row] for _, row in sorted(best.items())]


def verdict(comparisons: Sequence[Any], baseline: str, special: Sequence[str]) -> list[str]:
    """In words, which special methods beat a baseline: significantly better on a task and worse on none.

    Args:
        comparisons: all rankers against it.
        baseline: its name.
        special: names of special methods; every other ranker gets a line of its own.
    """
    kinds: dict[str, list[str]] = {"beats": [], "mixed": [], "worse": [], "same": []}
    lines = []
    for name in dict.fromkeys(c.ours for c in comparisons):
        better, worse = ([c.task for c in comparisons if c.ours == name and c.mark == mark] for mark in "+-")
        if name in special:
            kinds["mixed" if better and worse else "beats" if better else "worse" if worse else "same"].append(name)
        else:
            lines.append(f"{name[0].upper()}{name[1:]} against {baseline}: better on {', '.join(better) or 'no task'}, "
                         f"worse on {', '.join(worse) or 'no task'}.")
    total = sum(map(len, kinds.values()))
    if total:
        head = f"{len(kinds['beats'])} of {total} special methods beat" if kinds["beats"] else "No special method beats"
        found = [f"{head} {baseline}{': ' if kinds['beats'] else ''}{', '.join(kinds['beats'])}."]
        for kind, words in (("same", "No clear difference from"), ("worse", "Worse on a task and better on none than"),
                            ("mixed", "Better on one task and worse on another than")):
            if kinds[kind]:
                found.append(f"{words} {baseline}: {', '.join(kinds[kind])}.")
        lines.insert(0, " ".join(found))
    return lines


def conclusions(found: Study) -> list[str]:
    """What a sweep says, in words that follow from its comparisons."""
    from tfmtl2r.pareto.significance import LEVEL

    lines = []
    rows = {ranker.name: ranker for ranker in found.rankers}
    if TUNED in rows:
        chosen = [" : ".join(f"{p:.2g}" for p in run.preference) for run in rows[TUNED].runs]
        lines.append(f"Tuned weights: for each seed the best of {rows[TUNED].trainings} preferences by validation "
                     f"({', '.join(chosen)}), so {rows[TUNED].trainings} trainings; a special method is shown at one "
                     "preference, one training.")
    special = [ranker.name for ranker in found.rankers if ranker.special]
    for baseline, comparisons in found.comparisons.items():
        lines += verdict([c for c in comparisons if baseline == TUNED or c.ours in special], baseline, special)
    if found.transfer:
        lost = {name: [c.task for c in found.transfer if c.ours == name and c.mark == "-"]
                for name in dict.fromkeys(c.ours for c in found.transfer)}
        named = [f"{name} ({', '.join(tasks)})" for name, tasks in lost.items() if tasks]
        lines.append(f"Significantly below single-task training: {'; '.join(named) or 'nobody'}.")
    tests = [c for comparisons in found.comparisons.values() for c in comparisons]
    if tests:
        lists = sorted({min(c.lists for c in tests), max(c.lists for c in tests)})
        lines.append("Better and worse are meant as significant: paired differences list by list, permutation test, "
                     "Holm's correction over all comparisons with one baseline, 5 %. The tests ask whether a "
                     "difference carries over to other lists, given these seeds; they rest on "
                     f"{' to '.join(map(str, lists))} test lists.")
        if 2.0 ** (1 - lists[-1]) * max(map(len, found.comparisons.values())) >= LEVEL:
            lines.append("So few lists cannot show any difference among so many comparisons: that there is none here "
                         "means nothing.")
    if found.unfinished:
        lines.append(f"{len(found.unfinished)} planned runs have no result: {', '.join(found.unfinished)}.")
    return lines


def _rankers(summary: Any, runs: Sequence[Any], beside: Sequence[Any]) -> list[Ranker]:
    from tfmtl2r.experiment import Experiment
    from tfmtl2r.pareto.runs import described
    from tfmtl2r.pareto.significance import single_runs

    plain = described(Experiment("default").method)
    found: dict[str, Ranker] = {}
    alone: dict[str, list[Any]] = {}
    for name, group in summary.groups.items():
        preferences: dict[tuple[float, ...], list[Any]] = {}
        for run in group.runs:
            preferences.setdefault(run.preference, []).append(run)
        middle = min(preferences, key=lambda p: max(p, default=0.0) - min(p, default=0.0))
        even = max(middle, default=0.0) - min(middle, default=0.0) < 1e-6
        is_plain, several = group.runs[0].method == plain, len(preferences) > 1
        architecture = name.removeprefix(group.runs[0].method)  # empty where there is but one
        by_task = single_runs(group.runs, runs)
        alone = {task: by_task[task] for task in group.runs[0].tasks if task in by_task}
        if len(alone) == len(group.runs[0].tasks):
            these = [run for of_task in alone.values() for run in of_task]
            found[SINGLE + architecture] = _ranker(SINGLE + architecture, these, alone, trainings=len(alone))
        row = summary.rows[name]
        volume = (row["hypervolume"], row["hypervolume_std"]) if several else None
        shown = EQUAL + architecture if is_plain and even else name
        found[shown] = _ranker(shown, preferences[middle], alone, volume, special=not is_plain)
        if is_plain and several:
            shown = TUNED + architecture
            found[shown] = _ranker(shown, tuned(group.runs), alone, trainings=len(preferences))
    for name in dict.fromkeys(run.method.split()[0] for run in beside):
        these = [run for run in beside if run.method.split()[0] == name]
        found[name] = _ranker(name, these, alone, trainings=len(these[0].tasks))
    return sorted(found.values(), key=lambda ranker: ranker.change or (0.0, 0.0))


def _ranker(
    name: str, runs: Sequence[Any], alone: Mapping[str, Sequence[Any]], volume: tuple[float, float] | None = None,
    trainings: int = 1, special: bool = False,
) -> Ranker:
    import numpy as np

    from tfmtl2r.pareto.significance import delta_m, mean_results

    seeds: dict[int, dict[str, Any]] = {}
    steps: dict[tuple[str, ...], list[float]] = {}
    for run in runs:
        seeds.setdefault(run.seed, {}).update(run.card.results["test"])
        if run.card.step_ms:
            steps.setdefault(run.tasks, []).append(run.card.step_ms / 1000)
    results: dict[str, dict[str, Any]] = {}
    spread = {}
    for task, row in {task: row for of_seed in seeds.values() for task, row in of_seed.items()}.items():
        values = {metric: [of[task][metric]["value"] for of in seeds.values() if task in of] for metric in row}
        results[task] = {metric: {**row[metric], "value": float(np.mean(these))} for metric, these in values.items()}
        spread[task] = float(np.std(next(iter(values.values()))))
    changes = []
    if set(results) <= set(alone):
        base = {task: mean_results(alone[task])[task] for task in results}
        changes = [delta_m(of_seed, base) for of_seed in seeds.values()]
    change = (float(np.mean(changes)), float(np.std(changes))) if changes else None
    step = sum(float(np.median(times)) for times in steps.values()) if steps else None
    return Ranker(name, runs, results, len(seeds), spread, change, volume, trainings, step, special, alone)


def _section(found: Study) -> Any:
    from tfmtl2r.report.html import Section

    parts = [_rankers_table(found), _front(found.summary), _indicators(found.summary)] if found.summary else []
    return Section(found.name, conclusions(found), [*parts, _runs_table(found.runs)])


def _rankers_table(found: Study) -> Any:
    from tfmtl2r.report.html import Cell, Column, Table

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
        Column("hypervolume", "max", 5, "of its front over preferences, mean over seeds"),
        Column("seconds\na step", "min", 4, "median; of one step for each task where every task has its own model; "
               "runs beside it on the same machine slow it down"),
        Column("trainings", hint="per seed; a hypervolume takes one for every preference"), Column("seeds"),
    ]
    rows = []
    for ranker in found.rankers:
        cells = [Cell(ranker.name)]
        for task, metric in tasks.items():
            c = told.get((ranker.name, task, metric))
            seeds = "\n".join(f"seed {run.seed}: {run.card.results['test'][task][metric]['value']:.4f}"
                              for run in ranker.runs if task in run.tasks)
            difference = "" if c is None else (f"\nagainst {c.theirs}: {c.difference:+.4f} [{c.low:+.4f}, "
                                               f"{c.high:+.4f}], p after Holm {c.adjusted:.4f}")
            cells.append(Cell(ranker.results[task][metric]["value"],
                              f"± {ranker.spread[task]:.4f} over seeds\n{seeds}{difference}", c.mark if c else ""))
        cells += [_spread(ranker.change, 2), _spread(ranker.volume, 5), Cell(ranker.step_s), Cell(ranker.trainings),
                  Cell(ranker.seeds)]
        rows.append(cells)
    return Table("Rankers", columns, rows)


def _front(summary: Any) -> Any:
    from tfmtl2r.pareto.front import bands, non_dominated
    from tfmtl2r.report.html import Front, Point

    points = summary.points
    on = non_dominated(points.values, points.maximise)
    names = {run.card.name: name for name, group in summary.groups.items() for run in group.runs}
    shown = []
    for run, values, kept in zip(points.runs, points.values, on, strict=True):
        preference = f"\npreference {_numbers(run.preference)}" if run.preference else ""
        numbers = "\n".join(f"{label}: {value:.4f}" for label, value in zip(points.labels, values, strict=True))
        shown.append(Point(tuple(map(float, values)), names[run.card.name],
                           f"{names[run.card.name]}, seed {run.seed}{preference}\n{numbers}", run.card.name, not kept))
    corners = {}
    if len(points.labels) == 2:
        for name, group in summary.groups.items():
            seeds = sorted({run.seed for run in group.runs})
            fronts = [group.values[[run.seed == seed for run in group.runs]] for seed in seeds]
            corners[name] = bands(fronts, (50,), points.maximise)[0]
    title = (f"Front: {int(on.sum())} of {len(on)} runs are dominated by none (others are pale)"
             + ("; lines: what at least half of the seeds attain" if corners else ""))
    return Front(title, points.labels, points.maximise, shown, corners, summary.single)


def _indicators(summary: Any) -> Any:
    from tfmtl2r.report.html import Cell, Column, Table

    columns = [Column("method"), Column("runs"), Column("hypervolume", "max", 5, "mean over seeds"),
               Column("share of box", "max", 4, "between ideal and reference point"), Column("R2", "min", 5)]
    rows = [[Cell(name), Cell(row["runs"]), *(_spread((row[key], row[f"{key}_std"]), 5)
                                              for key in ("hypervolume", "share", "r2"))]
            for name, row in summary.rows.items()]
    return Table(f"Indicators; reference point {_numbers(summary.reference.point)}: {summary.reference.rule}", columns,
                 rows)


def _runs_table(runs: Sequence[Any]) -> Any:
    from tfmtl2r.report.html import Cell, Column, Table

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
            Cell(method, run.card.name), Cell(run.architecture), Cell(_numbers(run.preference)), Cell(run.seed),
            *(Cell(results.get(task, {}).get(metric, {}).get("value")) for task, metric in pairs),
            Cell(run.card.step_ms), Cell(run.card.peak_memory_mb),
        ])
    return Table("Runs, test", columns, rows, [run.card.name for run in runs])


def _spread(values: tuple[float, float] | None, digits: int) -> Any:
    from tfmtl2r.report.html import Cell

    return Cell(None) if values is None else Cell(values[0], f"± {values[1]:.{digits}f} over seeds")
