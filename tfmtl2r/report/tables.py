"""Tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from tfmtl2r.figures import figure

_FEW = 2
"""The largest number of lists of which a metric means little."""
_MOST = 20
"""The largest number of features in a table."""
HALF = 1.96
"""Half of a 95 % interval, in standard errors."""
_NAME = 26
"""Largest width of a name in a table of slices."""


def results_table(
    results: Mapping[str, Mapping[str, Mapping[str, Any]]], title: str, metrics: Mapping[str, str] | None = None
) -> Table:
    """One row per run or baseline, one column per task and metric; the best of each column is bold.

    In brackets is what a perfectly calibrated model with the same scores would show.

    Args:
        results: row name -> task -> metric -> ``{"value", "direction", ...}`` as in a run card.
        title: title of the table.
        metrics: task -> the metric to show; None shows all metrics.
    """
    columns: dict[tuple[str, str], str] = {}
    for row in results.values():
        for task, scores in row.items():
            for metric, score in scores.items():
                if metrics is None or metrics.get(task) == metric:
                    columns[task, metric] = score["direction"]
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for task, metric in columns:
        table.add_column(f"{task}\n{metric}", justify="right")
    best = {}
    for (task, metric), direction in columns.items():
        if not direction:
            continue
        values = [row[task][metric]["value"] for row in results.values() if metric in row.get(task, {})]
        best[task, metric] = (max if direction == "max" else min)(values)
    for name, row in results.items():
        cells = []
        for task, metric in columns:
            if metric not in row.get(task, {}):
                cells.append("")
                continue
            value, text = row[task][metric]["value"], _number(row[task][metric])
            cells.append(f"[bold]{text}[/bold]" if len(results) > 1 and value == best.get((task, metric)) else text)
        table.add_row(name, *cells)
    return table


def slice_tables(slices: Mapping[str, Any], by: str, width: int = 80) -> list[Table]:
    """The metrics of slices, one row per slice; columns that do not fit side by side go to another table.

    Args:
        slices: the entry of a run card for ``by``: ``{"of": ..., "slices": name -> results}``.
        by: what the slices are made by.
        width: characters of a line.
    """
    rows = slices["slices"]
    names = [name if len(name) <= _NAME else f"{name[: _NAME - 1]}\u2026" for name in rows]
    counts = [str(one["num_lists"]) for one in rows.values()]
    columns: dict[tuple[str, str], list[str]] = {}
    for place, one in enumerate(rows.values()):
        for task, row in one["results"].items():
            for metric, score in row.items():
                cells = columns.setdefault((task, metric), ["-"] * len(rows))
                cells[place] = "-" if math.isnan(score["value"]) else _number(score)
    needed = {(task, metric): 3 + max(min(max(len(task), len(metric)), _NAME), *map(len, cells))
              for (task, metric), cells in columns.items()}
    room = width - max(map(len, names)) - max(len("lists"), *map(len, counts)) - 7
    groups = side_by_side(needed, room)
    few = [name for name, one in zip(names, rows.values(), strict=True) if one["num_lists"] <= _FEW]
    what = "rows" if slices["of"] == "rows" else "lists"
    note = f"at most {_FEW} {what}, too few for a number that means anything: {', '.join(few)}" if few else None
    tables = []
    for group in groups:
        table = Table(title=f"{by} (slices of {slices['of']})", title_justify="left",
                      caption=escape(note) if note and group is groups[-1] else None, caption_justify="left")
        table.add_column("", no_wrap=True)
        table.add_column("rows" if slices["of"] == "rows" else "lists", justify="right")
        for task, metric in group:
            table.add_column(f"{escape(task)}\n{escape(metric)}", justify="right", max_width=_NAME, overflow="fold")
        for place, name in enumerate(names):
            table.add_row(escape(name), counts[place], *(columns[column][place] for column in group))
        tables.append(table)
    return tables


def importance_tables(found: Mapping[str, Any], width: int | None = None) -> list[Table]:
    """How much every feature matters to every task; tasks that do not fit side by side go to another table.

    Args:
        found: what :func:`tfmtl2r.evaluation.feature_importance` returns.
        width: characters of a line; by default those of the terminal, and 80 without one.
    """
    console = Console()
    width = width or (console.width if console.is_terminal else 80)
    rows = found["features"][:_MOST]
    names = [one["name"] if len(one["name"]) <= _NAME else f"{one['name'][: _NAME - 1]}\u2026" for one in rows]
    cells = {task: [_drop(one["tasks"][task]) for one in rows] for task in found["metrics"]}
    needed = {task: 3 + max(min(max(len(task), len(metric)), _NAME), *map(len, cells[task]))
              for task, metric in found["metrics"].items()}
    between = [one["of"] for one in rows]
    room = width - max(map(len, names)) - max(len("exchanged by"), *map(len, between)) - 7
    more = len(found["features"]) - len(rows)
    note = ("\u00b1 is half of a 95 % interval over lists; * the interval does not contain 0"
            + (f"; {more} less important features are not shown: --json FILE writes all" if more else ""))
    tables = []
    groups = side_by_side(needed, room)
    for group in groups:
        table = Table(title="drop of the metric if the values of a feature are exchanged", title_justify="left",
                      caption=escape(note) if group is groups[-1] else None, caption_justify="left")
        table.add_column("", no_wrap=True)
        table.add_column("exchanged by")
        for task in group:
            table.add_column(f"{escape(task)}\n{escape(found['metrics'][task])}", justify="right", max_width=_NAME,
                             overflow="fold")
        for place, name in enumerate(names):
            table.add_row(escape(name), between[place], *(cells[task][place] for task in group))
        tables.append(table)
    return tables


def _drop(one: Mapping[str, float]) -> str:
    """A drop with half of its interval, and a mark if the interval does not contain 0."""
    if math.isnan(one["error"]):
        return f"{figure(one['drop'])} \u00b1    - "
    half = HALF * one["error"]
    return f"{figure(one['drop'])} \u00b1 {figure(half)}{'*' if abs(one['drop']) > half else ' '}"


def _number(score: Mapping[str, Any]) -> str:
    """A value, with what a perfectly calibrated model would show in brackets."""
    beside = score.get("if_calibrated")
    return figure(score['value']) + ("" if beside is None else f" ({figure(beside)})")


def side_by_side(needed: Mapping[Any, int], room: int) -> list[list[Any]]:
    """Divides columns into groups that fit side by side.

    Args:
        needed: column -> the characters that it takes.
        room: the characters of a line that the columns of a group may take.

    >>> side_by_side({"a": 4, "b": 5, "c": 4}, 9)
    [['a', 'b'], ['c']]
    """
    groups: list[list[Any]] = []
    left = 0
    for column, wide in needed.items():
        if wide > left or not groups:
            groups, left = [*groups, []], room
        groups[-1].append(column)
        left -= wide
    return groups


def show(table: Any) -> None:
    """Prints a table. If the output is a file or a pipe, which has no width, the table is printed in its full width."""
    console = Console()
    if not console.is_terminal:
        wide = console.options.update(width=10_000, max_width=10_000)
        console = Console(width=max(console.width, Measurement.get(console, wide, table).maximum))
    console.print(table)
