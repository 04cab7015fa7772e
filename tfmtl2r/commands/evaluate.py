"""Evaluate a trained run on a split of its data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Evaluates runs/NAME on a split, adds the result to its run card and prints it.

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
    from tfmtl2r.evaluation.scoring import record, score
    from tfmtl2r.experiment import Experiment
    from tfmtl2r.report.tables import results_table, show
    from tfmtl2r.runs.card import RunCard
    from tfmtl2r.serving.load import load

    folder = Path(options.directory) / options.run
    card = RunCard.load(folder)
    lists = Experiment.of(card.config).dataset().lists(options.split)
    card.expect(options.split, lists.fingerprint())
    ranker: Any = load(folder / "model.keras")
    record(card, options.split, score(ranker, lists), lists, folder)
    card.save(folder)
    show(results_table({card.name: card.results[options.split]}, title=f"{options.split} split"))
