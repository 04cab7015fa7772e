"""The whole front from one training: a ranker that reads the preference, against one ranker per preference.

    python recipes/conditioned_front.py

Synthetic MSLR-shaped lists with two goals that conflict, and one ranking for both (a list transformer with one scorer;
with a tower for each goal there would be little to trade). Trains one conditioned ranker and, for each of 11
preferences, one ordinary ranker with weighted losses, every one for the same number of epochs; shows the test metrics
along the preference, the hypervolume of both sets above what a random order reaches, the seconds of training, and a
picture. The conditioned ranker is exported: its signature ``predict_preferred`` takes the preference with the request.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from rich.table import Table

import tfmtl2r
from tfmtl2r import Experiment
from tfmtl2r.evaluation import trivial_results
from tfmtl2r.pareto import curve, hypervolume, plots
from tfmtl2r.report import show
from tfmtl2r.runs import Run, objectives

ONE_RANKING = {"name": "deepmtl2r", "heads": "shared", "units": 64, "num_layers": 1, "num_heads": 2, "feedforward": 128,
               "dropout": 0.0}  # fmt: skip


def main() -> None:
    """Runs the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--lists", type=int, default=200, help="synthetic training lists")
    parser.add_argument("--conflict", type=float, default=0.7, help="0: the goals agree; 1: they are opposed")
    parser.add_argument("--preferences", type=int, default=11)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--conditioned-epochs", type=int, default=0, help="as many as the others if 0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", default="saved_models/conditioned", help="where the conditioned ranker goes")
    options = parser.parse_args()
    data = tfmtl2r.datasets.get("synthetic_mslr", num_lists=options.lists, num_tasks=2, max_length=120,
                                conflict=options.conflict)
    shares = np.linspace(0.05, 0.95, options.preferences)
    preferences = np.stack([shares, 1 - shares], axis=1)
    training = {"epochs": options.epochs, "batch_size": 8, "patience": 0, "seed": options.seed, "telemetry_every": 0}
    common = {"data": data, "architecture": ONE_RANKING}
    tasks = data.default_tasks
    separate, seconds = [], []
    for number, preference in enumerate(preferences):
        start = time.perf_counter()
        experiment = Experiment(name=f"front-{number}", preference=dict(zip(tasks, preference, strict=True)),
                                training=training, **common)
        _, card = experiment.run(verbose=0, dataset=data, overwrite=True)
        seconds.append(time.perf_counter() - start)
        separate.append(Run(experiment.folder, card))
    start = time.perf_counter()
    model, _ = Experiment(
        name="front-conditioned", conditioned=1.0, evaluation={"preferences": "none"},
        training={**training, "epochs": options.conditioned_epochs or options.epochs}, **common,
    ).run(verbose=0, dataset=data, overwrite=True)
    cost = time.perf_counter() - start
    one = curve(model, data.lists("test"), preferences)
    chance = [next(iter(row.values()))["value"] for row in trivial_results(data, "test")["random"].values()]
    report(one, objectives(separate, "test"), chance, cost, float(np.median(seconds)))
    print(tfmtl2r.export(model, options.export))


def report(one, separate, chance, cost, usual) -> None:
    """Table, hypervolumes, cost and picture."""
    table = Table(title="test, one conditioned ranker / one ranker per preference", title_justify="left")
    for column in ("preference", *one.labels):
        table.add_column(column, justify="right")
    for preference, ours, theirs in zip(one.preferences, one.values, separate.values, strict=True):
        cells = [f"{a:.4f} / {b:.4f}" for a, b in zip(ours, theirs, strict=True)]
        table.add_row(" : ".join(f"{p:.2f}" for p in preference), *cells)
    show(table)
    volumes = [hypervolume(points.values, chance, one.maximise) for points in (one, separate)]
    print(f"hypervolume above a random order ({chance[0]:.3f}, {chance[1]:.3f}): conditioned {volumes[0]:.5f}, "
          f"{len(separate.runs)} rankers {volumes[1]:.5f}, ratio {volumes[0] / volumes[1]:.3f}")
    print(f"training: conditioned {cost:.1f} s, one ordinary ranker {usual:.1f} s (median), ratio {cost / usual:.2f}")
    groups = {"one conditioned ranker": one, f"{len(separate.runs)} rankers": separate}
    print(*plots.save({"front": plots.front(groups)}, "runs/front-conditioned"))


if __name__ == "__main__":
    main()
