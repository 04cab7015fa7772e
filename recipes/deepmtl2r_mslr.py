"""DeepMTL2R's experiments on MSLR-WEB30K in Keras: its list transformer, two or five goals, any method.

    python recipes/deepmtl2r_mslr.py --data DIR --tasks relevance,quality --methods linear_scalarization mgda nash_mtl
    python recipes/deepmtl2r_mslr.py --data DIR --methods linear_scalarization stch epo --preferences 10

The goals are its own, relevance and features 132, 133, 134 and 136, as grades from 0 to 4 (its loss overflows on raw
counts); the loss is its LambdaLoss (ndcgLoss2++), the ranker its transformer: width 128, 4 layers of 4 heads, dropout
.3. ``--heads shared`` is what its code does: one scorer trained against all labels. Prints each task's test NDCG@10 and
the median step per method, and every method's step as a ratio to the first one's; with several preferences also the
hypervolume of each method that takes one. Run cards are in runs/NAME, by default deepmtl2r-GOALS-HEADS; what is
finished is not run again.
"""

from __future__ import annotations

import argparse

import numpy as np

import tfmtl2r
from tfmtl2r import Experiment, Task
from tfmtl2r.evaluation import seeds_table
from tfmtl2r.pareto import low_discrepancy, summarise
from tfmtl2r.report import show
from tfmtl2r.sweeps import Sweep, plan

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
    parser.add_argument("--preferences", type=int, default=1, help="how many; DeepMTL2R: 10 for 2 goals, 80 for 5")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--epochs", type=int, default=10, help="DeepMTL2R trains 50")
    parser.add_argument("--cache-dir", default="", help="keep the parsed files here")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time; more than one disturb step times")
    parser.add_argument("--name", default="", help="of the sweep below runs, such as one of other settings")
    options = parser.parse_args()
    names = tuple(options.tasks.split(","))
    data = {"name": "mslr", "path": options.data, "targets": names, "normalise": "allrank",
            "cache_dir": options.cache_dir}  # fmt: skip
    base = Experiment(
        "base", data={**data, "max_list_size": options.list_limit, "truncate": "random"},
        tasks=tuple(with_lambda_loss(task) for task in tfmtl2r.datasets.get(data).tasks()),
        architecture={"name": "deepmtl2r", "heads": options.heads, "num_layers": options.layers},
        gradients=options.gradients,
        training={"epochs": options.epochs, "patience": 0, "validate_every": 0, "batch_size": 8, "telemetry_every": 0},
    )
    planned = plan(base, options.methods, grid(len(names), options.preferences), range(options.seeds))
    with Sweep(f"runs/{options.name or f'deepmtl2r-{len(names)}-{options.heads}'}", options.jobs) as sweep:
        report(sweep.run(planned), options)


def grid(tasks: int, count: int) -> np.ndarray:
    """Equal importance first, then preferences over the whole simplex."""
    equal = np.full((1, tasks), 1 / tasks)
    return equal if count == 1 else np.concatenate([equal, low_discrepancy(tasks, count - 1)])


def report(runs, options) -> None:
    """Metrics at equal importance, hypervolumes over all preferences, and what a step costs."""
    even = [run for run in runs if not run.preference or np.ptp(run.preference) < 1e-9]
    cards = {method: [run.card for run in even if run.method == method] for method in options.methods}
    cards = {method: same for method, same in cards.items() if same}
    first = next(iter(cards))
    metrics = {name: next(iter(row)) for name, row in cards[first][0].results["test"].items()}
    show(seeds_table(cards, metrics, "test, DeepMTL2R's goals", baseline=first))
    steps = {method: np.median([card.step_ms for card in same]) for method, same in cards.items()}
    for method, step in steps.items():
        print(f"{method}: {step:.0f} ms a step, {step / steps[first]:.2f} x {first}")
    if options.preferences > 1:
        for method, row in summarise(runs).rows.items():
            print(f"{method}: test hypervolume {row['hypervolume']:.4f} ± {row['hypervolume_std']:.4f} "
                  f"({row['runs']} runs)")


def with_lambda_loss(task: Task) -> Task:
    """The task with DeepMTL2R's loss and metric."""
    return Task(task.name, label=task.label, kind=task.kind, loss=LAMBDA, metrics=task.metrics)


if __name__ == "__main__":
    main()
