"""Trains every method with one worker, with two, and stopped and resumed, and compares the weights.

    python recipes/bench_workers.py                        # all methods in both modes: 71 cases
    python recipes/bench_workers.py mgda nash_mtl          # some methods
    python recipes/bench_workers.py --to docs/workers.md   # also writes the table

The same 20 steps of SGD are made three times, without dropout: in one process, with two workers, and with two workers
that stop after a random step and go on in one process, from the last checkpoint. The last batch of an epoch has one
list, so that the second worker has none. The numbers are the largest differences of any weight to one process. All
methods share one pair of workers. Adam would magnify rounding: it divides gradients near zero by their size.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from resume_methods import FailAt, Fault

from tfmtl2r import Category, Dense, MultiTaskRanker, Schema, Task, methods
from tfmtl2r.data import Lists, batches
from tfmtl2r.training import distributed, processes

import keras  # isort: skip

LISTS, BATCH, EPOCHS, STEPS, SAVED = 53, 13, 4, 20, 3
TOLERANCE = 1e-5
SCHEMA = Schema([Dense("x", shape=(4,)), Category("c", vocabulary=tuple("abcdef"), dim=3)])
TASKS = (Task("click", kind="binary"), Task("grade", loss="softmax"), Task("dwell", kind="regression"))


def lists() -> Lists:
    """Lists of 1 to 5 items, with labels that depend on the features."""
    rng = np.random.default_rng(4)
    sizes = rng.integers(1, 6, LISTS)
    items = int(sizes.sum())
    x = rng.normal(size=(items, 4)).astype(np.float32)
    base = x @ rng.normal(size=(4, 3)) + rng.normal(size=(items, 3))
    labels = {"click": base[:, 0] > 0.5, "grade": np.clip(np.round(base[:, 1]), 0, 4), "dwell": base[:, 2]}
    columns = {"x": x, "c": rng.choice(list("abcdef"), items)}
    return Lists({**columns, **{name: value.astype(np.float32) for name, value in labels.items()}},
                 offsets=np.concatenate([[0], np.cumsum(sizes)]))


class Trained:
    """A ranker that starts afresh as often as wanted, on steps that are compiled once.

    Args:
        method: name of the method.
        mode: where it reads gradients.
        strategy: the strategy of two workers, or None.
    """

    def __init__(self, method: str, mode: str, strategy: Any = None):
        keras.utils.set_random_seed(5)
        with contextlib.nullcontext() if strategy is None else strategy.scope():
            self.model = MultiTaskRanker({"name": "shared_bottom", "units": [8], "head_units": [4]}, TASKS, SCHEMA)
            self.model.compile(keras.optimizers.SGD(0.05), method=method, gradients=mode, seed=9, train_metrics=False)
        self.data = batches(lists(), TASKS, SCHEMA, batch_size=BATCH, shuffle=True, seed=3)
        self.model.prepare(self.data)
        self.start = [v.value.numpy() for v in self._variables()]

    def fit(self, folder: Path | None = None, fail: int = 0) -> list[np.ndarray]:
        """Trains from the start, or from the newest checkpoint of a folder; returns the weights."""
        for variable, value in zip(self._variables(), self.start, strict=True):
            variable.assign(value)
        saving = None if folder is None else distributed.Saving(folder, SAVED)
        stop = [FailAt(fail)] if fail else []
        with contextlib.suppress(Fault):
            distributed.fit(self.model, self.data, epochs=EPOCHS, saving=saving, callbacks=stop)
        return self.weights()

    def weights(self) -> list[np.ndarray]:
        """The trainable weights."""
        return [v.value.numpy() for v in self.model.trainable_variables]

    def _variables(self) -> list[Any]:
        return [*self.model.variables, *self.model.optimizer.variables]


def cases(chosen: list[str]) -> Iterator[tuple[str, str, int]]:
    """Method, mode and the step after which it stops. A method that reads no gradients has one mode."""
    moments = random.Random(0)
    for name in chosen or methods.names():
        method = methods.get(name)
        for mode in method.modes if method.needs & {"gram", "rows"} else ("parameters",):
            yield name, mode, moments.randint(SAVED, STEPS - 1)


def work(folder: Path, chosen: list[str]) -> None:
    """What each of the two workers does. The chief writes its weights."""
    processes.end_with_parent()
    strategy = distributed.strategy()
    for name, mode, moment in cases(chosen):
        trained = Trained(name, mode, strategy)
        whole = trained.fit()
        trained.fit(folder / f"{name}-{mode}", moment)
        if distributed.is_chief(strategy):
            np.savez(folder / f"{name}-{mode}.npz", *whole)


def compared(folder: Path, name: str, mode: str, moment: int) -> dict[str, Any]:
    """A row of the table: the largest differences to one process of a method."""
    keras.backend.clear_session()
    alone = Trained(name, mode)
    before, whole = alone.weights(), alone.fit()
    stored = np.load(folder / f"{name}-{mode}.npz")
    others = {"two workers": [stored[key] for key in stored], "stopped": alone.fit(folder / f"{name}-{mode}")}
    found = {key: max(float(np.abs(a - b).max()) for a, b in zip(other, whole, strict=True))
             for key, other in others.items()}
    moved = max(float(np.abs(a - b).max()) for a, b in zip(before, whole, strict=True))
    return {"method": name, "mode": mode, "moved": moved, **found, "stopped after": moment}


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    head = ["method", "gradients", "weights moved by", "two workers", "resumed in one process", "stopped after"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        lines.append("| " + " | ".join([row["method"], row["mode"], f"{row['moved']:.2g}", f"{row['two workers']:.1e}",
                                        f"{row['stopped']:.1e}", f"step {row['stopped after']}"]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Runs all cases and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("methods", nargs="*", help="names of methods; by default all")
    parser.add_argument("--to", help="also write the table into this Markdown file")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(Path(options.worker), options.methods)
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, *options.methods, "--worker", folder]
        processes.run(command, processes.here(2))
        rows = []
        for case in cases(options.methods):
            rows.append(compared(Path(folder), *case))
            print(json.dumps(rows[-1]), flush=True)
    print(table(rows))
    same = functools.reduce(lambda count, row: count + (max(row["two workers"], row["stopped"]) <= TOLERANCE), rows, 0)
    print(f"{same} of {len(rows)} cases end with the weights of one process, to {TOLERANCE:g}")
    if options.to:
        Path(options.to).write_text(table(rows) + "\n", encoding="utf-8")
    sys.exit(same < len(rows))


if __name__ == "__main__":
    main()
