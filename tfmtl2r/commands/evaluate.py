"""Evaluate a trained run on a split of its data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from tfmtl2r.errors import InputError


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Evaluates runs/NAME on a split, prints the result and adds it to the run card, if the folder can be written.

    Args:
        run: name of the run.
        split: train, vali or test.
        directory: the folder of all runs.
    """

    run: Annotated[str, tyro.conf.Positional]
    split: str = "test"
    directory: str = "runs"


def main(arguments: Sequence[str]) -> None:
    """Evaluates and prints a table."""
    options = tyro.cli(Evaluate, args=arguments, prog="tfmtl2r evaluate")
    from tfmtl2r.commands._keeping import kept
    from tfmtl2r.evaluation.scoring import described, record, score
    from tfmtl2r.experiment import Experiment
    from tfmtl2r.report.tables import results_table, show
    from tfmtl2r.runs.card import RunCard
    from tfmtl2r.runs.identity import MODEL
    from tfmtl2r.runs.places import find, training
    from tfmtl2r.serving.load import load

    folder = find(options.directory, options.run)
    card = RunCard.load(folder)
    lists = Experiment.of(card.config).dataset().lists(options.split)
    card.expect(options.split, lists.fingerprint())
    ranker: Any = load(folder / MODEL)
    results = score(ranker, lists)
    show(results_table({card.name: described(results)}, title=f"{options.split} split"))
    with kept("the result"), training(folder):
        current = RunCard.load(folder)  # another evaluation may have added its split
        if current.identity != card.identity:
            raise InputError(f"{folder} was replaced by another training while its earlier model was evaluated: "
                             "evaluate it again")
        record(current, options.split, results, lists, folder)
        current.save(folder)
