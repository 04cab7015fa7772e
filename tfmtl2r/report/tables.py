"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table


def results_table(
    results: Mapping[str, Mapping[str, Mapping[str, Any]]], title: str, metrics: Mapping[str, str] | None = None
) -> Table:
    """One row per run or baseline, one column per task and metric; the best of each column is bold.

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
        values = [row[task][metric]["value"] for row in results.values() if metric in row.get(task, {})]
        best[task, metric] = (max if direction == "max" else min)(values)
    for name, row in results.items():
        cells = []
        for task, metric in columns:
            if metric not in row.get(task, {}):
                cells.append("")
                continue
            value = row[task][metric]["value"]
            text = f"{value:.4f}"
            cells.append(f"[bold]{text}[/bold]" if len(results) > 1 and value == best[task, metric] else text)
        table.add_row(name, *cells)
    return table


def show(table: Any) -> None:
    """Prints a table. If the output is a file or a pipe, which has no width, the table is printed in its full width."""
    console = Console()
    if not console.is_terminal:
        wide = console.options.update(width=10_000, max_width=10_000)
        console = Console(width=max(console.width, Measurement.get(console, wide, table).maximum))
    console.print(table)
