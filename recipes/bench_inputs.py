"""What inputs made of numbers cost in the graph: ranks, copies within the list and steps beside plain z-scores.

    python recipes/bench_inputs.py

A row encodes 8 lists of 128 items with 131 numbers, and one list of 100 items as a request has it. The peer of the
ranks searches column after column. All rows run interleaved; a number is the median over rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.table import Table

from tfmtl2r import Batch, Dense, Task
from tfmtl2r.data import Lists, fit_schema
from tfmtl2r.layers import Encoder
from tfmtl2r.report import show

# isort: split
# After tfmtl2r, which holds back TensorFlow's start-up lines.
import tensorflow as tf

FEATURES, TRAIN = 131, 20_000
SHAPES = {"8 x 128": (8, 128), "1 x 100": (1, 100)}
INPUTS: dict[str, dict[str, Any]] = {
    "signed_log1p": {},
    "and rank_gauss": {"copies": ("rank_gauss",)},
    "and within_list": {"copies": ("rank_gauss",), "within_list": True},
    "and 524 steps": {"copies": ("rank_gauss",), "within_list": True, "steps": 4},
}


def encoder(train: Lists, options: dict[str, Any]) -> Callable[[Batch], Any]:
    """The fitted encoder of a vector with these inputs."""
    feature = Dense("features", (FEATURES,), transform="signed_log1p", **options)
    layer = Encoder(fit_schema(train, [Task("y")], [feature]))
    return lambda batch: layer(batch=batch)


def column_by_column(train: Lists) -> Callable[[Batch], Any]:
    """Ranks with two searches for each column in its own training values."""
    values = np.sort(train.columns["features"], axis=0)

    def encode(batch: Batch) -> Any:
        rows, found = batch.packed(batch.features["features"]), []
        for number in range(FEATURES):
            known, column = tf.constant(values[:, number]), rows[:, number]
            places = [tf.searchsorted(known, column, side=side) for side in ("left", "right")]
            share = tf.cast(tf.add_n(places), tf.float32) / 2 / TRAIN
            found.append(tf.math.ndtri(tf.clip_by_value(share, 0.5 / TRAIN, 1 - 0.5 / TRAIN)))
        return tf.stack(found, axis=-1)

    return encode


def measured(functions: dict[str, Callable[[Batch], Any]], shape: tuple[int, int], rounds: int) -> dict[str, float]:
    """Median milliseconds of each function on lists of this shape."""
    values = tf.random.stateless_normal([*shape, FEATURES], [0, 1])

    valid = tf.ones(shape, tf.bool)

    def traced(function: Callable[[Batch], Any]) -> Any:
        def encode(x: Any, valid: Any) -> Any:
            return function(Batch({"features": x}, list_size=tf.fill(shape[:1], shape[1]), valid=valid))

        return tf.function(encode, autograph=False).get_concrete_function(values, valid)

    graphs = {name: traced(function) for name, function in functions.items()}
    times: dict[str, list[float]] = {name: [] for name in graphs}
    for number in range(rounds + 2):
        for name, graph in graphs.items():
            start = time.perf_counter()
            graph(values, valid).numpy()
            if number >= 2:
                times[name].append(time.perf_counter() - start)
    return {name: 1000 * float(np.median(each)) for name, each in times.items()}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    rng = np.random.default_rng(0)
    train = Lists({"features": rng.normal(size=(TRAIN, FEATURES)).astype(np.float32), "y": np.zeros(TRAIN)},
                  np.arange(0, TRAIN + 1, 100))
    functions = {name: encoder(train, options) for name, options in INPUTS.items()}
    functions["rank_gauss, column by column"] = column_by_column(train)
    found = {name: measured(functions, shape, rounds) for name, shape in SHAPES.items()}
    table = Table(title=f"Milliseconds to encode {FEATURES} numbers per item", title_justify="left")
    table.add_column("inputs")
    for name in SHAPES:
        table.add_column(name, justify="right")
    for name in functions:
        table.add_row(name, *(f"{times[name]:.2f}" for times in found.values()))
    show(table)


if __name__ == "__main__":
    main()
