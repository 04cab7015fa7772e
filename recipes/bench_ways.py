"""Trains one experiment on a table in memory, from a store, with two workers and on Ray, and compares the results.

    python recipes/bench_ways.py                     # 100,000 rows
    python recipes/bench_ways.py --rows 1e7 --page docs/scale.md

Every way is one command, ``tfmtl2r train``, on the same rows with SGD and the same seed: their weights after training
and their results on the test split should agree up to rounding, which every step carries on. How much that is shows a
way with one thread, in which only the order of sums differs. Way "Ray" is left out where Ray is not installed. Peak
memory is that of the largest process of a way; processes that Ray starts are not counted. The order of lists is that of
the seed in all of them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_scale import WIDTH, replaced, write_table

import tfmtl2r
from tfmtl2r.writing import write_text

ALONE = "store, one thread"
WAYS: dict[str, tuple[str, ...]] = {
    "memory": (), "store": ("--data.files", "store"), ALONE: ("--data.files", "store"),
    "store, two workers": ("--data.files", "store", "--workers", "2"),
    "store, two workers on Ray": ("--data.files", "store", "--workers", "2", "--on", "ray"),
}  # fmt: skip
EXPERIMENT = f"""
method = "mgda"
architecture = {{ name = "shared_bottom", units = [{WIDTH}] }}
optimizer = {{ name = "sgd", learning_rate = 0.05 }}
training = {{ epochs = 1, batch_size = 512, patience = 0, seed = 3, telemetry_every = 0 }}
tasks = [{{ name = "click", kind = "binary" }}, {{ name = "grade" }}]
data = {{ train = "train.parquet", vali = "vali.parquet", test = "test.parquet", list_id = "list" }}
"""
BEGIN, END = "<!-- bench_ways: begin -->", "<!-- bench_ways: end -->"


def main() -> None:
    """Makes the table, trains in all ways, and prints what they took and how far they are from each other."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=float, default=1e5, help="rows of the training split")
    parser.add_argument("--page", type=Path, help="a page with the section, or that gets it at its end")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        here, rows = Path(folder), int(options.rows)
        for number, split in enumerate(("train", "vali", "test")):
            write_table(here / f"{split}.parquet", rows if split == "train" else 10_000, number)
        (here / "experiment.toml").write_text(EXPERIMENT)
        measured = {"preparation of the store": command(here, "prepare", "experiment.toml", "--to", "store")}
        for way, arguments in WAYS.items():
            if "ray" in arguments and importlib.util.find_spec("ray") is None:
                print("Ray is not installed: its way is left out")
                continue
            name = way.replace(" ", "-").replace(",", "")
            threads = {"TF_NUM_INTRAOP_THREADS": "1"} if way == ALONE else {}
            measured[way] = command(here, "train", "experiment.toml", "--name", name, *arguments, **threads) | found(
                here / "runs" / name)
            print(json.dumps({"way": way} | {key: measured[way][key] for key in ("seconds", "peak_mb")}), flush=True)
        text = report(rows, measured)
    print(text)
    if options.page:
        write_text(options.page, replaced(options.page.read_text(encoding="utf-8"), text, BEGIN, END))


def command(folder: Path, *arguments: str, **environment: str) -> dict[str, Any]:
    """Seconds and peak memory of a command, with some variables of its environment."""
    began, cores = time.perf_counter(), len(os.sched_getaffinity(0))
    with open(folder / "log.txt", "w+", encoding="utf-8") as log:
        process = subprocess.Popen([sys.executable, "-m", "tfmtl2r", *arguments], cwd=folder, stdout=log, stderr=log,
                                   stdin=subprocess.DEVNULL, env={**os.environ, **environment})  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"tfmtl2r {' '.join(arguments)}:\n{log.read()[-2000:]}")
    return {"seconds": time.perf_counter() - began, "peak_mb": usage.ru_maxrss / 1024, "cores": cores}


def found(run: Path) -> dict[str, Any]:
    """Weights and results on the test split of a run."""
    results = json.loads((run / "run.json").read_text())["results"]["test"]
    numbers = {f"{task} {metric}": float(one["value"]) for task, metrics in results.items()
               for metric, one in metrics.items()}  # fmt: skip
    return {"weights": tfmtl2r.load(run).get_weights(), "test": numbers}


def report(rows: int, measured: dict[str, dict[str, Any]]) -> str:
    """The section of the page."""
    base = measured["memory"]
    lines = [BEGIN, f"## One experiment in all ways, {rows:,} rows", "",
             f"`recipes/bench_ways.py`, {base['cores']} cores: one epoch of SGD with `mgda`, 512 lists per step. Peak "
             "memory is that of the",
             "largest process. Differences are the largest of any weight, and of any metric on test, to the way "
             "\"memory\".", "",
             "| way | seconds | peak, MB | difference of weights | of metrics |", "| --- | --- | --- | --- | --- |"]
    for way, one in measured.items():
        far = "" if "weights" not in one else " | ".join(f"{value:.1e}" for value in (
            max(float(np.abs(a - b).max()) for a, b in zip(one["weights"], base["weights"], strict=True)),
            max(abs(one["test"][key] - base["test"][key]) for key in base["test"])))
        memory = "" if "Ray" in way else f"{one['peak_mb']:,.0f}"
        lines.append(f"| {way} | {one['seconds']:.0f} | {memory} | {far or ' | '} |")
    named = ", ".join(f"{key} {value:.4f}" for key, value in base["test"].items())
    return "\n".join([*lines, "", f"On test: {named}.", END])


if __name__ == "__main__":
    main()
