"""One task must not lose: prioritised training, floors of metrics and tuned weights, beside equal weights.

    python recipes/priorities.py --data DIR
    python recipes/priorities.py --lists --tasks 5

Stage 1 trains ``income`` alone; stage 2 trains ``never_married`` under the constraint that the training loss of income
stays within the tolerance of what stage 1 reached. PCD trains both at once, with income as its main task: no step may
increase the loss of income to first order. Equal weights train both at once, too, all for as many epochs. Ends with one
line for each method that says in how many seeds income kept its loss while never_married gained, and writes a run card
per run. The row ``floors`` bounds the AUC of income on vali in place of its loss.

``--lists`` has the synthetic lists of ``recipes/front.py``. The first goal may lose ``--loses`` NDCG@10 against a
training of this goal alone, on vali. Every ranker is then served by the blend whose weights are tuned to this floor on
vali, since one order is served for all goals: equal weights with a tuned blend cost no further training. The table has
the first goal and the mean of the others, by their own heads and on the order that is served.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import numpy as np
from front import synthetic
from rich.table import Table

from tfmtl2r import Experiment, MultiTaskRanker
from tfmtl2r.data import Lists, batches
from tfmtl2r.datasets.census_income import CensusIncome
from tfmtl2r.evaluation import deviation, reached, tune_weights
from tfmtl2r.report import show
from tfmtl2r.settings import Constraint
from tfmtl2r.training.floors import fit_with_floors
from tfmtl2r.training.staged import fit_constrained

import keras  # isort: skip

FIRST, SECOND = "income", "never_married"


@dataclasses.dataclass(frozen=True)
class Sample(CensusIncome):
    """Census-Income with at most ``rows`` rows per split, drawn once.

    Args:
        rows: of each split; 0 keeps all.
    """

    rows: int = 0

    def read(self, split: str) -> Lists:
        lists = super().read(split)
        if not 0 < self.rows < lists.num_items:
            return lists
        chosen = np.random.default_rng(self.seed).choice(lists.num_items, self.rows, replace=False)
        return lists.select(np.sort(chosen))


def main() -> None:
    """Runs the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", default="../shared/data/census_income_kdd", help="folder with the UCI files")
    parser.add_argument("--rows", type=int, default=8000, help="of each split; 0 for all")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--epochs", type=int, default=6, help="of each stage")
    parser.add_argument("--units", type=int, default=32, help="width of the shared layer; the tasks compete for it")
    parser.add_argument("--telemetry-every", type=int, default=0, help="steps between samples for TensorBoard")
    parser.add_argument("--tolerance", type=float, default=0.01, help="share of its loss that income may lose")
    parser.add_argument("--dual-lr", type=float, default=1.0, help="step size of the multiplier")
    parser.add_argument("--tau", type=float, default=0.02, help="share of its own gain that PCD gives never_married")
    parser.add_argument("--lists", action="store_true", help="lists with several goals in place of Census-Income")
    parser.add_argument("--tasks", type=int, default=5, choices=[2, 5, 10], help="goals of the lists")
    parser.add_argument("--loses", type=float, default=0.005, help="metric that the first goal may lose, on vali")
    options = parser.parse_args()
    if options.lists:
        bounded(options)
        return
    if not Path(options.data).is_dir():
        print(f"skipped: {options.data} does not exist; give the folder with the Census-Income (KDD) files as --data")
        return
    start = time.perf_counter()
    dataset = Sample(options.data, rows=options.rows)
    rows = [row for seed in range(options.seeds) for row in compare(dataset, seed, options)]
    show(table(rows))
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        kept = sum(row["ratio"] <= 1 + options.tolerance + 1e-5 for row in own)
        gained = sum(row[SECOND] < row["before"] for row in own)
        print(f"{method}: {FIRST} within {options.tolerance:.1%} of its optimum in {kept} of {len(own)} seeds; "
              f"{SECOND} below its stage-1 value in {gained} of {len(own)}")
    print(f"{time.perf_counter() - start:.0f} s")


def compare(dataset, seed, options):
    """The staged run, and the runs of both tasks at once, of one seed, measured on the same training rows."""
    nmt = {"name": "nmt", "tolerance": options.tolerance, "dual_lr": options.dual_lr}
    model, card = train(dataset, seed, options, method=nmt, epochs=options.epochs, staged=True)
    stage, better = np.array(card.history["stage"]), np.array(card.history["kept"])
    reached = int(np.flatnonzero((stage == 1) & (better == 1))[-1])  # the epoch whose weights stage 1 kept
    optimum, before = (card.history[f"{task}_full_loss"][reached] for task in (FIRST, SECOND))
    yield row("nmt", seed, dataset, model, card, optimum, before)
    for name, method in (("pcd", {"name": "pcd", "tau": options.tau}), ("equal weights", "linear_scalarization")):
        model, card = train(dataset, seed, options, method=method, epochs=2 * options.epochs)
        yield row(name, seed, dataset, model, card, optimum, before)
    floor = ({"task": FIRST, "metric": "auc", "loses_at_most": options.loses},)
    model, card = train(dataset, seed, options, method="linear_scalarization", epochs=options.epochs, constraints=floor)
    yield row("floors", seed, dataset, model, card, optimum, before)


def train(dataset, seed, options, method, epochs, staged=False, constraints=()):
    """One run; its ranker and its card."""
    name = "floors" if constraints else method if isinstance(method, str) else method["name"]
    experiment = Experiment(
        name=f"priorities-{name}-{seed}", data={"name": "census_income", "path": str(options.data)},
        tasks=(FIRST, SECOND), method=method, staged=staged, constraints=constraints, optimizer={"learning_rate": 2e-3},
        architecture={"name": "shared_bottom", "units": [options.units], "head_units": [8]},
        training={"epochs": epochs, "patience": 0, "batch_size": 128, "seed": seed,
                  "telemetry_every": options.telemetry_every},
    )
    return experiment.run(verbose=0, dataset=dataset, overwrite=True)


def row(method, seed, dataset, model, card, optimum, before):
    """Training losses, how far income is from its optimum, and test AUC."""
    train_rows = batches(dataset.lists("train"), model.tasks, model.schema, batch_size=1024)
    losses = model.evaluate(train_rows, verbose=0, return_dict=True)
    found = {task: losses[f"{task}_loss"] for task in (FIRST, SECOND)}
    auc = {f"{task}_auc": card.results["test"][task]["auc"]["value"] for task in (FIRST, SECOND)}
    out = {"method": method, "seed": seed, **found, "ratio": found[FIRST] / optimum, "before": before, **auc}
    print("  ".join(f"{key} {value:.4f}" if isinstance(value, float) else f"{value}" for key, value in out.items()),
          flush=True)
    return out


def table(rows) -> Table:
    """Mean and standard deviation over seeds."""
    out = Table(title="mean ± standard deviation over seeds", title_justify="left")
    columns = {
        "income loss\n(train)": FIRST, "over its\noptimum": "ratio", "never married\nloss (train)": SECOND,
        "after\nstage 1": "before", "income\ntest AUC": f"{FIRST}_auc", "never married\ntest AUC": f"{SECOND}_auc",
    }
    out.add_column("")
    for title in columns:
        out.add_column(title, justify="right")
    for method in dict.fromkeys(row["method"] for row in rows):
        values = [[row[key] for row in rows if row["method"] == method] for key in columns.values()]
        out.add_row(method, *(f"{np.mean(v):.4f} ± {deviation(v):.4f}" for v in values))
    return out


def bounded(options) -> None:
    """The first goal of the lists keeps a floor of its metric; every way on the same floor, over seeds."""
    splits, tasks, schema = synthetic(argparse.Namespace(tasks=options.tasks, lists=1500, gain="exp2"))
    first, label = tasks[0].name, tasks[0].metrics[0]
    train, vali, test = (batches(splits[split], tasks, schema, batch_size=64, shuffle=split == "train")
                         for split in ("train", "vali", "test"))
    epochs, rows = options.epochs, []

    def ranker(seed, method="linear_scalarization", preference=None):
        keras.utils.set_random_seed(seed)
        model = MultiTaskRanker({"name": "shared_bottom", "units": [options.units], "head_units": [8]}, tasks, schema)
        model.compile(keras.optimizers.Adam(2e-3), method=method, preference=preference)
        return model

    def measured(name, seed, model, floor):
        weights = tune_weights(model, splits["vali"], bounds=[Constraint(first, label, floor=floor)],
                               utility={task.name: 1.0 for task in tasks[1:]})
        found = {"method": name, "seed": seed, "served kept": float(weights.kept)}
        for split, data in (("vali", vali), ("test", test)):
            own = model.evaluate(data, verbose=0, return_dict=True)
            served = reached(model, splits[split], weights, {task.name: 1.0 for task in tasks[1:]})
            found |= {f"{split} own": own[f"{first}_{label}"], f"{split} served": served.bounds[0]["value"],
                      f"{split} others": np.mean([own[f"{task.name}_{label}"] for task in tasks[1:]]),
                      f"{split} others served": served.utility["value"] / (len(tasks) - 1)}
        found |= {"kept": float(found["vali own"] >= floor), "floor": floor}
        print("  ".join(f"{key} {value:.4f}" if isinstance(value, float) else f"{value}"
                        for key, value in found.items()), flush=True)
        rows.append(found)

    for seed in range(options.seeds):
        alone = ranker(seed, preference=[1.0] + [0.0] * (len(tasks) - 1))
        history = alone.fit(train, validation_data=vali, epochs=epochs, verbose=0).history
        floor = max(history[f"val_{first}_{label}"]) - options.loses
        plain = ranker(seed)
        plain.fit(train, epochs=2 * epochs, verbose=0)
        measured("equal weights", seed, plain, floor)
        staged = ranker(seed, {"name": "nmt", "dual_lr": options.dual_lr})
        fit_constrained(staged, train, vali, constraints={first: f"{options.tolerance:.4%}"}, epochs=epochs)
        measured("nmt", seed, staged, floor)
        kept = ranker(seed, {"name": "pcd", "tau": options.tau})
        kept.fit(train, epochs=2 * epochs, verbose=0)
        measured("pcd", seed, kept, floor)
        floors = ranker(seed)
        fit_with_floors(floors, train, vali, floors=[Constraint(first, label, floor=floor)], epochs=2 * epochs)
        measured("floors", seed, floors, floor)
    show(bounded_table(rows))


def bounded_table(rows) -> Table:
    """Mean and standard deviation over seeds, and in how many seeds the floor is kept on vali."""
    out = Table(title="NDCG@10 on test, mean ± standard deviation over seeds", title_justify="left")
    columns = {"first,\nown head": "test own", "others,\nown heads": "test others",
               "first,\nserved": "test served", "others,\nserved": "test others served"}
    for title in ("", *columns, "kept by\nhead", "kept by\nserved"):
        out.add_column(title, justify="right" if title else "left")
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        values = [[row[key] for row in own] for key in columns.values()]
        kept = [f"{sum(row[key] for row in own):.0f} of {len(own)}" for key in ("kept", "served kept")]
        out.add_row(method, *(f"{np.mean(v):.3f}±{deviation(v):.3f}" for v in values), *kept)
    return out


if __name__ == "__main__":
    main()
