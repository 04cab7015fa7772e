"""The tables of a cross-validation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from tfmtl2r.evaluation.out_of_fold import MEAN, Difference, OutOfFold, overall
from tfmtl2r.figures import figure, signed
from tfmtl2r.report.tables import side_by_side

_NAME = 24
"""Largest width of the name of a row or a task."""


def tables(
    rows: Sequence[OutOfFold], differences: Mapping[str, Mapping[str, Difference]], width: int = 80
) -> list[Table]:
    """One row per ranker: the first metric of each task, and below it the difference of the first ranker to this one.

    Columns that do not fit side by side go to another table. With several partitions, the last table contains the means
    and differences of each of them.

    Args:
        rows: the rankers; the first one is the experiment.
        differences: ranker -> task -> the experiment minus this ranker.
        width: characters of a line.
    """
    columns = _columns(rows, differences)
    names = [_short(row.name) for row in rows]
    needed = {header: 3 + max(len(line) for text in (*header, *cells) for line in text.split("\n"))
              for header, cells in columns.items()}
    title = "out of fold" + (f", {len(next(iter(rows[0].totals.values())))} partitions" if _several(rows[0]) else "")
    found = [_table(title, names, {header: columns[header] for header in group})
             for group in side_by_side(needed, width - max(map(len, names)) - 4)]
    found[-1].caption = _caption(rows, differences)
    found[-1].caption_justify = "left"
    return [*found, *([_by_partition(rows, differences, width)] if _several(rows[0]) else [])]


def _columns(
    rows: Sequence[OutOfFold], differences: Mapping[str, Mapping[str, Difference]]
) -> dict[tuple[str, str], list[str]]:
    """Header -> a cell for each row."""
    means = [overall(row) for row in rows]
    columns: dict[tuple[str, str], list[str]] = {}
    if means[0] is not None:
        columns[MEAN, ""] = [_cell(mean, None, differences.get(row.name, {}).get(MEAN))
                             for row, mean in zip(rows, means, strict=True)]
    for task, metric in rows[0].first().items():
        columns[_short(task), metric] = [
            _cell(row.totals.get((task, metric)), row.seeds.get((task, metric)),
                  differences.get(row.name, {}).get(task)) for row in rows]
    return columns


def _cell(totals: np.ndarray | None, seeds: np.ndarray | None, difference: Difference | None) -> str:
    if totals is None:
        return "-"
    lines = [figure(totals.mean())]
    if seeds is not None and len(seeds) > 1:
        lines.append(f"sd {figure(seeds.std(ddof=1))}")
    if difference is not None:
        lines.append(signed(difference.value))
        if not math.isnan(difference.error):
            lines.append(f"±{figure(difference.error)}")
    return "\n".join(lines)


def _by_partition(
    rows: Sequence[OutOfFold], differences: Mapping[str, Mapping[str, Difference]], width: int
) -> Table:
    task, metric = next(iter(rows[0].first().items()))
    count = len(rows[0].totals[task, metric])
    shown = min(count, max(1, (width - _NAME - 4) // 10))
    mean = overall(rows[0]) is not None
    table = Table(title=f"by partition: {MEAN if mean else f'{task} {metric}'}", title_justify="left")
    table.add_column("", no_wrap=True)
    for number in range(shown):
        table.add_column(str(number), justify="right")
    for row in rows:
        values = overall(row) if mean else row.totals.get((task, metric))
        apart = differences.get(row.name, {}).get(MEAN if mean else task)
        cells = [] if values is None else [
            figure(values[p]) + (f"\n{signed(apart.by_partition[p])}" if apart else "") for p in range(shown)]
        table.add_row(escape(_short(row.name)), *cells)
    return table


def _caption(rows: Sequence[OutOfFold], differences: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    if any(len(seeds) > 1 for seeds in rows[0].seeds.values()):
        lines.append("sd: standard deviation over seeds")
    if differences:
        lines.append(f"+/-: {rows[0].name} minus this row, ± standard error by bootstrap over lists"
                     + (" (of metrics over all items, by jackknife)" if rows[0].without else ""))
    return "\n".join(lines)


def _table(title: str, names: Sequence[str], columns: Mapping[tuple[str, str], Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", show_lines=True)
    table.add_column("", no_wrap=True)
    for header in columns:
        table.add_column("\n".join(escape(part) for part in header if part), justify="right")
    for place, name in enumerate(names):
        table.add_row(escape(name), *(cells[place] for cells in columns.values()))
    return table


def _several(row: OutOfFold) -> bool:
    return len(next(iter(row.totals.values()))) > 1


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"
