"""Compare runs list by list: delta-m, paired intervals and tests, and negative transfer between tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from tfmtl2r.figures import figure, signed

if TYPE_CHECKING:
    from rich.table import Table


@dataclasses.dataclass(frozen=True)
class Compare:
    """Prints a table of runs with marks: + significantly better than the first, - significantly worse (Holm, 5 %).

    Runs that differ only in their seed are averaged list by list. Delta-m and the report on negative transfer require
    single-task runs on the same data. By default the command finds runs with the same settings in the folders of the
    given runs; --single names other runs.

    Args:
        runs: names of runs, or of sweeps, which stand for all their runs. The first run is the baseline.
        split: train, vali or test; tfmtl2r evaluate adds a split to a run.
        single: names of single-task runs on the same data, with any settings, or of sweeps that contain such runs.
        seed: seed of bootstrap and permutations.
        directory: the folder of all runs.
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    split: str = "test"
    single: tuple[str, ...] = ()
    seed: int = 0
    directory: str = "runs"


def main(arguments: Sequence[str]) -> None:
    """Prints the tables."""
    options = tyro.cli(Compare, args=list(arguments), prog="tfmtl2r compare")
    from tfmtl2r.evaluation.significance import compare, grouped, negative_transfer, single_runs
    from tfmtl2r.report.tables import show

    given = _unique(run for name in options.runs for run in _resolve(options.directory, name))
    # Single-task runs are references and not compared, unless there are no other runs.
    groups = grouped([run for run in given if len(run.tasks) > 1] or given)
    first = next(iter(groups))
    comparisons = compare(groups, first, options.split, options.seed, untested=True)
    beside = _unique(run for name in options.single for run in _resolve(options.directory, name)) or _beside(given)
    single = {name: single_runs(runs, beside, alike=not options.single) for name, runs in groups.items()
              if len(runs[0].tasks) > 1}
    changes, reasons = delta_ms(groups, single, options.split)
    show(results_table(groups, comparisons, changes, options.split))
    for name, reason in reasons.items():
        print(f"no delta-m of {name}: {reason}")
    if comparisons:
        print("\n".join(difference_lines(comparisons, f"against {first}")))
    pairs = {name: found for name, found in single.items() if found}
    if not pairs:
        print("no run of one task alone on the same data is among those of --single" if options.single else
              "no single-task runs with the same settings were found: no delta-m, no report on negative transfer; "
              "tfmtl2r sweep trains them, --single names any")
        return
    report = negative_transfer({name: groups[name] for name in pairs}, pairs, options.split, options.seed,
                               untested=True)
    print("\n".join([*difference_lines(report, "against single-task training"), "", *transfer_lines(report)]))


def delta_ms(groups: Mapping[str, Sequence[Any]], single: Mapping[str, Any], split: str) -> tuple[
        dict[str, float], dict[str, str]]:
    """Delta-m of each group with single-task runs of all its tasks, and the reasons why other groups have none."""
    from tfmtl2r.evaluation.significance import delta_m, mean_results

    changes, reasons = {}, {}
    for name, alone in single.items():
        row = mean_results(groups[name], split)
        if alone and set(row) <= set(alone):
            try:
                changes[name] = delta_m(row, {task: mean_results(runs, split)[task] for task, runs in alone.items()})
            except ValueError as reason:
                reasons[name] = str(reason)
        elif alone:
            reasons[name] = f"no single-task run of {', '.join(sorted(set(row) - set(alone)))}"
    return changes, reasons


def results_table(groups: Mapping[str, Sequence[Any]], comparisons: Sequence[Any], changes: Mapping[str, float],
                  split: str) -> Table:
    """One row per group: every metric with its mark, and delta-m."""
    from rich.table import Table

    from tfmtl2r.evaluation.significance import mean_results

    results = {name: mean_results(runs, split) for name, runs in groups.items()}
    columns = list(dict.fromkeys((task, metric) for row in results.values() for task in row for metric in row[task]))
    marks = {(c.ours, c.task, c.metric): c.mark for c in comparisons}
    table = Table(title=f"{split} split, mean over seeds; +/- against {next(iter(groups))}", title_justify="left")
    table.add_column("")
    for name in ("seeds", *(f"{task}\n{metric}" for task, metric in columns), "delta-m %\n(below 0 is better)"):
        table.add_column(name, justify="right")
    for name, row in results.items():
        cells = [f"{figure(row[task][metric]['value'])}{marks.get((name, task, metric), '') or ' '}"
                 if metric in row.get(task, {}) else "" for task, metric in columns]
        table.add_row(name, str(len(groups[name])), *cells, f"{changes[name]:+.2f}" if name in changes else "")
    return table


def difference_lines(comparisons: Sequence[Any], title: str) -> list[str]:
    """A line per comparison, below the name of the compared group."""
    lines = ["", f"{title}: paired differences, 95 % bootstrap interval, p of the permutation test, after Holm"]
    wide = max((len(f"{c.task} {c.metric}") for c in comparisons), default=0)
    for name in dict.fromkeys(c.ours for c in comparisons):
        lines.append(name)
        for c in (c for c in comparisons if c.ours == name):
            if c.untested:
                lines.append(f"  {f'{c.task} {c.metric}':<{wide}}  {signed(c.difference)}  not tested: {c.untested}")
                continue
            verdict = {"+": "better", "-": "worse"}.get(c.mark, "no clear difference")
            lines.append(f"  {f'{c.task} {c.metric}':<{wide}}  {signed(c.difference)} [{signed(c.low)}, "
                         f"{signed(c.high)}]  p {c.p:.4f}, {c.adjusted:.4f}  {c.num_lists} lists  {verdict}")
    return lines


def transfer_lines(report: Sequence[Any]) -> list[str]:
    """The report on negative transfer in words, one line per group, including metrics that were not tested."""
    lines = []
    for name in dict.fromkeys(c.ours for c in report):
        of_group = [c for c in report if c.ours == name]
        named = [f"{c.task} {c.metric} {signed(c.difference)} ({'significant' if c.mark else 'not significant'}, "
                 f"p {c.adjusted:.3g})" for c in of_group if not c.untested and not c.better and c.difference != 0]
        untested = ", ".join(f"{c.task} {c.metric} {signed(c.difference)}" for c in of_group if c.untested)
        lines.append(f"negative transfer, {name}: "
                     + ("; ".join(named) or ("no tested metric lost" if untested else "no task lost"))
                     + (f"; not tested: {untested}" if untested else ""))
    return lines


def _resolve(directory: str, name: str) -> list[Any]:
    """A run, or all runs of a sweep."""
    from tfmtl2r.runs.finished import load, load_all
    from tfmtl2r.runs.places import find, holds_runs
    from tfmtl2r.sweeps import manifest

    folder = find(directory, name)
    several = holds_runs(folder) or (folder / manifest.FILE).is_file()
    return load_all(folder) if several else [load(folder)]


def _beside(runs: Sequence[Any]) -> list[Any]:
    """All runs in the folders of the given runs, without those whose plug-ins are not imported."""
    from tfmtl2r.runs.finished import load_all

    folders = dict.fromkeys(run.folder.parent for run in runs)
    return [run for folder in folders for run in load_all(folder, unasked=True)]


def _unique(runs: Iterable[Any]) -> list[Any]:
    return list({run.folder: run for run in runs}.values())
