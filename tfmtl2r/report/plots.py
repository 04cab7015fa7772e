"""Bar charts of results as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tfmtl2r.report.figures import pixels, saved


def bars(results: Mapping[str, Mapping[str, Mapping[str, Any]]], metrics: Mapping[str, str], path: str | Path) -> Path:
    """Grouped bars: one group per task, one bar per run or baseline.

    Args:
        results: row name -> task -> metric -> ``{"value", ...}``.
        metrics: task -> the metric to show.
        path: the PNG file to write.
    """
    tasks = list(metrics)
    figure = Figure(figsize=(1.8 + 1.7 * len(tasks), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    width = 0.8 / len(results)
    values = []
    for i, (name, row) in enumerate(results.items()):
        heights = [row.get(task, {}).get(metrics[task], {}).get("value", np.nan) for task in tasks]
        places = np.arange(len(tasks)) + (i - (len(results) - 1) / 2) * width
        drawn = axes.bar(places, heights, width * 0.92, label=name, color=f"C{i}")
        axes.bar_label(drawn, [f"{h:.3f}" if np.isfinite(h) else "" for h in heights], fontsize=7, padding=1)
        values += [h for h in heights if np.isfinite(h)]
    axes.set_xticks(np.arange(len(tasks)), [f"{task}\n{metrics[task]}" for task in tasks])
    low, high = min(0.0, *values), max(0.0, *values)  # a bar is as long as its value
    axes.set_ylim(low, high + 0.08 * (high - low))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, ncols=len(results), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return saved(figure, path)


def reliability(curves: Mapping[str, Mapping[str, Any]], path: str | Path) -> Path:
    """Reliability of probabilities, one panel per task: the mean label of items with about the same probability.

    A perfectly calibrated model lies on the diagonal, and 95 % of its points in the grey band around it.

    Args:
        curves: task -> numbers, as :func:`tfmtl2r.evaluation.calibration.reliability` returns them.
        path: the PNG file to write.
    """
    columns = min(len(curves), 3)
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(0.6 + 3.6 * columns, 0.4 + 3.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    engine: Any = figure.get_layout_engine()
    engine.set(w_pad=0.12, h_pad=0.12)
    for number, (task, curve) in enumerate(curves.items()):
        axes = figure.add_subplot(rows, columns, number + 1)
        p, y, sd = (np.asarray(curve[name]) for name in ("probability", "label", "sd"))
        top = 1.06 * max(p.max(initial=0.0), y.max(initial=0.0), (p + 1.96 * sd).max(initial=0.0), 1e-6)
        axes.plot([0, top], [0, top], color="0.55", linewidth=1, linestyle="--", zorder=1)
        axes.fill_between(p, np.maximum(p - 1.96 * sd, 0), p + 1.96 * sd, color="0.85", linewidth=0, zorder=0)
        axes.plot(p, y, marker="o", markersize=4, linewidth=1.3, color="C0", zorder=2)
        axes.set(xlim=(0, top), ylim=(0, top), xlabel="mean probability", ylabel="mean label")
        axes.set_aspect("equal")
        axes.locator_params(nbins=5)
        axes.set_title(f"{task}\nECE {curve['ece']:.4f} ({curve['if_calibrated']:.4f} if calibrated)", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    return saved(figure, path)


def heat_map(title: str, values: np.ndarray, labels: Sequence[Sequence[str]]) -> np.ndarray:
    """A matrix as a picture with labels and numbers: blue above 0, orange below.

    Args:
        title: what the picture shows.
        values: ``float[R, C]``; NaN was not measured.
        labels: of the rows and of the columns.

    Returns:
        The pixels, ``uint8[H, W, 3]``.
    """
    rows, columns = values.shape
    figure = Figure(figsize=(1.6 + 0.75 * columns, 1.4 + 0.5 * rows), layout="constrained", dpi=90)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    most = max(1.0, float(np.nanmax(np.abs(values), initial=0.0)))
    axes.imshow(values, cmap="PuOr", vmin=-most, vmax=most, aspect="auto")
    axes.set_xticks(range(columns), [_short(label) for label in labels[1]], rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(rows), [_short(label) for label in labels[0]], fontsize=8)
    axes.set_title(title, fontsize=9)
    for (row, column), value in np.ndenumerate(values):
        ink = "white" if abs(value) > 0.6 * most else "black"
        text = "-" if np.isnan(value) else f"{value:.2f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=ink)
    return pixels(figure)


def _short(label: str) -> str:
    return label if len(label) <= 18 else f"{label[:17]}\N{HORIZONTAL ELLIPSIS}"
