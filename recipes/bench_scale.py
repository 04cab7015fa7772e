"""How step time and memory grow: with tasks, list length, batch, rows of a table, rows of a store, and pairs of a loss.

    python recipes/bench_scale.py --to runs/scale                 # all curves; half an hour on two free cores
    python recipes/bench_scale.py --curves store --sizes 1e5 1e6 1e7
    python recipes/bench_scale.py --curves --page docs/scale.md  # measures nothing, and writes what the folder has

The folder keeps all points. A point that is measured again replaces the earlier one. ``--page`` replaces the section of
the page between two comments, and its picture.

Every point is a process of its own. Step time is CPU time, the median of the steps after the first ones; of a training
from a store, it is the time on the clock. Memory is the peak of the process; it needs Linux. A curve y ~ x^k is fitted
to the upper half of its points, by least squares of logarithms.
The curve "store" makes a table with 25 rows per list, prepares a store of it, trains one epoch from the store with
``Experiment.run``, and evaluates on splits that stay small. The curve "losses" computes one loss with its gradient for
two lists of 10,000 items. Losses with matrices of pairs compute as many lists at a time as fit, here one, so that the
peak is that of any batch.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from tfmtl2r.report import show
from tfmtl2r.writing import write_json, write_text

ROWS_PER_LIST, WIDTH, FEATURES = 25, 64, 16
SIZES = {
    "tasks": [1, 2, 5, 10, 20], "length": [10, 30, 100, 300, 1000], "batch": [16, 64, 256, 1024],
    "table": [10**4, 10**5, 10**6, 10**7, 10**8], "store": [10**5, 10**6, 10**7],
}  # fmt: skip
MODES = {"tasks": ("plain", "features", "parameters"), "length": ("features",), "batch": ("features",),
         "table": ("features",), "store": ("prepare", "train")}  # fmt: skip
LONG = 10_000
KEYS = {"ms": "CPU ms per step", "seconds": "seconds", "wall_ms": "ms per step", "input_ms": "ms per batch alone",
        "before_mb": "MB before", "peak_mb": "peak MB"}  # fmt: skip
TITLES = {"tasks": "number of tasks", "length": "items of a list", "batch": "lists of a batch",
          "table": "rows of an embedding table", "store": "rows of a store"}  # fmt: skip
NAMES = {"plain": "plain sum", "features": "at the cut", "parameters": "exact", "prepare": "preparation",
         "train": "training"}  # fmt: skip
COLOURS = ("#0072B2", "#D55E00", "#009E73")
"""Colours that people with any colour vision tell apart (Okabe and Ito)."""
BEGIN, END = "<!-- bench_scale: begin -->", "<!-- bench_scale: end -->"
ABOUT = """Every point is a process of its own. A step trains a ranker with two
layers of 64 units on one batch: 5 tasks, 64 lists of 25 items, 16 numbers and a category with 1,000 rows of width 16
(width 8 at 10⁸ rows), with one of these changed. "At the cut" and "exact" are `mgda` on gradients at shared features
and on those of the parameters. A store of the rows is prepared and trained as above; "ms per batch alone" is reading
without a ranker. Exponents are fitted to the upper half of the points. Peak memory is that of the whole process. CPU
time is that of all threads."""


def main() -> None:
    """Measures the curves, prints a table and the exponents, and writes numbers and pictures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--curves", nargs="*", choices=[*SIZES, "losses"], default=[*SIZES, "losses"])
    parser.add_argument("--sizes", type=float, nargs="+", help="sizes in place of the usual ones")
    parser.add_argument("--losses", nargs="+", help="names of losses in place of all that make pairs")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--to", type=Path, default=Path("runs") / "scale", help="folder of all results")
    parser.add_argument("--page", type=Path, help="a page with the section, or that gets it at its end")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        curve, size, mode = options.child
        print(json.dumps(CHILDREN[curve](size, mode, options) | {"peak_mb": _peak()}))
        return
    for curve in options.curves:
        sizes = options.sizes or SIZES.get(curve) or options.losses or _losses_of_pairs()
        for size in sizes:
            for mode in MODES.get(curve, ("loss",)):
                size = size if isinstance(size, str) else int(size)
                point = {"size": size, "mode": mode} | _in_a_process(curve, size, mode, options)
                print(json.dumps(point), flush=True)
                _keep(curve, point, options.to)
        _report(curve, kept(curve, options.to))
    if options.page:
        write_page(options.page, {curve: kept(curve, options.to) for curve in SIZES})


def kept(curve: str, folder: Path) -> list[dict[str, Any]]:
    """The points of a curve that have been measured, by mode and size."""
    path = folder / f"{curve}.json"
    found: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
    return found


def _keep(curve: str, point: dict[str, Any], folder: Path) -> None:
    others = [one for one in kept(curve, folder) if (one["size"], one["mode"]) != (point["size"], point["mode"])]
    write_json(folder / f"{curve}.json", sorted([*others, point], key=lambda one: (one["mode"], one["size"])))


def _in_a_process(curve: str, size: Any, mode: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", curve, str(size), mode, "--steps", str(options.steps), "--to",
               str(options.to)]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"{curve} at {size}, {mode}:\n{run.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(run.stdout.strip().splitlines()[-1])
    return found


def step(size: str, mode: str, options: argparse.Namespace, curve: str) -> dict[str, float]:
    """The step time of one ranker on one batch: plain sums of losses, or MGDA at the cut or on parameters."""
    import tensorflow as tf

    import tfmtl2r

    at = {"tasks": 5, "length": 25, "batch": 64, "table": 1000} | {curve: int(size)}
    tasks = [tfmtl2r.Task(f"t{i}", kind="binary", metrics=()) for i in range(at["tasks"])]
    ids = tfmtl2r.Category("id", buckets=at["table"], dim=16 if at["table"] <= 10**7 else 8)
    schema = tfmtl2r.Schema([tfmtl2r.Dense("x", shape=(FEATURES,)), ids])
    model = tfmtl2r.MultiTaskRanker({"name": "shared_bottom", "units": [WIDTH, WIDTH]}, tasks, schema)
    method = {"method": "linear_scalarization"} if mode == "plain" else {"method": "mgda", "gradients": mode}
    model.compile(tfmtl2r.Adagrad(), train_metrics=False, **method)
    rng, shape = np.random.default_rng(0), (at["batch"], at["length"])
    x = {"x": rng.normal(size=(*shape, FEATURES)).astype(np.float32),
         "id": rng.integers(0, at["table"], shape).astype(np.int32), "list_size": np.full(shape[0], shape[1], np.int32)}
    y = {task.name: rng.integers(0, 2, shape).astype(np.float32) for task in tasks}
    batch = tf.nest.map_structure(tf.constant, (x, y))
    model.prepare(batch)
    train = tf.function(model.train_step, autograph=False)
    return {"ms": _median_ms(lambda: train(batch), options.steps)}


def store(size: str, mode: str, options: argparse.Namespace) -> dict[str, float]:
    """Makes a store of a table, or trains one epoch from it and evaluates."""
    from tfmtl2r import Experiment

    folder = options.to / f"store-{size}"
    tables = {split: str(folder / f"{split}.parquet") for split in ("train", "vali", "test")}
    given: dict[str, Any] = {
        "tasks": [{"name": "click", "kind": "binary"}, {"name": "grade"}], "method": "mgda", "name": "run",
        "directory": str(folder / "runs"), "training": {"epochs": 1, "batch_size": 512, "patience": 0},
        "architecture": {"name": "shared_bottom", "units": [WIDTH]}, "optimizer": {"name": "adagrad"},
    }
    began = time.perf_counter()
    if mode == "prepare":
        shutil.rmtree(folder, ignore_errors=True)
        for number, (split, path) in enumerate(tables.items()):
            write_table(Path(path), int(size) if split == "train" else 10_000, number)
        began = time.perf_counter()
        Experiment(**given, data={**tables, "list_id": "list"}).dataset().to_store(folder / "store")
        return {"seconds": time.perf_counter() - began}
    experiment = Experiment(**given, data={"files": str(folder / "store")})
    _, card = experiment.run(verbose=0)
    seconds = time.perf_counter() - began
    read = experiment.dataset().load("train", batch_size=experiment.training.batch_size, shuffle=True)
    began = time.perf_counter()
    for _ in read:
        pass
    return {"seconds": seconds, "wall_ms": card.step_ms,
            "input_ms": 1000 * (time.perf_counter() - began) / int(read.cardinality())}


def write_table(path: Path, rows: int, seed: int) -> None:
    """Rows of lists of 25 that do not lie together: the list of a row is its number modulo the number of lists."""
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    rng, lists, writer = np.random.default_rng(seed), max(rows // ROWS_PER_LIST, 1), None
    for first in range(0, rows, 1 << 20):
        numbers = np.arange(first, min(first + (1 << 20), rows))
        columns = {f"x{i}": rng.normal(size=len(numbers)).astype(np.float32) for i in range(6)}
        table = pyarrow.table({"list": numbers % lists, "brand": rng.integers(0, 50, len(numbers)), **columns,
                               "click": (columns["x0"] > rng.normal(size=len(numbers))).astype(np.int8),
                               "grade": rng.integers(0, 4, len(numbers)).astype(np.int8)})
        writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def loss(name: str, mode: str, options: argparse.Namespace) -> dict[str, float]:
    """One loss with its gradient for two long lists."""
    import tensorflow as tf

    from tfmtl2r import losses

    made, rng = losses.get(name), np.random.default_rng(0)
    scores = tf.constant(rng.normal(size=(2, LONG)).astype(np.float32))
    labels = tf.constant(rng.integers(0, 2, size=(2, LONG)).astype(np.float32))
    known = tf.ones([2, LONG], tf.bool)

    @tf.function(autograph=False)
    def gradient() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(scores)
            value, _ = made.per_list(labels, scores, known, seed=tf.constant([0, 0]))
        return tape.gradient(value, scores)

    before = _peak()
    return {"ms": _median_ms(gradient, 1, warm=1), "before_mb": before}


def _losses_of_pairs() -> list[str]:
    """Losses that make whole matrices of pairs, and those that sum over pairs in blocks."""
    from tfmtl2r import losses

    made = {name: losses.registry.constructor(name) for name in losses.names()}
    return [name for name, cls in made.items()
            if cls.longest is not None or "tfmtl2r.losses._pairwise" in {one.__module__ for one in cls.__mro__}]


def _median_ms(call: Callable[[], Any], steps: int, warm: int = 3) -> float:
    times = []
    for _ in range(warm + steps):
        began = time.process_time()  # of all threads: other programs on the machine hardly change it
        found = call()
        for value in found.values() if isinstance(found, dict) else [found]:
            np.asarray(value)
        times.append(time.process_time() - began)
    return 1000 * statistics.median(times[warm:])


def _peak() -> float:
    """Megabytes of the process at its peak."""
    found = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def exponent(sizes: list[float], values: list[float]) -> float:
    """k of y ~ x^k in the upper half of the points."""
    half = len(sizes) // 2 if len(sizes) > 3 else 0
    return float(np.polyfit(np.log(sizes[half:]), np.log(values[half:]), 1)[0]) if len(sizes) > 1 else float("nan")


def _report(curve: str, points: list[dict[str, Any]]) -> None:
    keys = [key for key in KEYS if any(key in point for point in points)]
    table = Table(title=curve, title_justify="left")
    for column in ("size", "mode", *keys):
        table.add_column(column, justify="right")
    for point in points:
        table.add_row(str(point["size"]), point["mode"], *(f"{point[key]:.1f}" if key in point else "" for key in keys))
    show(table)
    if curve != "losses":
        for mode, key, k in exponents(points):
            print(f"{curve}, {mode}: {key} ~ size^{k:.2f}")


def exponents(points: list[dict[str, Any]]) -> list[tuple[str, str, float]]:
    """(mode, key, exponent) of the lines of a curve with at least two points."""
    found = []
    for mode in dict.fromkeys(point["mode"] for point in points):
        for key in KEYS:
            mine = [(point["size"], point[key]) for point in points if point["mode"] == mode and key in point]
            if len(mine) > 1:
                found.append((mode, key, exponent(*map(list, zip(*mine, strict=True)))))
    return found


def write_page(page: Path, curves: dict[str, list[dict[str, Any]]]) -> None:
    """Replaces the section of a page, and the picture in the folder ``images`` beside it."""
    lines = [BEGIN, "## Curves", "", f"Measured on {datetime.datetime.now(datetime.UTC).date()} with "
             f"{os.cpu_count()} CPU cores. {ABOUT}", "", "![cost curves](images/bench_scale.png)", ""]
    for curve, points in curves.items():
        keys = [key for key in KEYS if any(key in point for point in points)]
        if not points:
            continue
        lines += [f"**{TITLES[curve]}**", "", f"| {curve} | what | {' | '.join(KEYS[key] for key in keys)} |",
                  f"| --- | --- |{' --- |' * len(keys)}"]
        lines += [f"| {point['size']:,} | {NAMES[point['mode']]} | "
                  f"{' | '.join(f'{point[key]:,.1f}' if key in point else '' for key in keys)} |" for point in points]
        fitted = [f"{NAMES[mode]}: {KEYS[key]} ~ size^{k:.2f}" for mode, key, k in exponents(points)]
        lines += ["", ";\n".join(fitted) + ("." if fitted else ""), ""]
    text = "\n".join([*lines, END])
    write_text(page, replaced(page.read_text(encoding="utf-8"), text, BEGIN, END))
    picture(curves, page.parent / "images" / "bench_scale.png")


def replaced(page: str, section: str, begin: str, end: str) -> str:
    """A page with a new text for the section between two comments; a page without it gets it at its end."""
    start, _, rest = page.partition(begin)
    return f"{start.rstrip()}\n\n{section}{rest.partition(end)[2] or chr(10)}"


def picture(curves: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """A column for each curve: time above, peak memory below. Each line has its name at its end."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = {curve: points for curve, points in curves.items() if points}
    FigureCanvasAgg(figure := Figure(figsize=(3.4 * len(drawn), 5.4), layout="constrained"))
    for column, (curve, points) in zip(figure.subplots(2, len(drawn), squeeze=False).T, drawn.items(), strict=True):
        for axes, keys in zip(column, (("ms", "seconds"), ("peak_mb",)), strict=True):
            key = next((one for one in keys if all(one in point for point in points)), keys[-1])
            lines = {mode: [(point["size"], point[key]) for point in points if point["mode"] == mode]
                     for mode in dict.fromkeys(point["mode"] for point in points)}
            _draw(axes, lines)
            grown = [k for _, one, k in exponents(points) if one == key]
            axes.set(xlabel=TITLES[curve], ylabel=KEYS[key])
            axes.set_title(" to ".join(dict.fromkeys(f"$x^{{{k:.2f}}}$" for k in (min(grown), max(grown)))), fontsize=9)
            if key == "peak_mb":
                axes.set(yscale="linear", ylim=(0, 1.15 * max(point[key] for point in points)))
            _name_ends(axes, lines)
    figure.suptitle("How time and peak memory grow with the size x; the power is fitted to the upper half", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _draw(axes: Any, lines: dict[str, list[tuple[float, float]]]) -> None:
    for place, mine in enumerate(lines.values()):
        axes.plot(*zip(*mine, strict=True), marker="os^"[place], color=COLOURS[place], linewidth=1.6)
    axes.set(xscale="log", yscale="log")
    least, most = axes.get_ylim()
    middle = (least * most) ** 0.5
    axes.set_ylim(min(least, middle / 4), max(most, 4 * middle))  # noise of a flat line shall look like noise
    axes.spines[["top", "right"]].set_visible(False)
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * (high / low) ** 0.45)  # room for names


def _name_ends(axes: Any, lines: dict[str, list[tuple[float, float]]]) -> None:
    """Writes the name of each line behind its end, above the names of the lines that end below it."""
    colours, lowest = dict(zip(lines, COLOURS, strict=False)), -np.inf
    for mode, mine in sorted(lines.items(), key=lambda one: one[1][-1][1]):
        height = float(axes.transData.transform(mine[-1])[1])
        lowest = max(height, lowest + 13)
        axes.annotate(NAMES[mode], mine[-1], (7, 0.72 * (lowest - height)), textcoords="offset points", va="center",
                      color=colours[mode], fontsize=8)


CHILDREN: dict[str, Callable[..., dict[str, float]]] = {
    "store": store, "losses": loss,
    **{curve: lambda size, mode, options, curve=curve: step(size, mode, options, curve)
       for curve in ("tasks", "length", "batch", "table")},
}

if __name__ == "__main__":
    main()
