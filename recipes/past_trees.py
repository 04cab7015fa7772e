"""One ranker against the best trees on several goals: inputs, teachers and a merge, out of fold.

    python recipes/past_trees.py --data DIR --partitions 3 --seeds 3
    python recipes/past_trees.py --data DIR --goals relevance
    python recipes/past_trees.py --set mq2008 --data DIR

Cross-validates three rankers on all lists of MSLR-WEB10K or MSLR-WEB30K, or of a slice of them: one with z-scored
logarithms as inputs, one with ranks, copies within the list and steps at the thresholds of trees, and one with ranks
and copies that learns from trees beside the labels. Then it merges the runs of two of them and compares the merge,
list by list, with every single one and with boosted trees. The merge is of the last two; with one goal alone, for
which steps overfit, it is of the first and the last. What is finished is not run again, so that more partitions and
seeds can be added later. The runs are in runs/past-trees. ``--set mq2008`` and ``--set ohsumed`` take these sets
instead, with relevance alone.

With --original, the same rankers and trees are trained on the original training split and compared on its test split,
which has too few lists for a claim: the table says how large a difference it could have shown.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.table import Table

import tfmtl2r
from tfmtl2r import Experiment
from tfmtl2r.baselines import Training
from tfmtl2r.evaluation import bootstrap, evaluate
from tfmtl2r.report import show
from tfmtl2r.sweeps import cross_validate, over_seeds

GOALS = {"mslr": ("relevance", "quality", "quality2", "clicks", "dwell"), "mq2008": ("relevance",),
         "ohsumed": ("relevant",)}  # fmt: skip
BOTH = {"normalise": ["signed_log1p", "rank_gauss"], "within_list": True}
TREES = ["lightgbm", "catboost", {"name": "average", "of": ["lightgbm", "catboost"]}]
STEPS = {"steps": {"from": "lightgbm", "number": 512}}


def experiments(options: argparse.Namespace) -> dict[str, Experiment]:
    """The rankers, by the names of their rows."""
    data = {"name": options.set, "path": options.data, "max_list_size": 128, "truncate": "random"}
    if options.set == "mslr":
        data["targets"] = list(options.goals)
    single = len(options.goals) == 1
    folder = f"runs/past-trees/{options.set}-{len(options.goals)}"
    tasks = [{"name": goal, "kind": "graded", "loss": "lambda_loss", "metrics": ["ndcg@10"],
              **({"label": "label"} if goal == "relevance" else {})} for goal in options.goals]  # fmt: skip

    def make(name: str, inputs: dict, dropout: float, rate: float, **others: object) -> Experiment:
        architecture = {"name": "shared_bottom", "units": [256, 128, 64], "head_units": [], "dropout": dropout}
        return Experiment(
            name, directory=folder, data={**data, **inputs}, tasks=tasks, architecture=architecture,
            **{"method": "linear_scalarization" if single else "nash_mtl", "gradients": "features", **others},
            optimizer={"learning_rate": rate, "schedule": "cosine", "warmup_steps": 14},
            training={"epochs": options.epochs, "batch_size": 8, "patience": 0, "validate_every": 0,
                      "telemetry_every": 0},
        )  # fmt: skip

    # Several goals regularise each other: one goal alone needs more dropout.
    dropout = 0.3 if single else 0.1
    taught = make("taught", BOTH, dropout, 3e-3, teacher={"from": "lightgbm", "mix": 0.7, "synthetic": 1})
    logs = make("logs", {"normalise": "signed_log1p"}, 0.3, 1e-3)
    return {"logs": logs, "steps": make("steps", {**BOTH, **STEPS}, dropout, 3e-3), "taught": taught}


def out_of_fold(made: Mapping[str, Experiment], pair: list[str], options: argparse.Namespace) -> None:
    """Cross-validates the rankers, and prints the merge of a pair beside every other row."""
    same = {"folds": options.folds, "seeds": options.seeds, "partitions": options.partitions, "jobs": options.jobs}
    first = made[pair[0]]
    for name in set(made) - {pair[0]}:
        cross_validate(made[name], **same)
    others = [name for name in made if name != pair[0]]
    found = cross_validate(first, baselines=[*others, *options.trees], merge=pair[1:], **same)
    for table in found.tables(shutil.get_terminal_size().columns):
        show(table)


def original(made: Mapping[str, Experiment], pair: list[str], options: argparse.Namespace) -> None:
    """Trains the rankers and the trees on the original training split, and prints NDCG@10 on its test split."""
    first, seeds = made[pair[0]], range(options.seeds)
    folder = Path(first.directory) / "original"
    for name, experiment in made.items():
        over_seeds(folder / name, experiment, {name: {}}, seeds, options.jobs)
    dataset = first.dataset()
    test, tasks = dataset.lists("test"), first.model(dataset).tasks
    runs = {name: [tfmtl2r.load(folder / name / f"{name}-{seed}" / "model.keras") for seed in seeds] for name in made}

    def scored(ranker) -> dict:
        return {task: found["ndcg@10"] for task, found in evaluate(ranker.predict(test), test, tasks).items()}

    rows = {f"{' + '.join(pair)} ({options.seeds} each)":
            [scored(tfmtl2r.Merged([one for name in pair for one in runs[name]]))],
            **{name: [scored(ranker) for ranker in rankers] for name, rankers in runs.items()}}  # fmt: skip
    training = Training.of(dataset, tasks, first.model(dataset).schema)
    for one in options.trees:
        name = one if isinstance(one, str) else f"{one['name']} of {', '.join(one['of'])}"
        found = training.fit(tfmtl2r.baselines.get(one), one).evaluate(test, tasks)
        rows[name] = [{task: row["ndcg@10"] for task, row in found.items()}]
    show(against(rows, [task.name for task in tasks], f"{options.set}, original test split"))


def against(rows: Mapping[str, list[dict]], tasks: list[str], title: str) -> Table:
    """The mean of each row over its seeds, and what the first row gains on the lists of all goals."""
    table = Table(title=f"{title}; +/-: the first row minus this one, with its 95 % interval", title_justify="left")
    for column in ("", "mean", *tasks):
        table.add_column(column, justify="right" if column else "left")
    lists = {name: mean([[found[task].per_list for task in tasks] for found in seeds]) for name, seeds in rows.items()}
    first = next(iter(lists.values()))
    for name, values in lists.items():
        means = np.nanmean(values, axis=1)
        paired = zip((mean(first), *first), (mean(values), *values), strict=True)
        gains = [bootstrap(one, other) for one, other in paired]
        cells = [f"{value:.4f}" for value in (means.mean(), *means)]
        if values is not first:
            cells = [f"{cell}\n{gain:+.4f}\n[{low:+.3f}, {high:+.3f}]" for cell, (gain, low, high)
                     in zip(cells, gains, strict=True)]  # fmt: skip
        table.add_row(name, *cells)
    return table


def mean(values) -> np.ndarray:
    """The mean over the first axis without NaN; NaN where nothing else is, as in lists without a relevant item."""
    known = ~np.isnan(values)
    return np.divide(np.nansum(values, axis=0), known.sum(axis=0), out=np.full(known.shape[1:], np.nan),
                     where=known.any(axis=0))


def main() -> None:
    """Runs the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--set", default="mslr", choices=[*GOALS], help="the data set")
    parser.add_argument("--data", required=True, help="folder with Fold1 ... Fold5, or with train, vali and test")
    parser.add_argument("--goals", nargs="+", help="goals of MSLR; all five if not given")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--partitions", type=int, default=1, help="number of divisions of the lists into folds")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--trees", nargs="*", default=TREES, help="baselines (tfmtl2r list baselines)")
    parser.add_argument("--original", action="store_true", help="train and compare on the original splits")
    parser.add_argument("--jobs", type=int, help="processes at a time; as many as CPUs if not given")
    options = parser.parse_args()
    options.goals = options.goals or GOALS[options.set]
    if unknown := sorted({*options.goals} - {*GOALS[options.set]}):
        parser.error(f"{options.set} has no goal {unknown[0]}; its goals are {', '.join(GOALS[options.set])}")
    made = experiments(options)
    pair = ["taught", "logs"] if len(options.goals) == 1 else ["steps", "taught"]
    (original if options.original else out_of_fold)(made, pair, options)


if __name__ == "__main__":
    main()
