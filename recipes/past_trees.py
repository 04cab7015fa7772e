"""One ranker against the best trees on several goals: inputs, teachers and a merge, out of fold.

    python recipes/past_trees.py --data DIR --partitions 3 --seeds 3

Cross-validates three rankers on all lists of MSLR-WEB10K or MSLR-WEB30K, or of a slice of them: one with z-scored
logarithms as inputs, one with ranks, copies within the list and steps at the thresholds of trees, and one with ranks
and copies that learns from trees beside the labels. Then it merges the runs of the last two and compares the
merge, list by list, with every single one and with boosted trees. What is finished is not run again, so that more
partitions and seeds can be added later. The runs are in runs/*-cv.
"""

from __future__ import annotations

import argparse
import shutil

from tfmtl2r import Experiment
from tfmtl2r.report import show
from tfmtl2r.sweeps import cross_validate

GOALS = ("relevance", "quality", "quality2", "clicks", "dwell")
BOTH = {"normalise": ["signed_log1p", "rank_gauss"], "within_list": True}
TREES = ["lightgbm", "catboost", {"name": "average", "of": ["lightgbm", "catboost"]}]
STEPS = {"steps": {"from": "lightgbm", "number": 512}}


def experiments(options: argparse.Namespace) -> dict[str, Experiment]:
    """The rankers, by the names of their rows."""
    data = {"name": "mslr", "path": options.data, "max_list_size": 128, "truncate": "random"}
    single = len(options.goals) == 1
    tasks = [{"name": goal, "kind": "graded", "loss": "lambda_loss", "metrics": ["ndcg@10"],
              **({"label": "label"} if goal == "relevance" else {})} for goal in options.goals]  # fmt: skip

    def make(name: str, inputs: dict, dropout: float, rate: float, **others: object) -> Experiment:
        architecture = {"name": "shared_bottom", "units": [256, 128, 64], "head_units": [], "dropout": dropout}
        return Experiment(
            name, data={**data, **inputs, "targets": list(options.goals)}, tasks=tasks, architecture=architecture,
            **{"method": "linear_scalarization" if single else "nash_mtl", "gradients": "features", **others},
            optimizer={"learning_rate": rate, "schedule": "cosine", "warmup_steps": 14},
            training={"epochs": options.epochs, "batch_size": 8, "patience": 0, "validate_every": 0,
                      "telemetry_every": 0},
        )  # fmt: skip

    # Several goals regularise each other: one goal alone needs more dropout.
    return {
        "logs": make("logs", {"normalise": "signed_log1p"}, 0.3, 1e-3),
        "steps": make("steps", {**BOTH, **STEPS}, 0.3 if single else 0.1, 3e-3),
        "taught": make("taught", BOTH, 0.3 if single else 0.1, 3e-3,
                       teacher={"from": "lightgbm", "mix": 0.7, "synthetic": 1}),
    }  # fmt: skip


def main() -> None:
    """Runs the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", required=True, help="folder with Fold1 ... Fold5, or with train, vali and test")
    parser.add_argument("--goals", nargs="+", default=GOALS, choices=GOALS)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--partitions", type=int, default=1, help="number of divisions of the lists into folds")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--trees", nargs="*", default=TREES, help="baselines (tfmtl2r list baselines)")
    parser.add_argument("--jobs", type=int, help="processes at a time; as many as CPUs if not given")
    options = parser.parse_args()
    same = {"folds": options.folds, "seeds": options.seeds, "partitions": options.partitions, "jobs": options.jobs}
    made = experiments(options)
    for experiment in (made["logs"], made["taught"]):
        cross_validate(experiment, **same)
    found = cross_validate(made["steps"], baselines=["taught", "logs", *options.trees], merge=["taught"], **same)
    for table in found.tables(shutil.get_terminal_size().columns):
        show(table)


if __name__ == "__main__":
    main()
