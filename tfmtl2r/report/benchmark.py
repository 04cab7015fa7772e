"""The cost of balancing: the time of each method's training step, divided by the time of a plain step (summed losses).

All variants train the same shared-bottom model on the same batch: 8 lists of 30 to 60 items with 136 features. The
variants take turns, a few steps each, so that other load on the machine affects all of them equally. A ratio is the
median over rounds of the ratio within a round. The solver's share of a step is measured in the same way.
"""

from __future__ import annotations

import csv
import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tfmtl2r import methods
from tfmtl2r._backend import keras, tf
from tfmtl2r.features.dense import Dense
from tfmtl2r.methods.base import Method, Signals
from tfmtl2r.methods.deciding import weigh
from tfmtl2r.report.figures import saved
from tfmtl2r.schema import Schema
from tfmtl2r.task import Task
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.writing import written

__all__ = [
    "ARCHITECTURE", "FEATURES", "ITEMS", "LISTS", "Overhead", "compiled_step", "interleaved", "overheads", "read_csv",
    "write_csv",
]

LISTS, ITEMS, FEATURES = 8, 60, 136
PLAIN = "linear_scalarization"
ARCHITECTURE = {"name": "shared_bottom", "units": [512, 256, 128], "head_units": [64]}


@dataclasses.dataclass(frozen=True)
class Overhead:
    """The cost of one method with one gradient mode and one number of tasks.

    Args:
        tasks: number of tasks T.
        method: canonical name of the method.
        gradients: ``"parameters"``, ``"features"``, or ``"losses"`` for a method that uses only losses.
        median_ms: median time of a step in milliseconds.
        ratio: time of a step divided by the time of a plain step, as median over rounds.
        ratio_q1, ratio_q3: quartiles of the ratio.
        solver_ms: time of the method's decision from the T x T Gram matrix; NaN for a method that does not use it.
        solver_share: share of the decision in the time of the step, in [0, 1].
    """

    tasks: int
    method: str
    gradients: str
    median_ms: float
    ratio: float
    ratio_q1: float
    ratio_q3: float
    solver_ms: float
    solver_share: float


def overheads(tasks: int, names: Iterable[str], rounds: int = 9, steps: int = 2) -> list[Overhead]:
    """Measures methods for one number of tasks. The first result is the plain step.

    Args:
        tasks: number of tasks T, at least 1.
        names: names of methods. A method that needs more tasks raises its usual error.
        rounds: number of turns of each variant.
        steps: training steps per turn.
    """
    chosen = variants(names)
    runs: dict[Any, Callable[[], Any]] = {variant: compiled_step(tasks, *variant) for variant in chosen}
    runs |= {("solver", name): compiled_solver(tasks, name) for name in weighing(name for name, _ in chosen)}
    times = interleaved(runs, rounds, steps)
    plain = times[PLAIN, "losses"]
    rows = []
    for method, mode in chosen:
        spent = times[method, mode]
        low, middle, high = np.percentile(spent / plain, [25, 50, 75])
        solver = times.get(("solver", method), np.full(rounds, np.nan))
        rows.append(Overhead(tasks, method, mode, *map(float, (
            np.median(spent), middle, low, high, np.median(solver), np.median(solver / spent)
        ))))
    return rows


def variants(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of method and gradient mode, with the plain step first. A scalarisation has only the mode ``"losses"``."""
    chosen = [(PLAIN, "losses")]
    for name in map(methods.registry.resolve, names):
        method = methods.get(name)
        chosen += [(name, mode) for mode in (method.modes if looks_at_gradients(method) else ("losses",))]
    return list(dict.fromkeys(chosen))


def looks_at_gradients(method: Method) -> bool:
    """Whether a method needs gradients in addition to losses."""
    return bool(method.needs & {"gram", "rows"})


def weighing(names: Iterable[str]) -> list[str]:
    """The methods that compute weights from a Gram matrix."""
    return list(dict.fromkeys(name for name in names if "gram" in methods.get(name).needs))


def compiled_step(tasks: int, method: str, mode: str) -> Callable[[], Any]:
    """Returns a function that runs a traced training step on one constant batch and returns the loss."""
    keras.utils.set_random_seed(0)
    names = [f"task_{t}" for t in range(tasks)]
    model = MultiTaskRanker(ARCHITECTURE, [Task(n, loss="softmax") for n in names], Schema([Dense("x", (FEATURES,))]))
    gradients = "parameters" if mode == "losses" else mode
    model.compile("adam", method=method, gradients=gradients, train_metrics=False)
    rng = np.random.default_rng(0)
    x = {
        "x": tf.constant(rng.normal(size=(LISTS, ITEMS, FEATURES)), tf.float32),
        "list_size": tf.constant(rng.integers(ITEMS // 2, ITEMS + 1, LISTS), tf.int32),
    }
    y = {name: tf.constant(rng.integers(0, 5, (LISTS, ITEMS)), tf.float32) for name in names}
    model.prepare(x)
    step = tf.function(model.train_step, autograph=False).get_concrete_function((x, y))
    return lambda: step((x, y))["loss"]


def compiled_solver(tasks: int, name: str) -> Callable[[], Any]:
    """Returns a function that computes a method's weights in a traced graph.

    Its input is the Gram matrix of random gradients whose lengths differ by up to a factor of 10.
    """
    method = methods.get(name)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(tasks, 4096)) * 10 ** rng.uniform(-0.5, 0.5, (tasks, 1))
    rows -= 0.5 * rows.mean(0)
    state = {key: tf.constant(value) for key, value in method.initial_state(tasks).items()}

    def decide(gram: Any, losses: Any, step: Any) -> Any:
        signals = Signals(
            losses=losses, preference=tf.fill([tasks], 1.0 / tasks), present=tf.ones([tasks], tf.bool), gram=gram,
            cross=gram, step=step, epoch=tf.constant(2, tf.int64), seed=tf.stack([0, tf.cast(step, tf.int32)]),
        )
        return weigh(method, signals, state)[0]

    given = (
        tf.constant(rows @ rows.T, tf.float32), tf.constant(rng.uniform(0.5, 2.0, tasks), tf.float32),
        tf.constant(1, tf.int64),
    )
    compiled = tf.function(decide, autograph=False).get_concrete_function(*given)
    return lambda: compiled(*given)


def interleaved(
    runs: Mapping[Any, Callable[[], Any]], rounds: int, repeats: int, clock: Callable[[], float] = time.perf_counter,
) -> dict[Any, np.ndarray]:
    """Milliseconds per call in each round. In every round all runs take one turn, in a new random order.

    Args:
        runs: name -> what to measure.
        rounds: turns of each, after one that warms up.
        repeats: calls in a turn.
        clock: seconds; ``time.process_time`` counts the time of the processors, on which other load has less influence.
    """
    times: dict[Any, list[float]] = {name: [] for name in runs}
    rng = np.random.default_rng(0)
    order = list(runs)
    for round_ in range(rounds + 1):
        for index in rng.permutation(len(order)):
            start = clock()
            for _ in range(repeats):
                result = runs[order[index]]()
            np.asarray(result)
            if round_:  # the first round warms up
                times[order[index]].append((clock() - start) / repeats * 1e3)
    return {name: np.array(spent) for name, spent in times.items()}


def write_csv(rows: Sequence[Overhead], path: str | Path) -> Path:
    """Writes one line per measurement."""
    with written(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(Overhead)])
        writer.writeheader()
        writer.writerows(map(dataclasses.asdict, rows))
    return Path(path)


def read_csv(path: str | Path) -> list[Overhead]:
    """Reads a file of :func:`write_csv`."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        return [
            Overhead(int(row["tasks"]), row["method"], row["gradients"], *(float(row[f.name]) for f in _NUMBERS))
            for row in csv.DictReader(file)
        ]


_NUMBERS = dataclasses.fields(Overhead)[3:]


def picture(rows: Sequence[Overhead], path: str | Path) -> Path:
    """Plots the ratio over the number of tasks: one panel per gradient mode, one line with quartiles per method.

    Args:
        rows: measurements.
        path: the PNG file to write.
    """
    modes = [mode for mode in ("parameters", "features", "losses") if any(row.gradients == mode for row in rows)]
    titles = {"parameters": "exact gradients", "features": "gradients at the cut", "losses": "losses only"}
    figure = Figure(figsize=(5.2 * len(modes), 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, mode in zip(np.atleast_1d(figure.subplots(1, len(modes))), modes, strict=True):
        shown = [row for row in rows if row.gradients == mode]
        for i, name in enumerate(sorted({row.method for row in shown})):
            line = sorted((row for row in shown if row.method == name), key=lambda row: row.tasks)
            middle = np.array([row.ratio for row in line])
            spread = np.abs(np.array([[row.ratio_q1, row.ratio_q3] for row in line]).T - middle)
            axes.errorbar([row.tasks for row in line], middle, spread, label=name, marker="osv^D"[i // 10 % 5],
                          color=f"C{i % 10}", markersize=4, linewidth=1, capsize=2)
        axes.set(title=titles[mode], xlabel="tasks", xticks=sorted({row.tasks for row in shown}), yscale="log",
                 ylabel="time of a step / plain step")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=6, ncols=2)
    return saved(figure, path)
