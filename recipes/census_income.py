"""Two binary goals on people, towers of every kind: Census-Income (KDD) as in the MMoE, PLE and DRGrad papers.

    python recipes/census_income.py --data DIR --groups income_married education_married --seeds 5

Every architecture is trained for the same fixed number of epochs with every seed, by processes of this machine; what
is finished is not run again. Prints test AUC, mean and standard deviation over seeds, and differences seed by seed to
MMoE; writes them as CSV beside the run cards in runs/census-GROUP.
"""

from __future__ import annotations

import argparse
import itertools

from tfmtl2r import Experiment
from tfmtl2r.evaluation import by_seed, paired, seeds_table, write_csv
from tfmtl2r.report import show
from tfmtl2r.sweeps import over_seeds

UNITS = {"units": [128, 64], "head_units": [32], "dropout": 0.3}
EXPERTS = {"expert_units": [128, 64], "head_units": [32], "dropout": 0.3}
TOWERS = {
    "single_task": {"name": "single_task", **UNITS},
    "shared_bottom": {"name": "shared_bottom", **UNITS},
    "mmoe": {"name": "mmoe", "num_experts": 4, **EXPERTS},
    "ple": {"name": "ple", **EXPERTS},
    "drgrad": {"name": "drgrad", "num_experts": 4, **EXPERTS},
}
# Mutual learning over each of the towers of several tasks.
MUTUAL = {f"dml-{base}": {"name": "dml", "base": TOWERS[base], "head_units": [32], "dropout": 0.3}
          for base in ("shared_bottom", "mmoe", "ple")}  # fmt: skip
ARCHITECTURES = {**TOWERS, **MUTUAL}


def main() -> None:
    """Runs the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", required=True, help="folder with census-income.data[.gz] and census-income.test[.gz]")
    parser.add_argument("--groups", nargs="+", default=["income_married", "education_married"],
                        choices=["income_married", "education_married"])
    parser.add_argument("--architectures", nargs="+", default=[*ARCHITECTURES], choices=[*ARCHITECTURES])
    parser.add_argument("--method", default="linear_scalarization")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--jobs", type=int, help="processes at a time; as many as CPUs if not given")
    options = parser.parse_args()
    for group in options.groups:
        data = {"name": "census_income", "path": options.data, "group": group, "embed_numbers": True}
        base = Experiment("base", data=data, method=options.method,
                          training={"epochs": options.epochs, "patience": 0, "validate_every": 0, "batch_size": 1024,
                                    "telemetry_every": 0})  # fmt: skip
        variants = {name: {"architecture": ARCHITECTURES[name]} for name in options.architectures}
        report(over_seeds(f"runs/census-{group}", base, variants, range(options.seeds), options.jobs), group)


def report(runs, group) -> None:
    """The table of a group, by architecture, and what mutual learning adds to each of its bases."""
    metrics = dict.fromkeys(next(iter(runs.values()))[0].results["test"], "auc")
    show(seeds_table(runs, metrics, f"{group}: test AUC", baseline="mmoe" if "mmoe" in runs else None))
    for name, task in itertools.product(runs, metrics):
        base = name.removeprefix("dml-")
        if base != name and base in runs:
            gap, error, seeds = paired(by_seed(runs[name], task, "auc"), by_seed(runs[base], task, "auc"))
            print(f"{name} - {base}, {task}: {gap:+.4f} ± {error:.4f} (standard error, {seeds} seeds)")
    print(write_csv(runs, metrics, f"runs/census-{group}/architectures.csv"))


if __name__ == "__main__":
    main()
