"""What balancing costs: the time of a training step of each method, as a multiple of the plain summed-loss step.

    python recipes/bench_methods.py --tasks 2 5 --methods mgda pcgrad

All variants train the same shared-bottom model on the same batch (8 lists of 30 to 60 items, 136 features). They run
interleaved, a few steps each in turn, so that other load on the machine hits all alike; a ratio is the median over
rounds of the ratio within a round.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Callable, Iterator

import numpy as np
from rich.console import Console
from rich.table import Table

from tfmtl2r import MultiTaskRanker, Schema, Task, methods
from tfmtl2r._backend import keras, tf
from tfmtl2r.schema import Dense

LISTS, ITEMS, FEATURES = 8, 60, 136
PLAIN = "linear_scalarization"
ARCHITECTURE = {"name": "shared_bottom", "units": [512, 256, 128], "head_units": [64]}
COLUMNS = ("tasks", "method", "gradients", "median_ms", "ratio", "ratio_q1", "ratio_q3")


def main() -> None:
    """Measures and prints one table per number of tasks."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--tasks", type=int, nargs="+", default=[5], help="numbers of tasks")
    parser.add_argument("--methods", nargs="+", default=methods.names(), help="names of methods; all by default")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=3, help="steps of a variant in each round")
    parser.add_argument("--csv", help="also write the rows to this file")
    options = parser.parse_args()
    rows = []
    for tasks in options.tasks:
        steps = {variant: compiled_step(tasks, *variant) for variant in variants(options.methods)}
        measured = measure(steps, options.rounds, options.steps)
        rows += [dict(zip(COLUMNS, (tasks, *row), strict=True)) for row in measured]
        show(rows, tasks)
    if options.csv:
        with open(options.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


def variants(names: list[str]) -> list[tuple[str, str]]:
    """Method and gradient mode, the plain step first; a scalarisation is the same in both modes."""
    chosen = [(PLAIN, "parameters")]
    for name in map(methods.registry.resolve, names):
        method = methods.registry.constructor(name)
        chosen += [(name, mode) for mode in (method.modes if method.needs else ("parameters",))]
    return list(dict.fromkeys(chosen))


def compiled_step(tasks: int, method: str, mode: str) -> Callable[[], dict]:
    """A traced training step on one constant batch."""
    keras.utils.set_random_seed(0)
    names = [f"task_{t}" for t in range(tasks)]
    model = MultiTaskRanker(ARCHITECTURE, [Task(n, loss="softmax") for n in names], Schema([Dense("x", (FEATURES,))]))
    model.compile("adam", method=method, gradients=mode, train_metrics=False)
    rng = np.random.default_rng(0)
    x = {
        "x": tf.constant(rng.normal(size=(LISTS, ITEMS, FEATURES)), tf.float32),
        "list_size": tf.constant(rng.integers(ITEMS // 2, ITEMS + 1, LISTS), tf.int32),
    }
    y = {name: tf.constant(rng.integers(0, 5, (LISTS, ITEMS)), tf.float32) for name in names}
    model.prepare(x)
    step = tf.function(model.train_step).get_concrete_function((x, y))
    return lambda: step((x, y))


def measure(steps: dict, rounds: int, repeats: int) -> Iterator[tuple]:
    """Yields ``(method, mode, median ms, median ratio, lower and upper quartile of the ratio)`` per variant."""
    times = {variant: [] for variant in steps}
    for round_ in range(rounds + 1):
        for variant, step in steps.items():
            start = time.perf_counter()
            for _ in range(repeats):
                logs = step()
            float(logs["loss"])
            if round_:  # the first round warms up
                times[variant].append((time.perf_counter() - start) / repeats * 1e3)
    plain = np.array(times[PLAIN, "parameters"])
    for (method, mode), spent in times.items():
        low, middle, high = np.percentile(np.array(spent) / plain, [25, 50, 75])
        yield method, mode, float(np.median(spent)), float(middle), float(low), float(high)


def show(rows: list[dict], tasks: int) -> None:
    """Prints the rows of one number of tasks."""
    load = os.getloadavg()[0]
    table = Table(title=f"{tasks} tasks, {LISTS} lists x {ITEMS} items x {FEATURES} features, load {load:.1f}")
    for name in ("method", "gradients", "median ms", "x plain", "quartiles"):
        table.add_column(name, justify="left" if name in ("method", "gradients") else "right")
    for row in (row for row in rows if row["tasks"] == tasks):
        spread = f"{row['ratio_q1']:.2f}-{row['ratio_q3']:.2f}"
        table.add_row(row["method"], row["gradients"], f"{row['median_ms']:.1f}", f"{row['ratio']:.2f}", spread)
    Console().print(table)


if __name__ == "__main__":
    main()
