"""Two binary goals on people, six towers: Census-Income (KDD) as in the MMoE, PLE and DRGrad papers.

    python recipes/census_income.py --data DIR --groups income_married education_married --seeds 5

Every architecture is trained for the same fixed number of epochs with every seed, by processes of this machine; what
is finished is not run again. Prints test AUC, mean and standard deviation over seeds, and differences seed by seed to
MMoE; writes them as CSV beside the run cards in runs/census-GROUP.
"""

from __future__ import annotations

import argparse

from tfmtl2r.experiment import Experiment
from tfmtl2r.pareto import Sweep
from tfmtl2r.report.seeds import seeds_table, variants, write_csv
from tfmtl2r.report.tables import show

UNITS = {"units": [128, 64], "head_units": [32], "dropout": 0.3}
EXPERTS = {"expert_units": [128, 64], "head_units": [32], "dropout": 0.3}
ARCHITECTURES = {
    "single_task": UNITS,
    "shared_bottom": UNITS,
    "mmoe": {"num_experts": 4, **EXPERTS},
    "ple": EXPERTS,
    "drgrad": {"num_experts": 4, **EXPERTS},
    "dml": {"base": {"name": "mmoe", "num_experts": 4, **EXPERTS}, "head_units": [32], "dropout": 0.3},
}


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
    parser.add_argument("--jobs", type=int, default=0, help="processes at a time; as many as CPUs if 0")
    options = parser.parse_args()
    for group in options.groups:
        data = {"name": "census_income", "path": options.data, "group": group, "embed_numbers": True}
        experiments = [
            Experiment(
                name=f"{architecture}-{seed}", data=data, method=options.method, seed=seed, epochs=options.epochs,
                architecture={"name": architecture, **ARCHITECTURES[architecture]}, patience=0, batch_size=1024,
                learning_rate=1e-3, telemetry_every=0,
            )
            for seed in range(options.seeds) for architecture in options.architectures
        ]  # fmt: skip
        with Sweep(f"runs/census-{group}", jobs=options.jobs) as sweep:
            cards = [run.card for run in sweep.run(experiments)]
        report(cards, group)


def report(cards, group) -> None:
    """The table of a group, by architecture."""
    runs = {name.split()[0]: same for name, same in variants(cards).items()}
    metrics = dict.fromkeys(cards[0].results["test"], "auc")
    show(seeds_table(runs, metrics, f"{group}: test AUC", baseline="mmoe" if "mmoe" in runs else None))
    print(write_csv(runs, metrics, f"runs/census-{group}/architectures.csv"))


if __name__ == "__main__":
    main()
