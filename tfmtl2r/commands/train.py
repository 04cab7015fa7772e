"""Train a ranker and store model, logs and run card in runs/NAME."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tfmtl2r.commands._options import Command, parse

COMMAND = Command(
    "train",
    "Trains a ranker, evaluates it on the test split and writes runs/NAME: run card, TensorBoard logs, model.keras, "
    "and experiment.toml, with which the run can be repeated.",
    switches={"overwrite": "replace an earlier run of the same name, which stays until the new run is whole"},
    resumes=True,
)


def main(arguments: Sequence[str]) -> None:
    """Trains and prints the test table."""
    tree, switches = parse(COMMAND, arguments)
    from tfmtl2r.experiment import Experiment
    from tfmtl2r.report.tables import results_table, show
    from tfmtl2r.runs.finished import described

    experiment = Experiment.of(tree)
    if experiment.name is None:
        method = described(experiment.tree()["method"]).split()[0]
        experiment = experiment.but(name=f"{method}-{time.strftime('%Y%m%d-%H%M%S')}")
    _, card = experiment.run(overwrite=switches.overwrite, resume=bool(switches.resume))
    data = experiment.data.tree()
    show(results_table({card.name: card.results["test"]}, title=f"{data.get('name', 'your table')}, test split"))
    print(f"run card: {experiment.folder}/run.json   logs: tensorboard --logdir {experiment.folder}/logs")
