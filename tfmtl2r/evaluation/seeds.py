"""Statistics of runs with several seeds: mean, standard deviation, and differences between runs of the same seed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from tfmtl2r.figures import figure, signed
from tfmtl2r.runs.card import RunCard
from tfmtl2r.writing import written


def by_seed(cards: Iterable[RunCard], task: str, metric: str, split: str = "test") -> dict[int, float]:
    """Returns seed -> value of one metric.

    Args:
        cards: run cards that differ in the seed.
        task: name of the task.
        metric: label of the metric, for example ``"ndcg@10"``.
        split: name of the split.
    """
    return {int(card.config["training"]["seed"]): float(card.results[split][task][metric]["value"]) for card in cards}


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> tuple[float, float, int]:
    """Returns the mean difference over the seeds in both mappings, its standard error, and the number of these seeds.

    >>> mean, error, seeds = paired({0: 0.75, 1: 0.5}, {0: 0.5, 1: 0.5})
    >>> mean, error, seeds
    (0.125, 0.125, 2)
    """
    common = sorted(set(ours) & set(theirs))
    if not common:
        return float("nan"), float("nan"), 0
    gaps = np.array([ours[seed] - theirs[seed] for seed in common])
    error = gaps.std(ddof=1) / np.sqrt(len(gaps)) if len(gaps) > 1 else float("nan")
    return float(gaps.mean()), float(error), len(gaps)


def deviation(values: Iterable[float]) -> float:
    """The sample standard deviation (divisor n - 1); 0 for a single value.

    >>> deviation([1.0, 3.0]), deviation([2.0])
    (1.4142135623730951, 0.0)
    """
    known = np.asarray(list(values), float)
    return float(known.std(ddof=1)) if len(known) > 1 else 0.0


def seeds_table(
    runs: Mapping[str, Sequence[RunCard]],
    metrics: Mapping[str, str],
    title: str,
    baseline: str | None = None,
    extra: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
) -> Table:
    """One row per variant: mean ± standard deviation over seeds and, below it, the paired difference to a baseline.

    Args:
        runs: variant -> its run cards, one per seed.
        metrics: task -> metric.
        title: title of the table.
        baseline: the variant to compare with; None leaves the differences out.
        extra: rows without seeds, for example trivial rankers: name -> task -> metric -> ``{"value": number}``.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for task, metric in metrics.items():
        table.add_column(f"{task}\n{metric}", justify="right")
    table.add_column("seeds", justify="right")
    table.add_column("ms\na step", justify="right")
    for name, row in (extra or {}).items():
        cells = [figure(row[t][m]['value']) if m in row.get(t, {}) else "" for t, m in metrics.items()]
        table.add_row(name, *cells, "", "")
    for name, cards in runs.items():
        cells = []
        for task, metric in metrics.items():
            values = by_seed(cards, task, metric)
            spread = deviation(values.values()) if len(values) > 1 else float("nan")
            cell = _with_error(figure(float(np.mean(list(values.values())))), spread)
            if baseline is not None and name != baseline:
                gap, error, _ = paired(values, by_seed(runs[baseline], task, metric))
                cell += "\n" + _with_error(signed(gap), error)
            cells.append(cell)
        steps = [card.step_ms for card in cards if card.step_ms]
        table.add_row(name, *cells, str(len(cards)), f"{np.median(steps):.1f}" if steps else "")
    if baseline is not None:
        table.caption = f"below: difference to {baseline} seed by seed, ± its standard error"
    return table


def _with_error(value: str, error: float) -> str:
    """The value and its spread; a single seed has no spread."""
    return value if np.isnan(error) else f"{value} ± {figure(error)}"


def write_csv(runs: Mapping[str, Sequence[RunCard]], metrics: Mapping[str, str], path: str | Path) -> Path:
    """Writes one line per run: variant, seed, every task's metric, milliseconds per step.

    Args:
        runs: variant -> its run cards.
        metrics: task -> metric.
        path: the file to write; its folder is created.
    """
    with written(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["variant", "seed", *(f"{task} {metric}" for task, metric in metrics.items()), "step_ms"])
        for name, cards in runs.items():
            for card in cards:
                values = [card.results["test"][task][metric]["value"] for task, metric in metrics.items()]
                writer.writerow([name, card.config["training"]["seed"], *values, card.step_ms])
    return Path(path)
