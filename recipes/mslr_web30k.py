"""Rank web pages for up to five goals: MSLR-WEB30K, MSLR-WEB10K, or a slice of them.

    python recipes/mslr_web30k.py --data DIR --tasks relevance,quality,quality2,clicks,dwell --method mgda --seeds 5

Trains every method with every seed for the same fixed number of epochs, compares the mean over seeds with BM25 and a
random order query by query, and ends with each task's mean test metric, one line per task.
"""

from __future__ import annotations

import argparse

import numpy as np
from rich.table import Table

import tfmtl2r
from tfmtl2r import Experiment
from tfmtl2r.evaluation import bootstrap, deviation, trivial_results
from tfmtl2r.report import show

TASKS = "relevance,quality,quality2,clicks,dwell"


def main() -> None:
    """Runs the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", required=True, help="folder with Fold1 ... Fold5, or with train, vali and test")
    parser.add_argument("--fold", type=int, default=1)
    parser.add_argument("--tasks", default=TASKS, help="comma-separated; all five by default")
    parser.add_argument("--architecture", default="shared_bottom")
    parser.add_argument("--method", nargs="+", default=["linear_scalarization"])
    parser.add_argument("--gradients", default="parameters", choices=["parameters", "features"])
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--cache-dir", default="", help="keep the parsed files here")
    options = parser.parse_args()
    tasks = tuple(options.tasks.split(","))
    dataset = tfmtl2r.datasets.get(
        "mslr", path=options.data, fold=options.fold, targets=tasks, cache_dir=options.cache_dir,
        normalise="signed_log1p",
    )
    chosen = {task.name: task.metrics[0] for task in dataset.select(tasks)}
    runs = {method: [train(dataset, tasks, method, seed, options) for seed in range(options.seeds)]
            for method in options.method}
    show(table(runs, trivial_results(dataset, "test", tasks), chosen))
    for method, cards in runs.items():
        gaps(dataset, cards, method, chosen)
    for method, cards in runs.items():
        if len(runs) > 1:
            print(method)
        for task, metric in chosen.items():
            print(f"{task} {metric} {np.mean([card.results['test'][task][metric]['value'] for card in cards]):.4f}")


def train(dataset, tasks, method, seed, options):
    """One run; its card."""
    units = {"shared_bottom": {"units": [256, 128, 64], "dropout": 0.3}}.get(options.architecture, {"dropout": 0.3})
    experiment = Experiment(
        name=f"mslr-{len(tasks)}-{options.architecture}-{method}-{seed}", data=dataset, tasks=tasks, method=method,
        architecture={"name": options.architecture, **units}, gradients=options.gradients,
        training={"seed": seed, "epochs": options.epochs, "patience": 0, "batch_size": 8, "telemetry_every": 20},
    )
    _, card = experiment.run(verbose=0, dataset=dataset, overwrite=True)
    values = "  ".join(f"{task} {row[next(iter(row))]['value']:.4f}" for task, row in card.results["test"].items())
    print(f"{card.name}: {values}  ({card.step_ms:.1f} ms a step)", flush=True)
    return card


def table(runs, trivial, chosen) -> Table:
    """Mean and standard deviation over seeds, per task."""
    out = Table(title="test NDCG@10, mean ± standard deviation over seeds", title_justify="left")
    out.add_column("")
    for task in chosen:
        out.add_column(task, justify="right")
    for name, row in trivial.items():
        out.add_row(name, *(f"{row[t][m]['value']:.4f}" if t in row else "" for t, m in chosen.items()))
    for method, cards in runs.items():
        values = {t: [card.results["test"][t][m]["value"] for card in cards] for t, m in chosen.items()}
        out.add_row(method, *(f"{np.mean(v):.4f} ± {deviation(v):.4f}" for v in values.values()))
    return out


def gaps(dataset, cards, method, chosen) -> None:
    """The gain over BM25 and a random order, query by query, the runs of all seeds averaged."""
    trivial = trivial_results(dataset, "test", tuple(chosen))
    print(f"{method}: paired gain per query, 95 % bootstrap interval over queries")
    for task, metric in chosen.items():
        ours = np.mean([np.load(f"runs/{card.name}/per_list.npz")[f"test/{task}/{metric}"] for card in cards], axis=0)
        for name, row in trivial.items():
            if task in row:
                gain, low, high = bootstrap(ours, row[task][metric]["per_list"])
                queries = np.isfinite(ours).sum()
                print(f"  {task} - {name}: {gain:+.4f} [{low:+.4f}, {high:+.4f}] over {queries} queries")


if __name__ == "__main__":
    main()
