"""How much tasks must agree before sharing helps: MMoE's and DRGrad's synthetic data, several towers, many seeds.

    python recipes/synthetic_conflict.py --seeds 5
    python recipes/synthetic_conflict.py --quick

Trains every architecture on each correlation for the same fixed number of epochs, with every seed of data and weights.
Prints the test metric of each task (mean and standard deviation over seeds, differences to MMoE seed by seed) and
draws it against the correlation. Run cards, tables and pictures are in runs/synthetic-correlation (regression, mean
squared error) and runs/synthetic-conflict (binary, AUC; the first task is DRGrad's primary one).
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tfmtl2r import Experiment
from tfmtl2r.evaluation import by_seed, seeds_table, write_csv
from tfmtl2r.report import show
from tfmtl2r.sweeps import over_seeds
from tfmtl2r.writing import written

TOWERS = {"head_units": [16]}
EXPERTS = {"expert_units": [32], **TOWERS}
MMOE = {"num_experts": 4, **EXPERTS}
ARCHITECTURES = {
    "shared_bottom": {"units": [64], **TOWERS},
    "mmoe": MMOE,
    "ple": {"levels": 1, **EXPERTS},
    "dml": {"base": {"name": "mmoe", **MMOE}, **TOWERS},
    "drgrad": MMOE,
}
# data set -> the option that says how much the tasks agree, the column of results, and its values
PROBLEMS = {
    "correlation": ("synthetic_rows", "correlation", "mse", (-0.9, -0.5, 0.0, 0.5, 0.9)),
    "conflict": ("synthetic_conflict", "cosine", "auc", (-0.9, -0.5, 0.0, 0.5, 0.9)),
}


def main() -> None:
    """Runs the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--problems", nargs="+", default=[*PROBLEMS], choices=[*PROBLEMS])
    parser.add_argument("--architectures", nargs="+", default=[*ARCHITECTURES], choices=[*ARCHITECTURES])
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--rows", type=int, default=20_000, help="of training")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--jobs", type=int, help="processes at a time; as many as CPUs if not given")
    parser.add_argument("--quick", action="store_true", help="two seeds, three correlations, 4 epochs on 4000 rows")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.rows, options.epochs = 2, 4000, 4
    for problem in options.problems:
        run(problem, options)


def run(problem, options) -> None:
    """One data set: trains what is not yet trained, and reports."""
    data, option, metric, values = PROBLEMS[problem]
    values = values[::2] if options.quick else values
    folder = Path(f"runs/synthetic-{problem}{'-quick' if options.quick else ''}")
    runs = {}
    variants = {name: {"architecture": {"name": name, **ARCHITECTURES[name]}} for name in options.architectures}
    for value, seed in itertools.product(values, range(options.seeds)):
        base = Experiment(
            "base", data={"name": data, "rows": options.rows, option: value, "seed": seed},
            optimizer={"learning_rate": 2e-3},
            training={"epochs": options.epochs, "patience": 0, "validate_every": 0, "batch_size": 256,
                      "telemetry_every": 0},
        )
        # A sweep of its own, since the runs of one sweep have the same data.
        for name, cards in over_seeds(folder / f"{value}-{seed}", base, variants, [seed], options.jobs).items():
            runs.setdefault(value, {}).setdefault(name, []).extend(cards)
    metrics = dict.fromkeys(cards[0].results["test"], metric)
    for value, same in runs.items():
        title = f"{data}, {option} {value}: test {metric}"
        show(seeds_table(same, metrics, title, baseline="mmoe" if "mmoe" in same else None))
        write_csv(same, metrics, folder / f"{option}_{value}.csv")
    print(curves(runs, metrics, option, folder / f"{metric}.png"))


def curves(runs, metrics, option, path) -> Path:
    """The metric of each task against how much the tasks agree: a line per architecture, a band of its standard error.

    Seeds draw the data, too, and some draws are easier for all; that part of a seed is left out of the band.
    """
    figure = Figure(figsize=(4.4 * len(metrics), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    names = list(dict.fromkeys(name for same in runs.values() for name in same))
    for place, (task, metric) in enumerate(metrics.items(), start=1):
        axes = figure.add_subplot(1, len(metrics), place, title=task, xlabel=option, ylabel=f"test {metric}")
        found = {value: {name: by_seed(cards, task, metric) for name, cards in same.items()}
                 for value, same in runs.items()}  # fmt: skip
        for i, name in enumerate(names):
            values = sorted(value for value, same in found.items() if name in same)
            points = np.array([band(found[value], name) for value in values])
            axes.plot(values, points[:, 0], marker="o", markersize=3, color=f"C{i}", label=name)
            axes.fill_between(values, points[:, 0] - points[:, 1], points[:, 0] + points[:, 1], color=f"C{i}",
                              alpha=0.15, linewidth=0)  # fmt: skip
        axes.spines[["top", "right"]].set_visible(False)
        if place == 1:
            axes.legend(frameon=False, fontsize=8)
    with written(path) as temporary:
        figure.savefig(temporary, dpi=130)
    return path


def band(same, name) -> tuple[float, float]:
    """Mean over seeds, and the standard error of what the architecture has beyond the mean of all of the same seed."""
    own = same[name]
    beyond = [value - np.mean([other[seed] for other in same.values() if seed in other]) for seed, value in own.items()]
    return float(np.mean([*own.values()])), float(np.std(beyond) / max(len(beyond) - 1, 1) ** 0.5)


if __name__ == "__main__":
    main()
