"""DeepMTL2R's experiments on MSLR-WEB30K in Keras: its list transformer, two or five goals, any method.

    python recipes/deepmtl2r_mslr.py --data DIR --tasks relevance,quality --methods linear_scalarization mgda nash_mtl

The goals are its own, relevance and features 132, 133, 134 and 136, as grades from 0 to 4 (its loss overflows on raw
counts); the loss is its LambdaLoss (ndcgLoss2++), the ranker its transformer: width 128, 4 layers of 4 heads, dropout
.3. ``--heads shared`` is what its code does: one scorer trained against all labels. Prints each task's test NDCG@10 and
the median step per method, and every method's step as a ratio to the first one's. Run cards are in runs/.
"""

from __future__ import annotations

import argparse

import numpy as np

import tfmtl2r
from tfmtl2r import Task
from tfmtl2r.experiment import Experiment
from tfmtl2r.report.seeds import seeds_table
from tfmtl2r.report.tables import show

FIVE = "relevance,quality,quality2,clicks,dwell"
LAMBDA = {"name": "lambda_loss", "weighing": "ndcg_loss2pp"}


def main() -> None:
    """Runs the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", required=True, help="folder with Fold1 ... Fold5, or with train, vali and test")
    parser.add_argument("--tasks", default="relevance,quality", help=f"comma-separated; its five are {FIVE}")
    parser.add_argument("--methods", nargs="+", default=["linear_scalarization", "mgda", "nash_mtl"])
    parser.add_argument("--heads", default="per_task", choices=["per_task", "shared"])
    parser.add_argument("--gradients", default="parameters", choices=["parameters", "features"])
    parser.add_argument("--layers", type=int, default=4, help="of the transformer")
    parser.add_argument("--list-limit", type=int, default=240, help="items of a training list")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--epochs", type=int, default=10, help="DeepMTL2R trains 50")
    parser.add_argument("--cache-dir", default="", help="keep the parsed files here")
    options = parser.parse_args()
    names = tuple(options.tasks.split(","))
    data = tfmtl2r.datasets.get(
        "mslr", path=options.data, targets=names, normalise="allrank", cache_dir=options.cache_dir
    )
    tasks = tuple(with_lambda_loss(task) for task in data.tasks())
    runs = {method: [train(data, tasks, method, seed, options) for seed in range(options.seeds)]
            for method in options.methods}
    metrics = {name: next(iter(row)) for name, row in runs[options.methods[0]][0].results["test"].items()}
    show(seeds_table(runs, metrics, "test, DeepMTL2R's goals", baseline=options.methods[0]))
    steps = {method: np.median([card.step_ms for card in cards]) for method, cards in runs.items()}
    for method, step in steps.items():
        print(f"{method}: {step:.0f} ms a step, {step / steps[options.methods[0]]:.2f} x {options.methods[0]}")


def with_lambda_loss(task: Task) -> Task:
    """The task with DeepMTL2R's loss and metric."""
    return Task(task.name, label=task.label, kind=task.kind, loss=LAMBDA, metrics=task.metrics)


def train(data, tasks, method, seed, options):
    """One run; its card."""
    card = Experiment(
        name=f"deepmtl2r-{len(tasks)}-{options.heads}-{method}-{seed}", data=data, tasks=tasks, method=method,
        architecture={"name": "deepmtl2r", "heads": options.heads, "num_layers": options.layers},
        gradients=options.gradients, epochs=options.epochs, patience=0, batch_size=8, seed=seed,
        list_limit=options.list_limit, truncate="random", telemetry_every=0, overwrite=True,
    ).run(verbose=0, dataset=data)[1]  # fmt: skip
    values = "  ".join(f"{task} {row[next(iter(row))]['value']:.4f}" for task, row in card.results["test"].items())
    print(f"{card.name}: {values}  ({card.step_ms:.0f} ms a step)", flush=True)
    return card


if __name__ == "__main__":
    main()
