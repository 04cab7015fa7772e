"""Plots of trade-offs: fronts, many objectives side by side, and the path of training through objective space."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tfmtl2r.errors import InputError
from tfmtl2r.pareto.front import Reference, bands, costs, non_dominated
from tfmtl2r.report.figures import pixels, saved
from tfmtl2r.runs.finished import Objectives
from tfmtl2r.types import Array

__all__ = ["front", "overview", "pairwise", "parallel_coordinates", "save", "trajectories"]

if TYPE_CHECKING:
    from tfmtl2r.pareto.conditioned import Curve

Groups = Mapping[str, "Objectives | Curve"]
Singles = Mapping[str, Sequence[float | None]]


def front(
    groups: Groups, rays: Array | None = None, single: Singles | None = None, chosen: Array | None = None,
    reference: Reference | None = None,
) -> Figure:
    """Two objectives: every run as a point, and the boundary of the region that each group dominates as a line.

    For a group with several seeds, at least half of the seeds attain the line. The area around the line is bounded by
    the surfaces that all seeds attain and that any seed attains (:func:`tfmtl2r.pareto.bands`).

    Args:
        groups: name -> runs, for example one group per method.
        rays: preferences ``[N, 2]`` above 0 whose rays are drawn if both objectives are losses.
        single: architecture -> values of single-task training, drawn as lines; None for unknown values.
        chosen: the chosen point.
        reference: reference point of the hypervolume, drawn as a cross.
    """
    figure, axes = _figure(6.4, 5.2)
    first = next(iter(groups.values()))
    _needs(first, 2)
    for i, (name, group) in enumerate(groups.items()):
        on = non_dominated(group.values, group.maximise)
        axes.scatter(*group.values[~on].T, s=14, color=f"C{i}", alpha=0.35, linewidths=0)
        axes.scatter(*group.values[on].T, s=26, color=f"C{i}", label=name, zorder=3)
        _draw_bands(axes, group, f"C{i}")
    limits = axes.axis()
    if not any(first.maximise):
        _draw_rays(axes, rays)
    limits = _draw_single(axes, single or {}, limits)
    if reference is not None:
        axes.plot(*reference.point, marker="x", color="0.3", linestyle="none", label="reference point")
        limits = _around(limits, reference.point)
    if chosen is not None:
        axes.plot(*chosen, marker="*", markersize=17, markerfacecolor="none", markeredgecolor="black", linestyle="none",
                  label="chosen", zorder=4)
    axes.axis(limits)
    axes.set_xlabel(_axis(first, 0))
    axes.set_ylabel(_axis(first, 1))
    _legend(axes)
    return figure


def parallel_coordinates(groups: Groups, chosen: Array | None = None) -> Figure:
    """Any number of objectives: one line per run, with the best value of each objective at the top.

    Dominated runs are pale.

    Args:
        groups: name -> runs, for example one group per method.
        chosen: the chosen point.
    """
    first = next(iter(groups.values()))
    count = len(first.labels)
    figure, axes = _figure(1.6 + 1.7 * count, 4.4)
    everything = np.concatenate([costs(group.values, group.maximise) for group in groups.values()])
    low, spread = everything.min(axis=0), np.ptp(everything, axis=0)

    def height(values: Array) -> np.ndarray:
        return 1 - (costs(values, first.maximise) - low) / np.where(spread > 0, spread, 1.0)

    on = np.split(non_dominated(everything), np.cumsum([len(g.values) for g in groups.values()])[:-1])
    for i, ((name, group), kept) in enumerate(zip(groups.items(), on, strict=True)):
        for row, good in zip(height(group.values), kept, strict=True):
            axes.plot(range(count), row, color=f"C{i}", alpha=0.9 if good else 0.2, linewidth=1.3 if good else 0.8)
        axes.plot([], [], color=f"C{i}", label=name)
    if chosen is not None:
        axes.plot(range(count), height([chosen])[0], color="black", linewidth=2.2, linestyle="--", label="chosen")
    sign = np.where(first.maximise, -1, 1)
    for i in range(count):
        axes.axvline(i, color="0.8", linewidth=0.8, zorder=0)
        best, worst = sign[i] * low[i], sign[i] * (low[i] + spread[i])
        axes.text(i, 1.02, f"{best:.4g}", ha="center", va="bottom", fontsize=7)
        axes.text(i, -0.02, f"{worst:.4g}", ha="center", va="top", fontsize=7)
    axes.set_xticks(range(count), [label.replace(" ", "\n", 1) for label in first.labels])
    axes.tick_params(axis="x", pad=12, length=0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    _legend(axes, above=1.06)
    return figure


def pairwise(groups: Groups, chosen: Array | None = None) -> Figure:
    """Any number of objectives: one panel for each pair of objectives.

    The markers of runs that are Pareto optimal in *all* objectives are filled.

    Args:
        groups: name -> runs, for example one group per method.
        chosen: the chosen point.
    """
    first = next(iter(groups.values()))
    count = len(first.labels)
    pairs = list(itertools.combinations(range(count), 2))
    columns = min(len(pairs), 3)
    lines = -(-len(pairs) // columns)
    figure = Figure(figsize=(3.4 * columns, 3.0 * lines + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    everything = np.concatenate([costs(group.values, group.maximise) for group in groups.values()])
    on = np.split(non_dominated(everything), np.cumsum([len(g.values) for g in groups.values()])[:-1])
    for place, (x, y) in enumerate(pairs):
        axes = figure.add_subplot(lines, columns, place + 1)
        for i, ((name, group), kept) in enumerate(zip(groups.items(), on, strict=True)):
            xs, ys = group.values[:, x], group.values[:, y]
            axes.scatter(xs[~kept], ys[~kept], s=12, facecolors="none", edgecolors=f"C{i}", alpha=0.5)
            axes.scatter(xs[kept], ys[kept], s=16, color=f"C{i}", label=name)
        if chosen is not None:
            axes.plot(chosen[x], chosen[y], marker="*", markersize=15, markerfacecolor="none", markeredgecolor="black",
                      linestyle="none", label="chosen")
        axes.set_xlabel(_axis(first, x), fontsize=8)
        axes.set_ylabel(_axis(first, y), fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(**_fitted(figure.axes[0], figure), loc="outside upper center")
    return figure


def trajectories(groups: Mapping[str, Objectives], source: str = "train_loss", rays: Array | None = None) -> Figure:
    """The losses of two tasks from epoch to epoch: a line per run, and a dot at the epoch whose weights were kept.

    Args:
        groups: name -> runs with two objectives, for example one group per method; the losses of their tasks are drawn.
        source: ``"train_loss"`` or ``"vali_loss"``.
        rays: preferences ``[N, 2]`` above 0 whose rays are drawn.
    """
    figure, axes = _figure(6.4, 5.2)
    first = next(iter(groups.values()))
    _needs(first, 2)
    tasks = [label.split()[0] for label in first.labels]
    for i, (name, group) in enumerate(groups.items()):
        for j, run in enumerate(group.runs):
            path = run.trajectory(tasks, source)
            axes.plot(*path.T, color=f"C{i}", linewidth=0.9, alpha=0.7, label=name if j == 0 else "_more")
            axes.scatter(*path[run.epoch()], color=f"C{i}", s=22, zorder=3)
    limits = axes.axis()
    _draw_rays(axes, rays)
    axes.axis(limits)
    axes.set_xlabel(f"{tasks[0]} {source} (small is good)")
    axes.set_ylabel(f"{tasks[1]} {source} (small is good)")
    _legend(axes)
    return figure


def overview(groups: Groups, single: Singles | None = None, chosen: Array | None = None,
             reference: Reference | None = None, rays: Array | None = None) -> dict[str, Figure]:
    """Returns the plots that suit the number of objectives, by name.

    Args:
        groups: name -> runs, for example one group per method.
        single, chosen, reference, rays: see :func:`front`.
    """
    first = next(iter(groups.values()))
    if len(first.labels) == 2:
        runs = {name: group for name, group in groups.items()
                if isinstance(group, Objectives) and not any(run.asked for run in group.runs)}
        return {"front": front(groups, rays, single, chosen, reference),
                **({"trajectories": trajectories(runs, rays=rays)} if runs else {})}
    pictures: dict[str, Callable[..., Figure]] = {"parallel": parallel_coordinates}
    if len(first.labels) > 2:
        pictures["pairs"] = pairwise
    return {name: draw(groups, chosen) for name, draw in pictures.items()}


def save(figures: Mapping[str, Figure], folder: str | Path, dpi: int = 130) -> list[Path]:
    """Writes ``<name>.png`` for each figure, and the same images for TensorBoard to ``<folder>/pictures``.

    Args:
        figures: name -> figure.
        folder: the folder to write to; it is created.
        dpi: dots per inch.
    """
    from tfmtl2r._backend import tf

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    writer = tf.summary.create_file_writer(str(folder / "pictures"))
    paths = []
    for name, figure in figures.items():
        figure.set_dpi(dpi)
        paths.append(saved(figure, folder / f"{name}.png", dpi))
        with writer.as_default(step=0):
            tf.summary.image(f"pareto/{name}", pixels(figure)[None])
    writer.close()
    return paths


def _draw_rays(axes: Axes, rays: Array | None) -> None:
    """Draws rays from the origin along ``1 / p``, beyond the far end of both axes."""
    _, right, _, top = axes.axis()
    for p, q in [] if rays is None else np.asarray(rays, float):
        far = max(right * p, top * q)
        axes.plot([0, far / p], [0, far / q], color="0.75", linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)


def _draw_single(axes: Axes, single: Singles, limits: Sequence[float]) -> Sequence[float]:
    """Draws the lines of single-task training; returns limits of both axes that include these lines."""
    for (name, values), style in zip(single.items(), itertools.cycle((":", "-.", "--"))):
        for value, line in zip(values, (axes.axvline, axes.axhline), strict=True):
            if value is not None:
                line(value, color="0.4", linewidth=1, linestyle=style, label="_single")
        axes.plot([], [], color="0.4", linestyle=style, label=f"single-task{f' {name}' if len(single) > 1 else ''}")
        limits = _around(limits, values)
    return limits


def _draw_bands(axes: Axes, group: Objectives | Curve, color: str) -> None:
    seeds = np.unique(group.seeds)
    fronts = [group.values[group.seeds == seed] for seed in seeds]
    middle, any_seed, all_seeds = bands(fronts, (50, 0, 100), group.maximise)
    axes.plot(*_stairs(middle, group).T, color=color, linewidth=1.2, alpha=0.9)
    if len(seeds) > 1:
        outline = np.concatenate([_stairs(any_seed, group), _stairs(all_seeds, group)[::-1]])
        axes.fill(*outline.T, color=color, alpha=0.12, linewidth=0)


def _stairs(corners: np.ndarray, group: Objectives | Curve) -> np.ndarray:
    """The boundary of the dominated region through its corners."""
    ordered = corners[np.argsort(costs(corners, group.maximise)[:, 0])]
    path = np.repeat(ordered, 2, axis=0)[:-1]
    path[1::2, 0] = ordered[1:, 0]
    return path


def _needs(group: Objectives | Curve, count: int) -> None:
    if len(group.labels) != count:
        raise InputError(f"this plot requires {count} objectives, got {len(group.labels)}: "
                         f"{', '.join(group.labels)}; use parallel_coordinates or pairwise")


def _around(limits: Sequence[float], point: Sequence[float | None]) -> list[float]:
    """Limits of both axes that leave room around a point."""
    widened = list(limits)
    for axis, value in enumerate(point):
        if value is not None:
            room = 0.05 * (limits[2 * axis + 1] - limits[2 * axis])
            widened[2 * axis] = min(widened[2 * axis], value - room)
            widened[2 * axis + 1] = max(widened[2 * axis + 1], value + room)
    return widened


def _axis(group: Objectives | Curve, index: int) -> str:
    return f"{group.labels[index]}, {'large' if group.maximise[index] else 'small'} is good"


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend(axes: Axes, above: float = 1.0) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None
    axes.legend(**_fitted(axes, figure), loc="lower center", bbox_to_anchor=(0.5, above))


def _fitted(axes: Axes, figure: Figure) -> dict[str, Any]:
    """A legend's entries, in as many columns as the longest label leaves room for."""
    handles, labels = axes.get_legend_handles_labels()
    size = 8
    letters = int(figure.get_figwidth() * 72 / (0.6 * size))  # in a line as wide as the figure
    marker = 7  # the width of a handle and its gap, in letters
    labels = [textwrap.fill(label, letters - 2 * marker) for label in labels]
    longest = max((len(line) for label in labels for line in label.splitlines()), default=1)
    columns = max(1, min(4, letters // (longest + marker)))
    # The star is higher than a line of text, by which the layout measures a legend: the pad leaves room for it.
    look = {"frameon": False, "fontsize": size, "borderpad": 0.8}
    return {"handles": handles, "labels": labels, "ncols": columns, **look}
