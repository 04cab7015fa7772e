"""What an embedding table costs a training step: milliseconds and peak memory at 10^5, 10^6 and 10^7 rows, 5 tasks.

    python recipes/bench_tables.py

Every size and optimizer runs in a process of its own. Memory is the peak of the steps above what the process holds
before them (the table, the optimizer's slots, TensorFlow); it needs Linux. Keras 3's Adam is shown up to a million
rows: its step grows with the table.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.table import Table

from tfmtl2r.report import show

CASES = ("LazyAdam", "Adagrad", "Keras Adam")
KERAS_ROWS = 1_000_000
CHUNK = 100_000


def main() -> None:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10**5, 10**6, 10**7])
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=512, help="rows of data per step")
    parser.add_argument("--method", default="mgda")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options.child[0], int(options.child[1]), options)))
        return
    table = Table(title=f"5 tasks, {options.method}, width {options.width}, {options.batch} rows per step")
    for column in ("rows", "optimizer", "ms per step", "table + slots, MB", "peak above them, MB"):
        table.add_column(column, justify="right")
    for rows in options.rows:
        for case in CASES:
            if case == "Keras Adam" and rows > KERAS_ROWS:
                continue
            command = [sys.executable, __file__, "--child", case, str(rows), "--width", str(options.width), "--batch",
                       str(options.batch), "--method", options.method, "--steps", str(options.steps)]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            result = json.loads(answer.strip().splitlines()[-1])
            table.add_row(f"{rows:,}", case, *(f"{result[key]:.1f}" for key in ("ms", "held", "above")))
    show(table)


def measured(case: str, rows: int, options: argparse.Namespace) -> dict[str, float]:
    """One optimizer on one table: median step time, size of table and slots, peak memory of the steps above it."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tfmtl2r

    tasks = [tfmtl2r.Task(f"t{i}", kind="binary", loss="bce", metrics=()) for i in range(5)]
    schema = tfmtl2r.Schema([tfmtl2r.Dense("x", shape=(8,)), tfmtl2r.Category("id", buckets=rows, dim=options.width)])
    model = tfmtl2r.MultiTaskRanker("shared_bottom", tasks, schema, has_lists=False)
    optimizers = {"LazyAdam": tfmtl2r.LazyAdam, "Adagrad": tfmtl2r.Adagrad, "Keras Adam": keras.optimizers.Adam}
    model.compile(optimizers[case](), method=options.method, train_metrics=False)
    rng = np.random.default_rng(0)
    size = options.batch
    x = {"x": rng.normal(size=(size, 8)).astype(np.float32), "id": rng.integers(0, rows, size).astype(np.int32)}
    y = {task.name: rng.integers(0, 2, size).astype(np.float32) for task in tasks}
    batch = tf.nest.map_structure(tf.constant, (x, y))
    model.prepare(batch)
    step = tf.function(model.train_step, autograph=False)
    step(batch)  # traces
    for slot in model.optimizer.variables:  # zeros that nobody wrote to take no memory yet, and then faults take time
        for start in range(0, slot.shape[0] if len(slot.shape) == 2 else 0, CHUNK):
            chunk = tf.range(start, min(start + CHUNK, slot.shape[0]))
            slot.value.scatter_add(tf.IndexedSlices(tf.fill([len(chunk), slot.shape[1]], 1e-9), chunk))
    held = sum(v.shape.num_elements() * 4 for v in model.optimizer.variables + model.trainable_variables) / 1e6
    before = _reset_peak()
    times = []
    for _ in range(options.steps):
        start = time.perf_counter()
        step(batch)["loss"].numpy()
        times.append(1000 * (time.perf_counter() - start))
    return {"ms": statistics.median(times), "held": held, "above": _kilobytes("VmHWM") / 1e3 - before}


def _reset_peak() -> float:
    """Forgets the peak so far; returns what the process holds now, in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _kilobytes("VmRSS") / 1e3


def _kilobytes(key: str) -> float:
    return float(re.search(rf"{key}:\s*(\d+)", Path("/proc/self/status").read_text()).group(1))


if __name__ == "__main__":
    main()
