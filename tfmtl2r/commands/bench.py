"""Run a benchmark; tfmtl2r bench WHAT --help describes it."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tyro
from rich.table import Table

from tfmtl2r.errors import InputError
from tfmtl2r.report.tables import show

__all__ = ["Methods", "methods"]


@dataclasses.dataclass(frozen=True)
class Methods:
    """Measures the time of a training step of each method, relative to a step with the plain sum of losses.

    Methods with gradients are measured with exact gradients and with gradients at the cut.

    Args:
        tasks: numbers of tasks.
        methods: names of methods; by default all.
        rounds: measurements of each variant; a ratio is their median.
        steps: training steps per measurement.
        csv: CSV file for the rows; empty for none.
        picture: file for the plot; empty for none.
    """

    tasks: tuple[int, ...] = (2, 5, 10, 20)
    methods: tuple[str, ...] = ()
    rounds: int = 9
    steps: int = 2
    csv: str = "runs/bench_methods.csv"
    picture: str = "runs/bench_methods.png"


def methods(options: Methods) -> list[Any]:
    """Prints one table per number of tasks, writes CSV and picture, and returns the rows."""
    if not options.tasks or min(options.tasks) < 1:
        raise InputError(f"tasks must be numbers of at least 1, not {options.tasks}")
    if options.rounds < 1 or options.steps < 1:
        raise InputError(f"rounds and steps must be at least 1, not {options.rounds} and {options.steps}")
    from tfmtl2r.methods import names
    from tfmtl2r.report import benchmark

    chosen, rows = options.methods or names(), []
    for tasks in options.tasks:
        measured = benchmark.overheads(tasks, chosen, options.rounds, options.steps)
        show_overheads(measured)
        rows += measured
        if options.csv:
            print(f"rows so far: {benchmark.write_csv(rows, options.csv)}")
    if options.picture:
        print(f"picture: {benchmark.picture(rows, options.picture)}")
    return rows


def show_overheads(rows: Sequence[Any]) -> None:
    """Prints a table. All rows must have the same number of tasks."""
    load = ""
    if sys.platform != "win32":
        load = f", load {os.getloadavg()[0]:.1f}"
    table = Table(title=f"{rows[0].tasks} tasks{load}", title_justify="left")
    for name in ("method", "gradients", "median ms", "x plain", "quartiles", "solver ms", "of the step"):
        words = name in ("method", "gradients")
        table.add_column(name, justify="left" if words else "right", no_wrap=words)
    for row in rows:
        solver = (f"{row.solver_ms:.2f}", f"{row.solver_share:.1%}") if row.solver_ms == row.solver_ms else ("", "")
        table.add_row(row.method, row.gradients, f"{row.median_ms:.1f}", f"{row.ratio:.2f}",
                      f"{row.ratio_q1:.2f}-{row.ratio_q3:.2f}", *solver)
    show(table)


BENCHES: dict[str, tuple[type, Callable[[Any], Any]]] = {"methods": (Methods, methods)}


def main(arguments: Sequence[str]) -> None:
    """Runs the benchmark with the name in the first argument."""
    arguments = list(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: tfmtl2r bench WHAT [--help] ...\n")
        for name, (options, _) in BENCHES.items():
            print(f"  {name}  {(options.__doc__ or '').splitlines()[0]}")
        return
    what, *rest = arguments
    if what not in BENCHES:
        raise InputError(f"there is no benchmark {what!r}; choose one of: {', '.join(BENCHES)}")
    options, run = BENCHES[what]
    run(tyro.cli(options, args=rest, prog=f"tfmtl2r bench {what}"))
