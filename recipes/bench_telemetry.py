"""What TensorBoard's logs cost a training step: blocks of steps with and without them, in turns.

    python recipes/bench_telemetry.py

A block is an epoch of ``--steps`` training steps of the model of ``tfmtl2r bench methods``. With the logs, one of
``--every`` steps (100, the default of ``training.telemetry_every``) is a sample, and every block ends as an epoch
does. Times are those of the processors. A ratio is the median over rounds of the ratio within a round. The exit code is
1 where the logs take over 5 %.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from rich.table import Table

from tfmtl2r import Dense, MultiTaskRanker, Schema, Task
from tfmtl2r.report import TensorBoard, show
from tfmtl2r.report.benchmark import ARCHITECTURE, FEATURES, ITEMS, LISTS, interleaved

LIMIT = 1.05
CASES = (("nash_mtl", "parameters", "exact gradients"), ("mgda", "features", "gradients at the cut"),
         ("linear_scalarization", "parameters", "losses only"))


def main() -> int:
    """Measures, prints a table, and judges it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100, help="training steps per block")
    parser.add_argument("--every", type=int, default=100, help="training steps between samples")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    table = Table(title=f"{options.tasks} tasks, a sample every {options.every} steps", title_justify="left")
    for name in ("method", "reads", "step ms", "with logs ms", "ratio", "quartiles"):
        table.add_column(name, justify="left" if name in ("method", "reads") else "right")
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for method, gradients, reads in CASES:
            runs = {logs: block(options, method, gradients, Path(folder) / method if logs else None)
                    for logs in (False, True)}
            times = interleaved(runs, options.rounds, 1, time.process_time)
            low, middle, high = np.percentile(times[True] / times[False], [25, 50, 75])
            ratios.append(middle)
            plain, logged = (np.median(times[logs]) / options.steps for logs in (False, True))
            table.add_row(method, reads, f"{plain:.2f}", f"{logged:.2f}", f"{middle:.3f}", f"{low:.3f}-{high:.3f}")
    show(table)
    return int(max(ratios) > LIMIT)


def block(options: argparse.Namespace, method: str, gradients: str, folder: Path | None) -> Callable[[], Any]:
    """A function that trains for a block of steps on one batch, with logs in a folder, or without."""
    rng = np.random.default_rng(0)
    names = [f"task_{task}" for task in range(options.tasks)]
    x = {"x": tf.constant(rng.normal(size=(LISTS, ITEMS, FEATURES)), tf.float32),
         "list_size": tf.constant(rng.integers(ITEMS // 2, ITEMS + 1, LISTS), tf.int32)}
    y = {name: tf.constant(rng.integers(0, 5, (LISTS, ITEMS)), tf.float32) for name in names}
    model = MultiTaskRanker(ARCHITECTURE, [Task(n, loss="softmax") for n in names], Schema([Dense("x", (FEATURES,))]))
    model.compile("adam", method=method, gradients=gradients, train_metrics=False)
    model.prepare(x)
    logs = None if folder is None else TensorBoard(folder, options.every, sample=x)
    if logs is not None:
        logs.set_model(model)
        logs.on_train_begin()
    step = tf.function(model.train_step, autograph=False).get_concrete_function((x, y))

    def run() -> Any:
        for number in range(options.steps):
            found = step((x, y))
            if logs is not None:
                logs.on_train_batch_end(number)
        if logs is not None:
            logs.on_epoch_end(0, dict.fromkeys(("loss", *(f"{task}_loss" for task in names)), 1.0))
        return found["loss"]

    return run


if __name__ == "__main__":
    sys.exit(main())
