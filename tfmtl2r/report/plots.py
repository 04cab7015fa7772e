"""Bar charts of results as PNG files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tfmtl2r.writing import written


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
    with written(path) as temporary:
        figure.savefig(temporary, dpi=130)
    return Path(path)
