"""How well the pilot of tfmtl2r advise finds planted conflicts, and how often it raises false alarms.

    python recipes/planted_conflicts.py --seeds 5
    python recipes/planted_conflicts.py --study --data-dir DIR --seconds 120
    python recipes/planted_conflicts.py --quick

Runs the pilot on synthetic goals with a known cosine: opposed (-0.9), unrelated (0) and equal (1). Prints, for each
data set and cosine, in how many seeds the goals were said to want opposite orders, to fight in the shared layers, and
to lose by sharing. Nothing is written.

``--study`` takes the data sets of ``compare_methods.py`` instead. If the first advice on one of them is not equal
weights, it is trained as long as equal weights are in the study, over seeds, in runs/advice.
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path

import compare_methods
from rich.table import Table

from tfmtl2r import Experiment
from tfmtl2r.advice import Suggestion, advise, pilot, write_experiments
from tfmtl2r.evaluation import by_seed, paired
from tfmtl2r.report import show
from tfmtl2r.sweeps import over_seeds

# name -> data set with its options, the options for a cosine, and lists (or rows) per batch
PROBLEMS = {
    "regression rows": ({"name": "synthetic_rows", "rows": 4000, "dim": 30}, lambda c: {"correlation": c}, 64),
    "binary rows": ({"name": "synthetic_conflict", "rows": 6000}, lambda c: {"cosine": c}, 64),
    "graded lists": ({"name": "synthetic_mslr", "num_lists": 200, "num_tasks": 2, "num_features": 20, "max_length": 30},
                     lambda c: {"conflict": (1 - c) / 2}, 8),
}


def main() -> None:
    """Runs the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--problems", nargs="+", default=[*PROBLEMS], choices=[*PROBLEMS])
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each pilot")
    parser.add_argument("--quick", action="store_true", help="one seed, one second")
    parser.add_argument("--study", action="store_true", help="the data sets of the study")
    parser.add_argument("--data-dir", default="../shared/data", help="folder with mslr and kuairand_pure")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.seconds = 1, 1.0
    (study if options.study else planted)(options)


def planted(options: argparse.Namespace) -> None:
    """Prints how often something was found in goals with a known cosine."""
    table = Table(title="seeds in which the pilot found something", title_justify="left")
    for head in ("goals", "cosine", "seeds", "a conflict", "a loser"):
        table.add_column(head, justify="left" if head == "goals" else "right")
    for name in options.problems:
        for cosine in (-0.9, 0.0, 1.0):
            found = [advise(pilot(experiment(name, cosine, seed), options.seconds)) for seed in range(options.seeds)]
            table.add_row(name, f"{cosine:g}", str(len(found)), str(sum(bool(one.conflicts) for one in found)),
                          str(sum(bool(one.losers) for one in found)))
    show(table)


def study(options: argparse.Namespace) -> None:
    """Prints what the advice on the data sets of the study is, and what it is worth on their test lists."""
    table = Table(title="advice on the data sets of the study", title_justify="left")
    for head in ("data", "conflicts", "losers", "gain of what was tried, %", "first advice", "its gain on test"):
        table.add_column(head)
    for name, base in compare_methods.experiments(Path(options.data_dir).resolve()).items():
        facts = pilot(base, options.seconds, print)
        found = advise(facts)
        tried = [f"{one.name} {100 * one.gain:+.1f} \u00b1 {100 * one.error:.1f}" for one in facts.trials]
        first = [] if found.equal_weights else [one for one in found.suggestions if one.changes][:1]
        table.add_row(name, "\n".join(" / ".join(pair) for pair in found.conflicts), "\n".join(found.losers),
                      "\n".join(tried), first[0].name if first else "equal weights",
                      gains(base, first, Path("runs/advice") / name, options.seeds) if first else "")
    show(table)


def gains(base: Experiment, first: list[Suggestion], folder: Path, seeds: int) -> str:
    """What a suggestion gains over equal weights on the test lists: each goal, with the standard error over seeds."""
    goals = [task.name for task in base.select(base.dataset())]
    files = write_experiments(base.config(), goals, first, folder / "experiments", overwrite=True)
    cards = [over_seeds(folder / file.stem, Experiment.of(tomllib.loads(file.read_text(encoding="utf-8"))), {"run": {}},
                        range(seeds))["run"] for file in files]  # fmt: skip
    lines = []
    for goal in goals:
        metric = next(iter(cards[0][0].results["test"][goal]))
        equal, ours = (by_seed(same, goal, metric) for same in cards)
        gap, error, _ = paired(ours, equal)
        lines.append(f"{goal} {gap:+.4f} \u00b1 {error:.4f}")
    return "\n".join(lines)


def experiment(name, cosine, seed) -> Experiment:
    """A small experiment on planted goals."""
    data, agree, size = PROBLEMS[name]
    return Experiment("planted", data={**data, **agree(cosine), "seed": seed},
                      architecture={"name": "shared_bottom", "units": [32], "head_units": [16]},
                      optimizer={"learning_rate": 3e-3},
                      training={"epochs": 8, "batch_size": size, "seed": seed, "telemetry_every": 0})


if __name__ == "__main__":
    main()
