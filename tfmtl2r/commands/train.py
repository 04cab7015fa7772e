"""Train a ranker and store model, logs and run card in runs/NAME."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator, Sequence

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
    from tfmtl2r.runs import team
    from tfmtl2r.runs.finished import described

    experiment = Experiment.of(tree)
    if experiment.name is None:
        method = described(experiment.tree()["method"]).split()[0]
        experiment = experiment.but(name=f"{method}-{time.strftime('%Y%m%d-%H%M%S')}")
    if (several := team.of(experiment)) is not None and not several.leads:
        several.train(experiment.config())
        print(f"worker {several.place} of {several.count} has ended; worker 0 writes {experiment.folder.parent}")
        return
    with _guesses_shown(own_table=experiment.data.name is None):
        _, card = experiment.run(overwrite=switches.overwrite, resume=bool(switches.resume))
    data = experiment.data.tree()
    show(results_table({card.name: card.results["test"]}, title=f"{data.get('name', 'your table')}, test split"))
    kept = card.history.get("kept", [])
    if kept.count(1.0) == 1:  # else the training had stages, and each of them kept an epoch
        print(f"kept: epoch {kept.index(1.0) + 1} of {len(kept)}")
    print(f"run card: {experiment.folder}/run.json   logs: tensorboard --logdir {experiment.folder}/logs")


@contextlib.contextmanager
def _guesses_shown(own_table: bool) -> Iterator[None]:
    """Prints what was guessed about the columns of a user's own table."""
    from tfmtl2r.data.fit import GUESSES

    shown = logging.StreamHandler(sys.stdout)
    level = GUESSES.level
    if own_table:
        GUESSES.addHandler(shown)
        GUESSES.setLevel(logging.INFO)
    try:
        yield
    finally:
        GUESSES.removeHandler(shown)
        GUESSES.setLevel(level)
