"""A picture of a study: how far every ranker is from equal weights, on one axis for each data set."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tfmtl2r import methods
from tfmtl2r.report.figures import saved
from tfmtl2r.sweeps.study import EQUAL, RANDOM

__all__ = ["draw", "picture"]

Difference = tuple[float, float, float]
_AXIS = ("delta-m in percentage points minus that of equal weights (green), left is better; lines: 95 % intervals over "
         "seeds; a triangle with its number: beyond the edge")
_GROUPS = ("no special method", "methods that read losses", "methods that read gradients")


def draw(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Writes the picture to ``compare.png`` and ``compare.svg`` in a folder; see :func:`picture`."""
    for name in ("compare.png", "compare.svg"):
        saved(picture(rows), folder / name)


def picture(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """delta-m of every ranker minus that of equal weights, with 95 % intervals: one panel for each data set.

    All panels have the same rows, grouped by what a method reads and sorted by the mean place over the data sets.

    Args:
        rows: rows with ``data``, ``ranker``, ``delta_m``, ``delta_m_std`` (over seeds) and ``seeds``, of which a data
            set has one for equal weights.
    """
    names = list(dict.fromkeys(row["data"] for row in rows))
    differences = {data: _differences_to_equal([row for row in rows if row["data"] == data]) for data in names}
    places = _places_of(differences)
    width = 2.6 + 1.9 * len(names)
    title, below = textwrap.fill(_headline(differences), int(11 * width)), textwrap.fill(_AXIS, int(17 * width))
    height = 1.1 + 0.17 * (max(places.values(), default=0) + title.count("\n")) + 0.12 * below.count("\n")
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, data in zip(panels, names, strict=True):
        found = differences[data]
        bounds = [abs(end) for ranker in places if ranker in found for end in found[ranker][1:]]
        limit = float(np.quantile(bounds, 0.8)) if bounds else 1.0  # a few rankers far away would hide all others
        for ranker, place in places.items():
            if ranker in found:
                _drawn(axes, place, found[ranker], limit)
        axes.axvline(0, color="#009e73", linewidth=0.8)
        axes.set_xlim(-1.25 * limit, 1.25 * limit)
        axes.set_title(data, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.locator_params(axis="x", nbins=4)
        axes.grid(axis="y", color="0.93", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks([*places.values()], [*places], fontsize=7)
    _headings(panels[0], places)
    panels[0].set_ylim(max(places.values()) + 0.8, -1.6)
    figure.suptitle(title, fontsize=10)
    figure.supxlabel(below, fontsize=7)
    return figure


def _differences_to_equal(rows: Sequence[Mapping[str, Any]]) -> dict[str, Difference]:
    """Ranker -> the difference of its delta-m to that of equal weights, and both ends of Welch's 95 % interval."""
    known = {row["ranker"]: (float(row["delta_m"]), float(row["delta_m_std"] or 0), int(row["seeds"]))
             for row in rows if row["delta_m"] != "" and row["ranker"] != RANDOM}
    if EQUAL not in known:
        return {}
    base, spread, count = known[EQUAL]
    found = {}
    for name, (value, own, seeds) in known.items():
        error = (own**2 / seeds + spread**2 / count) ** 0.5
        freedom = max(1.0, min(seeds, count) - 1.0)  # at least as wide as with Welch's own number
        wide = _student(freedom) * error
        for ranker in name.split(" = "):  # methods with the same numbers are one row of a table, and two of the picture
            found[ranker] = (value - base, value - base - wide, value - base + wide)
    del found[EQUAL]
    return found


def _student(freedom: float) -> float:
    """The 97.5 % quantile of the t-distribution (Abramowitz and Stegun, 26.7.5)."""
    z = 1.959964
    return (z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
            + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3))


def _places_of(differences: Mapping[str, Mapping[str, Difference]]) -> dict[str, float]:
    """Ranker -> its place from above: no special methods, methods that read losses, methods that read gradients."""
    ranks: dict[str, list[float]] = {}
    for found in differences.values():
        for rank, ranker in enumerate(sorted(found, key=lambda ranker: found[ranker][0])):
            ranks.setdefault(ranker, []).append(rank / len(found))
    order = sorted(ranks, key=lambda ranker: (_group_of(ranker), np.mean(ranks[ranker])))
    places = [place + _group_of(ranker) for place, ranker in enumerate(order)]  # a gap between groups
    return dict(zip(order, map(float, places), strict=True))


def _group_of(ranker: str) -> int:
    """The group of a ranker, as a place in ``_GROUPS``."""
    name = ranker.split()[0]
    if name not in methods.names():
        return 0
    return 1 + bool(methods.get(name).needs & {"gram", "rows"})


def _headings(axes: Any, places: Mapping[str, float]) -> None:
    """Writes the title of each group above its first row."""
    for group, title in enumerate(_GROUPS):
        own = [place for ranker, place in places.items() if _group_of(ranker) == group]
        if own:
            axes.annotate(title, (0, min(own) - 0.9), (-4, 0), ("axes fraction", "data"), "offset points",
                          fontsize=7, fontweight="bold", ha="right", va="center")


def _drawn(axes: Any, place: float, difference: Difference, limit: float) -> None:
    """Draws a ranker: blue if its whole interval is better than equal weights, orange if it is worse, else grey."""
    middle, low, high = difference
    colour = "#0072b2" if high < 0 else "#d55e00" if low > 0 else "0.45"
    if abs(middle) > 1.2 * limit:
        side = 1 if middle > 0 else -1
        axes.plot(1.18 * limit * side, place, marker=">" if side > 0 else "<", color=colour, markersize=4)
        axes.text(1.1 * limit * side, place, f"{middle:+.1f}", fontsize=6, va="center",
                  ha="right" if side > 0 else "left", color=colour)
        return
    axes.plot([max(low, -1.25 * limit), min(high, 1.25 * limit)], [place, place], color=colour, linewidth=1.2)
    axes.plot(middle, place, marker="o", color=colour, markersize=3.5)


def _headline(differences: Mapping[str, Mapping[str, Difference]]) -> str:
    """What the picture shows, in one sentence."""
    special = {ranker for found in differences.values() for ranker in found if _group_of(ranker)}
    better = {ranker for found in differences.values() for ranker in special & {*found} if found[ranker][2] < 0}
    worse = {ranker for found in differences.values() for ranker in special & {*found} if found[ranker][1] > 0}
    return (f"Against equal weights: {len(better - worse)} of {len(special)} methods better on some data and worse on "
            f"none (blue), {len(worse)} worse somewhere (orange)")
