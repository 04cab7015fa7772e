"""How well the pilot of tfmtl2r advise finds planted conflicts, and how often it raises false alarms.

    python recipes/planted_conflicts.py --seeds 5
    python recipes/planted_conflicts.py --quick

Runs the pilot on synthetic goals with a known cosine: opposed (-0.9), unrelated (0) and equal (1). Prints, for each
data set and cosine, in how many seeds the goals were said to want opposite orders, to fight in the shared layers, and
to lose by sharing. Nothing is written.
"""

from __future__ import annotations

import argparse

from rich.table import Table

from tfmtl2r import Experiment
from tfmtl2r.advice import advise, pilot
from tfmtl2r.report import show

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
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.seconds = 1, 1.0
    table = Table(title="seeds in which the pilot found something", title_justify="left")
    for head in ("goals", "cosine", "seeds", "a conflict", "a loser"):
        table.add_column(head, justify="left" if head == "goals" else "right")
    for name in options.problems:
        for cosine in (-0.9, 0.0, 1.0):
            found = [advise(pilot(experiment(name, cosine, seed), options.seconds)) for seed in range(options.seeds)]
            table.add_row(name, f"{cosine:g}", str(len(found)), str(sum(bool(one.conflicts) for one in found)),
                          str(sum(bool(one.losers) for one in found)))
    show(table)


def experiment(name, cosine, seed) -> Experiment:
    """A small experiment on planted goals."""
    data, agree, size = PROBLEMS[name]
    return Experiment("planted", data={**data, **agree(cosine), "seed": seed},
                      architecture={"name": "shared_bottom", "units": [32], "head_units": [16]},
                      optimizer={"learning_rate": 3e-3},
                      training={"epochs": 8, "batch_size": size, "seed": seed, "telemetry_every": 0})


if __name__ == "__main__":
    main()
