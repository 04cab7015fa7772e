"""Compare runs list by list: delta-m, paired intervals and tests, and which tasks lost by learning together."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro


@dataclasses.dataclass(frozen=True)
class Compare:
    """Prints a table of runs with marks: + significantly better than the first, - significantly worse (Holm, 5 %).

    Runs that differ only in their seed are averaged list by list. Delta-m and the report on negative transfer need
    runs of one task alone with the same settings: they are looked for beside the given runs, or named.

    Args:
        runs: names of runs, or of sweeps, which stand for all their runs; the first is what the others are compared
            with.
        split: train, vali or test; tfmtl2r evaluate adds a split to a run.
        single: names of single-task runs, or of sweeps that hold some.
        seed: of bootstrap and permutations.
        directory: where runs are kept.
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    split: str = "test"
    single: tuple[str, ...] = ()
    seed: int = 0
    directory: str = "runs"


def main(arguments: Sequence[str]) -> None:
    """Prints the tables."""
    options = tyro.cli(Compare, args=list(arguments), prog="tfmtl2r compare")
    from tfmtl2r.pareto.significance import compare, grouped, negative_transfer, single_runs
    from tfmtl2r.report.tables import show

    given = _unique(run for name in options.runs for run in _resolve(options.directory, name))
    # Single-task runs are what the others refer to, unless there is nothing else.
    groups = grouped([run for run in given if len(run.tasks) > 1] or given)
    first = next(iter(groups))
    comparisons = compare(groups, first, options.split, options.seed)
    beside = _unique(run for name in options.single for run in _resolve(options.directory, name)) or _beside(given)
    single = {name: single_runs(runs, beside) for name, runs in groups.items() if len(runs[0].tasks) > 1}
    show(results_table(groups, comparisons, single, options.split))
    if comparisons:
        print("\n".join(difference_lines(comparisons, f"against {first}")))
    pairs = {name: found for name, found in single.items() if found}
    if not pairs:
        print("no single-task runs with the same settings were found: no delta-m, no report on negative transfer; "
              "tfmtl2r sweep trains them, --single names them")
        return
    report = negative_transfer({name: groups[name] for name in pairs}, pairs, options.split, options.seed)
    print("\n".join([*difference_lines(report, "against single-task training"), "", *transfer_lines(report)]))


def results_table(groups: Mapping[str, Sequence[Any]], comparisons: Sequence[Any], single: Mapping[str, Any],
                  split: str) -> Any:
    """One row per group: every metric with its mark, and delta-m."""
    from rich.table import Table

    from tfmtl2r.pareto.significance import delta_m, mean_results

    results = {name: mean_results(runs, split) for name, runs in groups.items()}
    columns = list(dict.fromkeys((task, metric) for row in results.values() for task in row for metric in row[task]))
    marks = {(c.ours, c.task, c.metric): c.mark for c in comparisons}
    table = Table(title=f"{split} split, mean over seeds; +/- against {next(iter(groups))}", title_justify="left")
    table.add_column("")
    for name in ("seeds", *(f"{task}\n{metric}" for task, metric in columns), "delta-m %\n(below 0 is better)"):
        table.add_column(name, justify="right")
    for name, row in results.items():
        cells = [f"{row[task][metric]['value']:.4f}{marks.get((name, task, metric), '') or ' '}"
                 if metric in row.get(task, {}) else "" for task, metric in columns]
        base = {task: mean_results(runs, split)[task] for task, runs in single.get(name, {}).items()}
        change = f"{delta_m(row, base):+.2f}" if set(row) <= set(base) else ""
        table.add_row(name, str(len(groups[name])), *cells, change)
    return table


def difference_lines(comparisons: Sequence[Any], title: str) -> list[str]:
    """A line per comparison, below the name of what is compared."""
    lines = ["", f"{title}: paired differences, 95 % bootstrap interval, p of the permutation test, after Holm"]
    wide = max((len(f"{c.task} {c.metric}") for c in comparisons), default=0)
    for name in dict.fromkeys(c.ours for c in comparisons):
        lines.append(name)
        for c in (c for c in comparisons if c.ours == name):
            verdict = {"+": "better", "-": "worse"}.get(c.mark, "no clear difference")
            lines.append(f"  {f'{c.task} {c.metric}':<{wide}}  {c.difference:+.4f} [{c.low:+.4f}, {c.high:+.4f}]  "
                         f"p {c.p:.4f}, {c.adjusted:.4f}  {c.lists} lists  {verdict}")
    return lines


def transfer_lines(report: Sequence[Any]) -> list[str]:
    """The report on negative transfer in words, one line per group."""
    lines = []
    for name in dict.fromkeys(c.ours for c in report):
        lost = [c for c in report if c.ours == name and not c.better and c.difference != 0]
        named = [f"{c.task} {c.metric} {c.difference:+.4f} ({'significant' if c.mark else 'not significant'}, "
                 f"p {c.adjusted:.3g})" for c in lost]
        lines.append(f"negative transfer, {name}: {'; '.join(named) or 'no task lost'}")
    return lines


def _resolve(directory: str, name: str) -> list[Any]:
    """A run, or all runs of a sweep."""
    from tfmtl2r.pareto.runs import load, load_all

    folder = Path(directory) / name
    if list(folder.glob("*/run.json")) and not (folder / "run.json").is_file():
        return load_all(folder)
    return [load(folder)]


def _beside(runs: Sequence[Any]) -> list[Any]:
    """All runs in the folders of the given ones."""
    from tfmtl2r.pareto.runs import load_all

    return [run for folder in dict.fromkeys(run.folder.parent for run in runs) for run in load_all(folder)]


def _unique(runs: Iterable[Any]) -> list[Any]:
    return list({run.folder: run for run in runs}.values())
