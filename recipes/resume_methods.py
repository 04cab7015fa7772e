"""Stops a training of every method in its second epoch, goes on, and compares it with one that nothing stopped.

    python recipes/resume_methods.py                       # all methods: 20 minutes on two free cores
    python recipes/resume_methods.py famo nash_mtl         # some methods

The network has dropout, the step size a schedule, and training stops early. NMT also trains in stages, and two methods
also train a ranker that is conditioned on the preference. Numbers are compared on one CPU thread: more threads may add
numbers in another order.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r import Experiment, methods

import keras  # isort: skip
import tensorflow as tf  # isort: skip

STOP = 17
"""The step after which the training fails; an epoch has 12."""


class Fault(Exception):
    """Stands for a kill: nothing more is saved."""


class FailAt(keras.callbacks.Callback):
    """Fails after a number of steps."""

    def __init__(self, steps: int):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts the steps."""
        self.left -= 1
        if self.left == 0:
            raise Fault


def experiment(folder: Path, name: str, **changes: Any) -> Experiment:
    """A small experiment with checkpoints every five steps."""
    settings: dict[str, Any] = {
        "data": {"name": "synthetic_mslr", "num_lists": 120, "max_length": 8, "num_tasks": 2, "num_features": 8},
        "architecture": {"name": "shared_bottom", "units": [8], "dropout": 0.2}, "directory": str(folder),
        "optimizer": {"learning_rate": 0.01, "schedule": "cosine", "warmup_steps": 3, "ema": 0.9},
        "training": {"epochs": 4, "patience": 2, "batch_size": 10, "telemetry_every": 0, "checkpoint_steps": 5},
    }  # fmt: skip
    return Experiment(**{**settings, "name": name, **changes})


def content(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """History and results of a run, and its scores per list."""
    card = json.loads((folder / "run.json").read_text())
    arrays = np.load(folder / "per_list.npz")
    return {key: card[key] for key in ("history", "results", "data")}, {
        key: arrays[key] for key in arrays if key != "identity"}


def equal(folder: Path, name: str, **changes: Any) -> bool:
    """Whether a training that was stopped ends as one that was not."""
    whole, stopped = (experiment(folder, f"{name}-{kind}", **changes) for kind in ("whole", "stopped"))
    ranker, _ = whole.run(verbose=0)
    weights = [v.numpy() for v in ranker.weights]
    try:
        stopped.run(verbose=0, before=ranker, callbacks=[FailAt(STOP)])
    except Fault:
        pass
    else:
        raise RuntimeError("the training ended before it was stopped")
    resumed, _ = stopped.run(verbose=0, before=ranker, resume=True)
    (card, lists), (other, others) = content(folder / f"{name}-whole"), content(folder / f"{name}-stopped")
    same = [np.array_equal(one, two.numpy()) for one, two in zip(weights, resumed.weights, strict=True)]
    same += [np.array_equal(value, others[key], equal_nan=value.dtype.kind == "f") for key, value in lists.items()]
    return all(same) and card == other


def main() -> None:
    """Prints a line for each training, and how many were equal."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("methods", nargs="*", help="names of methods; by default all")
    chosen = parser.parse_args().methods
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    cases: list[tuple[str, dict[str, Any]]] = [(name, {"method": name}) for name in chosen or methods.names()]
    if not chosen:
        cases += [("nmt-staged", {"method": "nmt", "staged": True}),
                  ("linear_scalarization-conditioned", {"method": "linear_scalarization", "conditioned": 1.0}),
                  ("stch-conditioned", {"method": "stch", "conditioned": 1.0})]  # fmt: skip
    good = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, changes in cases:
            keras.backend.clear_session()
            found = equal(Path(folder), name, **changes)
            good += found
            print(f"{name}: {'equal' if found else 'DIFFERENT'}", flush=True)
    print(f"{good} of {len(cases)} trainings ended as if nothing had stopped them")


if __name__ == "__main__":
    main()
