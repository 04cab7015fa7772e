"""Short videos for several goals: clicks, long views, likes, follows and comments of KuaiRand-Pure.

    python recipes/kuairand.py --data DIR --tasks click long_view like --seeds 5

Compares towers at the same fixed number of epochs: MMoE, PLE, ESMM and AITM (click, then long view, then like: each a
stage of the one before), and DML over MMoE. They read training rates of user, video and author beside attributes. With
--histories, they also read what the users watched before, with target attention of the video that is scored.
Prints NDCG@5, AUC within users (grouped) and over all impressions per task on the test days, mean and standard
deviation over seeds, differences seed by seed to MMoE, and what popularity alone reaches; writes CSV beside the run
cards in runs/kuairand-TASKS. follow and comment are tasks too. What is finished is not run again.

--trees lightgbm catboost trains these on the same features, rates included, tunes them on the validation days, and
compares them test list by test list with the first network, whose metrics are means over seeds. Then it prints how well
the probabilities of binary goals are calibrated, as they are and after Platt scaling on the validation days, beside
what a perfectly calibrated model of that size would show.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import numpy as np

import tfmtl2r
from tfmtl2r import Experiment, Task
from tfmtl2r.baselines import Training
from tfmtl2r.evaluation import bootstrap, evaluate, seeds_table, trivial_results, write_csv
from tfmtl2r.report import show
from tfmtl2r.sweeps import over_seeds

TOWERS = {"head_units": [32], "dropout": 0.3}
EXPERTS = {"expert_units": [128, 64], **TOWERS}
MMOE = {"name": "mmoe", "num_experts": 4, **EXPERTS}
ARCHITECTURES = {
    "shared_bottom": {"name": "shared_bottom", "units": [256, 128], **TOWERS},
    "mmoe": MMOE,
    "ple": {"name": "ple", **EXPERTS},
    "esmm": {"name": "esmm", "dropout": 0.3},
    "aitm": {"name": "aitm", "dropout": 0.3},
    "dml": {"name": "dml", "base": MMOE, **TOWERS},
}


def main() -> None:
    """Runs the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", required=True, help="folder with the files of KuaiRand-Pure")
    parser.add_argument("--tasks", nargs="+", default=["click", "long_view", "like"])
    parser.add_argument("--architectures", nargs="+", default=[*ARCHITECTURES], choices=[*ARCHITECTURES])
    parser.add_argument("--method", default="linear_scalarization")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--histories", action="store_true", help="read what the users watched, liked and watched long")
    parser.add_argument("--trees", nargs="*", default=[], help="baselines (tfmtl2r list baselines)")
    parser.add_argument("--jobs", type=int, help="processes at a time; as many as CPUs if not given")
    options = parser.parse_args()
    data = {"name": "kuairand", "path": options.data, "histories": options.histories}
    tasks = tuple(dataclasses.replace(task, metrics=(*task.metrics, "grouped_auc"))
                  for task in tfmtl2r.datasets.get(data).select(options.tasks))  # fmt: skip
    base = Experiment("base", data=data, tasks=tasks, method=options.method, optimizer={"learning_rate": 5e-4},
                      training={"epochs": options.epochs, "patience": 0, "validate_every": 0, "batch_size": 64,
                                "telemetry_every": 0})  # fmt: skip
    variants = {name: {"architecture": ARCHITECTURES[name]} for name in options.architectures}
    folder = f"runs/kuairand-{'-'.join(options.tasks)}{'-histories' if options.histories else ''}"
    runs = over_seeds(folder, base, variants, range(options.seeds), options.jobs)
    trivial = trivial_results(tfmtl2r.datasets.get(data), "test", tasks)
    for metric in ("ndcg@5", "grouped_auc", "auc"):
        metrics = {task: metric for task, row in next(iter(runs.values()))[0].results["test"].items() if metric in row}
        if metrics:
            show(seeds_table(runs, metrics, f"KuaiRand-Pure, test {metric}",
                             baseline="mmoe" if "mmoe" in runs else None, extra=trivial))
            print(write_csv(runs, metrics, f"{folder}/{metric.replace('@', '_at_')}.csv"))
    if options.trees:
        compare_with_trees(base, tasks, options.trees, [f"{folder}/{options.architectures[0]}-{seed}"
                                                        for seed in range(options.seeds)])


def compare_with_trees(base: Experiment, tasks: tuple[Task, ...], trees: list[str], runs: list[str]) -> None:
    """Prints NDCG@5 of trees and what the networks of some runs gain on each test list, then their calibration."""
    dataset, model = base.dataset(), base.model(base.dataset())
    lists = {split: dataset.lists(split) for split in ("vali", "test")}
    binary = [task for task in tasks if task.kind == "binary"]
    per_list, errors = [], []
    for run in runs:
        ranker = tfmtl2r.load(f"{run}/model.keras")
        scores = {split: ranker.predict(each) for split, each in lists.items()}
        found = evaluate(scores["test"], lists["test"], tasks)
        per_list.append([found[task.name]["ndcg@5"].per_list for task in tasks])
        errors.append([calibration(task, ranker, scores, lists) for task in binary])
    network = np.mean(per_list, axis=0)
    training = Training.of(dataset, tasks, model.schema)
    for name in trees:
        found = training.fit(tfmtl2r.baselines.get(name), name).evaluate(lists["test"], tasks)
        for task, ours in zip(tasks, network, strict=True):
            score = found[task.name]["ndcg@5"]
            gain, low, high = bootstrap(ours, score.per_list, weights=score.counts)
            print(f"{name}: {task.name} ndcg@5 {score.value:.4f}; networks {gain:+.4f} [{low:+.4f}, {high:+.4f}]")
    for task, row in zip(binary, np.mean(errors, axis=0), strict=True):
        print("{}: ece {:.4f}, after Platt scaling {:.4f}, if calibrated {:.4f}".format(task.name, *row))


def calibration(task: Task, ranker: Any, scores: Any, lists: Any) -> tuple[float, ...]:
    """Test errors of a task's probabilities, of the loss and after Platt scaling, and of a calibrated model."""
    ece, platt = tfmtl2r.metrics.get("ece"), tfmtl2r.calibrators.get("platt")
    labels = {split: each.columns[task.label] for split, each in lists.items()}
    raw = ranker.values(scores["test"])[task.name]
    fitted = platt.fit(scores["vali"][task.name], labels["vali"])
    scaled = platt.apply(np.float32(scores["test"][task.name]), np.float32(fitted)).numpy()
    return (ece.exact(labels["test"], raw), ece.exact(labels["test"], scaled),
            ece.if_calibrated().exact(labels["test"], scaled))


if __name__ == "__main__":
    main()
