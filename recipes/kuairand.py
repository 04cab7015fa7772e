"""Short videos for several goals: clicks, long views, likes, follows and comments of KuaiRand-Pure.

    python recipes/kuairand.py --data DIR --tasks click long_view like --seeds 5

Compares towers at the same fixed number of epochs: MMoE, PLE, ESMM and AITM (click, then long view, then like: each a
stage of the one before), and DML over MMoE. They read training rates of user, video and author beside attributes.
Prints NDCG@5 and grouped AUC per task on the test days, mean and standard deviation over seeds, differences seed by
seed to MMoE, and what popularity alone reaches; writes CSV beside the run cards in runs/kuairand. What is finished is
not run again.
"""

from __future__ import annotations

import argparse

import tfmtl2r
from tfmtl2r.experiment import Experiment
from tfmtl2r.pareto import Sweep
from tfmtl2r.report import trivial_results
from tfmtl2r.report.seeds import seeds_table, variants, write_csv
from tfmtl2r.report.tables import show

TOWERS = {"head_units": [32], "dropout": 0.3}
EXPERTS = {"expert_units": [128, 64], **TOWERS}
ARCHITECTURES = {
    "shared_bottom": {"units": [256, 128], **TOWERS},
    "mmoe": {"num_experts": 4, **EXPERTS},
    "ple": EXPERTS,
    "esmm": {"dropout": 0.3},
    "aitm": {"dropout": 0.3},
    "dml": {"base": {"name": "mmoe", "num_experts": 4, **EXPERTS}, **TOWERS},
}


def main() -> None:
    """Runs the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", required=True, help="folder with the files of KuaiRand-Pure")
    parser.add_argument("--tasks", nargs="+", default=["click", "long_view", "like"])
    parser.add_argument("--architectures", nargs="+", default=[*ARCHITECTURES], choices=[*ARCHITECTURES])
    parser.add_argument("--method", default="linear_scalarization")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=0, help="processes at a time; as many as CPUs if 0")
    options = parser.parse_args()
    data = {"name": "kuairand", "path": options.data}
    experiments = [
        Experiment(
            name=f"{architecture}-{'-'.join(options.tasks)}-{seed}", data=data, tasks=tuple(options.tasks),
            architecture={"name": architecture, **ARCHITECTURES[architecture]}, method=options.method, seed=seed,
            epochs=options.epochs, patience=0, batch_size=64, learning_rate=5e-4, telemetry_every=0,
        )
        for seed in range(options.seeds) for architecture in options.architectures
    ]  # fmt: skip
    with Sweep("runs/kuairand", jobs=options.jobs) as sweep:
        cards = [run.card for run in sweep.run(experiments)]
    trivial = trivial_results(tfmtl2r.datasets.get(data), "test", options.tasks)
    runs = {name.split()[0]: same for name, same in variants(cards).items()}
    for metric in ("ndcg@5", "grouped_auc", "auc"):
        tasks = [t for t, row in cards[0].results["test"].items() if metric in row]
        if tasks:
            show(seeds_table(runs, dict.fromkeys(tasks, metric), f"KuaiRand-Pure, test {metric}",
                             baseline="mmoe" if "mmoe" in runs else None, extra=trivial))
    print(write_csv(runs, dict.fromkeys(cards[0].results["test"], "ndcg@5"), "runs/kuairand/architectures.csv"))


if __name__ == "__main__":
    main()
