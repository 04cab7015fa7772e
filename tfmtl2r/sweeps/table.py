"""The table of a sweep: one row per run. Interruptions of the sweep do not change the table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfmtl2r.figures import figure
from tfmtl2r.pareto.front import non_dominated
from tfmtl2r.runs.finished import SOURCES, Run, finite, objectives
from tfmtl2r.writing import write_text

CSV, MARKDOWN = "table.csv", "table.md"


def rows(runs: Sequence[Run], sources: Sequence[str] = SOURCES) -> list[dict[str, str | float]]:
    """Returns one row per run: its settings, then the objectives of every task.

    The column ``front`` marks runs that learn all tasks and are not dominated by another such run on the test metrics.
    A conditioned run is marked if one point of its curve is not dominated. A run with a test metric that is not finite
    is never marked. The cell of an objective that a run did not measure is empty.

    Args:
        runs: at least one run.
        sources: sources of the objectives; see :meth:`tfmtl2r.runs.finished.Run.objective`.
    """
    tasks = list(dict.fromkeys(task for run in runs for task in run.tasks))
    complete = [run for run in runs if len(run.tasks) == len(tasks)]
    front: set[str] = set()
    kept, counted, _ = finite([point for run in complete for point in run.points("test")], "test")
    if kept:
        points = objectives(kept, "test", counted)
        front = {run.card.name for run, on in zip(kept, non_dominated(points.values, points.maximise), strict=True)
                 if on}
    table: list[dict[str, str | float]] = []
    for run in runs:
        row: dict[str, str | float] = {"run": run.card.name, "method": run.method, "architecture": run.architecture,
                                       "seed": run.seed, "front": "*" if run.card.name in front else ""}
        shares = dict(zip(run.tasks, run.preference, strict=False))
        row.update({f"preference {task}": shares.get(task, "") for task in tasks})
        for source in sources:
            for task in tasks:
                try:
                    row[f"{task} {source}"] = run.objective(task, source)[0]
                except ValueError:  # the run lacks the task or the metric, or kept no epoch
                    row[f"{task} {source}"] = ""
        table.append(row)
    return table


def write_tables(runs: Sequence[Run], folder: Path) -> list[str]:
    """Writes ``table.csv`` with all digits, and ``table.md`` with four digits for reading.

    Returns:
        A message for each run whose test metrics are not all finite numbers.
    """
    if not runs:
        return []
    table = rows(runs)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_text(folder / CSV, text.getvalue())
    write_text(folder / MARKDOWN, markdown([{k: v for k, v in row.items() if k != "run"} for row in table]))
    return finite(runs, "test")[-1]


def markdown(table: Sequence[dict[str, str | float]]) -> str:
    """Formats rows as a Markdown table; numbers have four digits.

    >>> print(markdown([{"method": "mgda", "loss": 0.123456}]), end="")
    | method | loss |
    | --- | --- |
    | mgda | 0.1235 |
    """
    lines = [list(table[0]), ["---"] * len(table[0]), *([_cell(v) for v in row.values()] for row in table)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: str | float) -> str:
    return figure(value) if isinstance(value, (float, np.floating)) else str(value)
