"""Pictures of methods: paths on two quadratic goals, and updates of two conflicting gradients.

A picture is drawn again only if the method, this file or the methods' base classes have changed.
"""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt

from tfmtl2r import methods
from tfmtl2r._backend import tf
from tfmtl2r.methods import base
from tfmtl2r.methods.base import Signals
from tfmtl2r.testing.steps import decide

CENTRES = np.array([[-1.0, -0.5], [1.0, 0.5]])
CURVATURES = np.array([[[1.0, 0.0], [0.0, 4.0]], [[6.0, 0.0], [0.0, 2.0]]])
STARTS = ((-1.6, 1.4), (0.2, -1.7), (1.7, 1.5))
STEPS, RATE = 250, 0.05
GREY, COLOURS = "#808080", ("#0072b2", "#d55e00", "#009e73")  # readable on white and on black
START_PAGE = ("linear_scalarization", "mgda", "epo")


def losses_of(x: Any) -> Any:
    """The two goals at points ``[..., 2]``: ``(x - c)' A (x - c) / 2 + 0.01``, so that their logarithms exist."""
    away = x[..., None, :] - CENTRES
    return 0.5 * tf.einsum("...tp,tpq,...tq->...t", away, tf.constant(CURVATURES), away) + 0.01


def pareto_set(count: int = 200) -> np.ndarray:
    """The points that minimise ``s l_1 + (1 - s) l_2``, for s from 0 to 1."""
    points = []
    for share in np.linspace(0, 1, count):
        weights = np.array([share, 1 - share])
        points.append(np.linalg.solve(np.einsum("t,tpq->pq", weights, CURVATURES),
                                      np.einsum("t,tpq,tq->p", weights, CURVATURES, CENTRES)))
    return np.array(points)


def paths(name: str) -> np.ndarray:
    """The points ``[starts, steps + 1, 2]`` of a method with its default options, and Adam as optimizer."""
    method = methods.get(name)
    initial = {key: tf.constant(value) for key, value in method.initial_state(2, 2).items()}

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([2], tf.float64)])
    def run(start: Any) -> Any:
        def step(k: Any, x: Any, first: Any, second: Any, state: Any, seen: Any) -> Any:
            rows = tf.einsum("tpq,tq->tp", tf.constant(CURVATURES), x - CENTRES)
            signals = {
                "losses": losses_of(x), "preference": tf.constant([0.5, 0.5], tf.float64),
                "present": tf.ones([2], tf.bool), "step": k, "epoch": k // 10,
                "seed": tf.stack([0, tf.cast(k, tf.int32)]),
            }
            update, _, state = decide(method, rows, None, signals, state)
            first, second = 0.9 * first + 0.1 * update, 0.999 * second + 0.001 * update**2
            count = tf.cast(k + 1, tf.float64)
            rate = RATE / (1.0 + 0.02 * count)
            x -= rate * first / (1.0 - 0.9**count) / (tf.sqrt(second / (1.0 - 0.999**count)) + 1e-7)
            if "losses_after" in method.needs:
                state = method.learn(losses_of(x), Signals(**signals), state)
            state = {key: tf.cast(value, initial[key].dtype) for key, value in state.items()}
            return k + 1, x, first, second, state, seen.write(tf.cast(k + 1, tf.int32), x)

        zero = tf.zeros([2], tf.float64)
        seen = tf.TensorArray(tf.float64, STEPS + 1, element_shape=[2]).write(0, start)
        begin = (tf.zeros([], tf.int64), start, zero, zero, initial, seen)
        return tf.while_loop(lambda k, *_: k < STEPS, step, begin)[-1].stack()

    return np.stack([run(tf.constant(start, tf.float64)).numpy() for start in STARTS])


def draw_paths(axes: Any, found: np.ndarray, heading: str) -> None:
    """Draws contours of both goals, the Pareto set and the paths."""
    grid = np.stack(np.meshgrid(np.linspace(-2.1, 2.1, 120), np.linspace(-2.1, 2.1, 120)), axis=-1)
    values = losses_of(tf.constant(grid)).numpy()
    for task in range(2):
        axes.contour(*np.moveaxis(grid, -1, 0), values[..., task], levels=[0.3, 1.2, 3.0, 6.0], colors=GREY,
                     linewidths=0.6, linestyles=["--", "-"][task])
        axes.plot(*CENTRES[task], "*", color=GREY, markersize=9)
        axes.annotate(f"best for goal {task + 1}", CENTRES[task], xytext=(0, 9 if task else -14),
                      textcoords="offset points", ha="center", color=GREY, fontsize=8)
    axes.plot(*pareto_set().T, color=GREY, linewidth=4, alpha=0.6, solid_capstyle="round")
    for path, colour in zip(found, COLOURS, strict=True):
        axes.plot(*path.T, color=colour, linewidth=1.6)
        axes.plot(*path[0], "o", color=colour, markersize=4)
        axes.plot(*path[-1], "D", color=colour, markersize=6)
    axes.set(xlim=(-2.1, 2.1), ylim=(-2.1, 2.1), xticks=[], yticks=[], aspect="equal")
    axes.set_title(heading, color=GREY, fontsize=10)
    for side in axes.spines.values():
        side.set_color(GREY)


def verdict(found: np.ndarray) -> str:
    """What the picture shows: how many paths end on the Pareto set, and whether they end at one point of it."""
    ends = found[:, -1]
    away = np.linalg.norm(ends[:, None] - pareto_set()[None], axis=-1).min(axis=1)
    arrived = int((away < 0.05).sum())
    spread = np.linalg.norm(ends - ends.mean(0), axis=-1).max()
    if arrived < len(ends):
        return f"{arrived} of {len(ends)} paths end where no goal can gain alone"
    return "All paths end at one point" if spread < 0.15 else "The end depends on the start"


def save(figure: Any, path: Path) -> None:
    """Writes an SVG without the time of day."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, transparent=True, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


def draw_method(name: str, folder: Path) -> np.ndarray:
    """Draws the page's picture of one method; returns its paths."""
    path = folder / "methods" / f"{name}.svg"
    kept = path.with_suffix(".npz")
    sources = [inspect.getsource(inspect.getmodule(methods.registry.constructor(name))), inspect.getsource(base),
               Path(__file__).read_text(encoding="utf-8")]
    key = hashlib.sha256("".join(sources).encode()).hexdigest()
    if path.is_file() and kept.is_file():
        with np.load(kept) as file:
            if str(file["key"]) == key:
                return file["paths"]
    found = paths(name)
    figure, axes = plt.subplots(figsize=(4.6, 4.6))
    draw_paths(axes, found, verdict(found))
    save(figure, path)
    np.savez(kept, key=key, paths=found)
    return found


def draw_all(folder: Path) -> None:
    """Draws a picture for each method, that of the start page and that of the page about gradients."""
    plt.rcParams["svg.hashsalt"] = "tfmtl2r"
    plt.rcParams["svg.fonttype"] = "none"
    found = {name: draw_method(name, folder) for name in methods.names()}
    figure, axes = plt.subplots(1, len(START_PAGE), figsize=(9, 3.5))
    for place, name in zip(axes, START_PAGE, strict=True):
        draw_paths(place, found[name], f"{name}\n{verdict(found[name])}")
    save(figure, folder / "start.svg")
    draw_surgery(folder / "surgery.svg")


def draw_surgery(path: Path) -> None:
    """Draws two gradients with an obtuse angle, the cone of updates that help both, and updates of three methods."""
    rows = np.array([[3.0, 1.0], [-1.0, 1.0]])
    figure, axes = plt.subplots(figsize=(6.0, 3.6))
    edges = np.array([[1.0, 1.0], [-1.0, 3.0]])  # at right angles to each gradient, on the side of the other
    edges = 6 * edges / np.linalg.norm(edges, axis=1, keepdims=True)
    axes.fill(*np.vstack([[0, 0], edges]).T, color=GREY, alpha=0.18, linewidth=0)
    axes.text(0.4, 3.0, "helps both goals", color=GREY, fontsize=9, ha="center")
    for number, row in enumerate(rows, start=1):
        arrow(axes, row, GREY, f"gradient of goal {number}")
    for name, colour in zip(("linear_scalarization", "pcgrad", "mgda"), COLOURS, strict=True):
        arrow(axes, methods.combine(name, rows), colour, name)
    axes.set(xlim=(-2.6, 4.6), ylim=(-0.4, 3.6), aspect="equal")
    axes.axis("off")
    save(figure, path)


def arrow(axes: Any, tip: np.ndarray, colour: str, text: str) -> None:
    """An arrow from the origin with its name at the tip."""
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": 2, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", tip, (0, 0), arrowprops=style)
    axes.annotate(text, tip, xytext=(5 if tip[0] >= 0 else -5, 2), textcoords="offset points", color=colour, fontsize=9,
                  ha="left" if tip[0] >= 0 else "right")
