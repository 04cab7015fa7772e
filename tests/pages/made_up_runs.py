"""Run cards of a sweep that nobody trained."""

import numpy as np

from tfmtl2r.experiment import Experiment
from tfmtl2r.runs.card import RunCard
from tfmtl2r.runs.identity import PER_LIST
from tfmtl2r.sweeps import planning


def fake_sweep(folder, tasks=2, lists=40, worse="epo", vali=None, architectures=()):
    """Made-up runs: weighted sums and ``worse`` with three preferences, mgda, single-task training; two seeds."""
    data = {"name": "synthetic_mslr", "num_lists": lists, "num_tasks": tasks, "num_features": 8}
    base = Experiment("base", data=data, training={"epochs": 2, "patience": 0})
    grid = np.vstack([np.full((1, tasks), 1 / tasks), np.eye(tasks) * 0.6 + 0.4 / tasks])
    planned = [*planning.single_tasks(base, (0, 1), architectures),
               *planning.plan(base, ["linear_scalarization", worse, "mgda"], grid, (0, 1), architectures)]
    rng = np.random.default_rng(0)
    easy = rng.random((lists, tasks))
    for experiment in planned:
        names = experiment.task_names or [f"task_{t + 1}" for t in range(tasks)]
        shares = [*experiment.preference.values()] if experiment.preference else [0.5]
        gain = 0.2 * np.sqrt(np.array(shares)) - 0.1 * (experiment.method == worse)
        values = easy[:, [int(n[-1]) - 1 for n in names]] + gain + 0.01 * rng.normal(size=(lists, len(names)))
        write(folder / experiment.name, experiment, dict(zip(names, values.T, strict=True)), vali)
    return planned


def write(folder, experiment, values, vali=None):
    results, history = {}, {}
    for task, value in values.items():
        results[task] = {"ndcg@10": {"value": float(value.mean()), "direction": "max", "num_lists": len(value)}}
        shown = value.mean() if vali is None else vali(experiment, task)
        history |= {f"{task}_loss": [3.0, 2.0], f"val_{task}_loss": [3.0, 2.0], f"val_{task}_ndcg@10": [0.1, shown]}
    card = RunCard(experiment.name, experiment.config(), {"test": {"fingerprint": "f"}}, {"test": results}, history,
                   step_ms=2.0 + experiment.training.seed, peak_memory_mb=500.0)
    card.save(folder)
    np.savez(folder / PER_LIST, **{f"test/{task}/ndcg@10": v for task, v in values.items()})
