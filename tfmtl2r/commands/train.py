"""Train a ranker and store model, logs and run card in runs/NAME."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmtl2r.commands._options import Command, parse
from tfmtl2r.errors import UserError

if TYPE_CHECKING:
    from tfmtl2r.datasets.base import DataSet
    from tfmtl2r.experiment import Experiment
    from tfmtl2r.runs.card import RunCard

COMMAND = Command(
    "train",
    "Trains a ranker, evaluates it on the test split and writes runs/NAME: run card, TensorBoard logs, model.keras, "
    "and experiment.toml, with which the run can be repeated.",
    switches={"overwrite": "replace an earlier run of the same name, which stays until the new run is whole",
              "quiet": "print warnings and errors only",
              "json": "print one JSON object after each epoch, and one with the results at the end"},
    resumes=True,
)


def main(arguments: Sequence[str]) -> None:
    """Trains and prints the test table."""
    tree, switches = parse(COMMAND, arguments)
    from tfmtl2r.experiment import Experiment
    from tfmtl2r.report.progress import JsonLines
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
    dataset = experiment.dataset()
    shown = not (switches.quiet or switches.json)
    with _guesses_shown(own_table=experiment.data.name is None and shown):
        _, card = experiment.run("auto" if shown else 0, dataset, [JsonLines()] if switches.json else [],
                                 overwrite=switches.overwrite, resume=bool(switches.resume))
    if switches.json:
        print(json.dumps({"run": card.name, "folder": str(experiment.folder), "test": card.results["test"]}))
    if not shown:
        return
    beside = {**_trivial(experiment, dataset), **_earlier(experiment.folder, card)}
    data = experiment.data.tree()
    show(results_table({**beside, card.name: card.results["test"]}, f"{data.get('name', 'your table')}, test split"))
    kept = card.history.get("kept", [])
    if kept.count(1.0) == 1:  # else the training had stages, and each of them kept an epoch
        print(f"kept: epoch {kept.index(1.0) + 1} of {len(kept)}, the best one on vali")
    print(f"run card: {experiment.folder}/run.json   logs: tensorboard --logdir {experiment.folder}/logs")


def _trivial(experiment: Experiment, dataset: DataSet) -> dict[str, Any]:
    """The results of rankings without training, for the metrics that read an order."""
    from tfmtl2r.evaluation import trivial_results
    from tfmtl2r.training.trackers import metrics_of

    lists = not dataset.lists("train").is_rows
    tasks = [dataclasses.replace(task, metrics=tuple(one for one in metrics_of(task, lists) if one.reads == "score"))
             for task in experiment.select(dataset)]
    return trivial_results(dataset, "test", [task for task in tasks if task.metrics])


def _earlier(folder: Path, card: RunCard) -> dict[str, Any]:
    """The run beside this one that was best on vali, with the same tasks and test split."""
    from tfmtl2r.names import STOP_ON
    from tfmtl2r.runs import finished

    best: tuple[float, RunCard] | None = None
    for path in sorted(folder.parent.iterdir()):
        if path == folder or path.name.startswith("."):
            continue
        with contextlib.suppress(UserError, OSError):  # no run, or one that only its own command can read
            other = finished.load(path).card
            reached = max(other.history.get(f"val_{STOP_ON}", [float("-inf")]))
            same = other.data["test"]["fingerprint"] == card.data["test"]["fingerprint"]
            if same and {*other.results["test"]} == {*card.results["test"]} and (best is None or reached > best[0]):
                best = reached, other
    return {} if best is None else {f"best so far: {best[1].name}": best[1].results["test"]}


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
