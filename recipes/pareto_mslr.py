"""Relevance against page quality: the trade-offs that five methods find, on web search lists and on synthetic ones.

    python recipes/pareto_mslr.py --data MSLR-WEB10K

Trains every method with 11 preferences, shows front and hypervolume on the test lists and on the training losses, and
marks the knee. Stopped and started again it goes on where it was. ``--budget small`` is a quick look.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import numpy as np

from tfmtl2r import Experiment
from tfmtl2r.commands.pareto import Pareto, show_front
from tfmtl2r.pareto import by_angle
from tfmtl2r.sweeps import LOPSIDED, Sweep, end_losses, ends, plan, single_tasks

WEIGHING = ("linear_scalarization", {"name": "stch", "warmup": 1})
"""A preference is the weight of a task: the grid covers the weights evenly, from one end of the front to the other."""
FOLLOWING_RAYS = ("weighted_chebyshev", "epo", "wc_mgda")
"""A preference is a ratio of losses: the grid covers the ratios that lie between the two ends of the front."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much to spend: preferences per method, epochs, synthetic training lists."""

    preferences: int
    epochs: int
    lists: int


BUDGETS = {"default": Budget(11, 15, 100), "small": Budget(3, 3, 24)}


def main() -> None:
    """Runs both sweeps."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", default="../shared/data/mslr", help="folder with Fold1, or with train, vali and test")
    parser.add_argument("--budget", choices=list(BUDGETS), default="default")
    parser.add_argument("--seeds", type=int, default=1, help="how many; with several, pictures show bands")
    parser.add_argument("--jobs", type=int, help="processes at a time; one for each CPU if not given")
    options = parser.parse_args()
    budget = BUDGETS[options.budget]
    data = {"synthetic": ({"name": "synthetic_mslr", "num_lists": budget.lists, "num_tasks": 2, "max_length": 120,
                           "conflict": 0.7}, ())}
    if Path(options.data).is_dir():
        data["mslr"] = ({"name": "mslr", "path": options.data, "targets": ["relevance", "quality"]},
                        ("relevance", "quality"))
    else:
        print(f"MSLR is skipped: there is no folder {options.data}; get MSLR-WEB10K from "
              "https://www.microsoft.com/en-us/research/project/mslr/ and give its folder with --data")
    for name, (described, tasks) in data.items():
        start = time.perf_counter()
        base = Experiment(
            name="base", data=described, tasks=tasks, gradients="features",
            architecture={"name": "shared_bottom", "units": [128, 64], "dropout": 0.1},
            training={"epochs": budget.epochs, "patience": 0, "batch_size": 8, "telemetry_every": 0},
        )
        sweep = f"pareto-{name}-{options.budget}"
        count = train(base, sweep, budget, range(options.seeds), options.jobs)
        print(f"\n{sweep}: {count} runs in {time.perf_counter() - start:.0f} s")
        for objectives in ("train_loss", "test"):
            show_front(Pareto(sweep, on=objectives, pick="knee"))


def train(base, name, budget, seeds, jobs) -> int:
    """Trains what is missing of a sweep; how many runs it has. A failed run ends the recipe."""
    with Sweep(Path(base.directory) / name, jobs) as sweep:
        corners = sweep.run(ends(base, seeds))
        weights = np.linspace(LOPSIDED, 1 - LOPSIDED, budget.preferences)
        planned = [*single_tasks(base, seeds),
                   *plan(base, WEIGHING, np.stack([weights, weights[::-1]], axis=1), seeds)]
        if not sweep.failed:
            rays = by_angle(budget.preferences, end_losses(corners))
            done = sweep.run([*planned, *plan(base, FOLLOWING_RAYS, rays, seeds)])
        if sweep.failed:
            raise SystemExit("\n".join(f"FAILED {run}: {reason}" for run, reason in sweep.failed.items()))
    return len(done)


if __name__ == "__main__":
    main()
