"""Evaluate a trained run, or several as one, on a split of its data set."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from tfmtl2r.errors import InputError
from tfmtl2r.writing import write_json

if TYPE_CHECKING:
    from tfmtl2r.data import Lists
    from tfmtl2r.evaluation.exchanging import Reads
    from tfmtl2r.runs import RunCard
    from tfmtl2r.schema import Schema

_SHOWN = 10


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Evaluates runs/NAME on a split, prints the result and adds it to the run card, if the folder can be written.

    Several runs are evaluated as the one model that ``tfmtl2r export`` makes of them; no run card changes then. A
    ``.keras`` file or an export is evaluated by what it answers, on the data and tasks of the run ``--like``.

    Args:
        runs: name of the run; or several names, of runs with the same tasks and data; or the path of a .keras file or
            of the folder of an export.
        split: train, vali or test.
        by: also show the metrics of parts of the split: by a column, list_length, or new:COLUMN for ids that the
            training split does not contain. Can be given several times; by default evaluation.by of the run.
        preference: importance of each task, as in click=0.8 dwell=0.2: also show the ranking that is served for it, one
            order on which every task is measured.
        json: also write all results to this file.
        importance: also show how much each task's first metric drops if the values of a feature are exchanged, with a
            95 % interval. Items exchange values within their list, and features of whole lists between lists.
        feature: for --importance: a feature to measure; a+b exchanges two features together, a[3] one component of a
            vector. Can be given several times; by default each feature.
        among: for --importance: list or split, where items exchange values.
        repeats: for --importance: how many times the values of each feature are exchanged.
        reliability: also draw mean labels against mean probabilities of the binary tasks, to this PNG file.
        like: for a .keras file or an export: the run whose data, tasks and metrics it is evaluated on.
        directory: the folder of all runs.
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    split: str = "test"
    by: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    preference: tuple[str, ...] = ()
    importance: bool = False
    feature: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    among: str = "list"
    repeats: int = 5
    json: str = ""
    reliability: str = ""
    like: str = ""
    directory: str = "runs"


def main(arguments: Sequence[str]) -> None:
    """Evaluates and prints a table."""
    options = tyro.cli(Evaluate, args=arguments, prog="tfmtl2r evaluate")
    from tfmtl2r.evaluation.file_scores import is_model
    from tfmtl2r.evaluation.scoring import described, read, score, score_slices
    from tfmtl2r.evaluation.slices import slicing
    from tfmtl2r.experiment import Experiment
    from tfmtl2r.report.tables import results_table, show, slice_tables
    from tfmtl2r.runs.card import RunCard
    from tfmtl2r.runs.identity import MODEL
    from tfmtl2r.runs.places import find
    from tfmtl2r.serving.load import load
    from tfmtl2r.training.merged import merged

    if not options.runs:
        raise InputError("no run was given; usage: tfmtl2r evaluate NAME")
    if not options.reliability.endswith(".png") and options.reliability:
        raise InputError("the picture of reliability is a PNG file, whose name ends in .png, not "
                         f"{options.reliability!r}")
    _check_importance(options)
    if is_model(options.runs[0]):
        _of_file(options)
        return
    if options.like:
        raise InputError("--like is for a .keras file or an export: leave it out for a run, which knows its data")
    folders = [find(options.directory, run) for run in options.runs]
    folder, *others = folders
    card = RunCard.load(folder)
    name = " + ".join([card.name, *(RunCard.load(other).name for other in others)])
    experiment = Experiment.of(card.config)
    dataset = experiment.dataset()
    lists = dataset.lists(options.split)
    for one in folders:
        RunCard.load(one).expect(options.split, lists.fingerprint())
    ranker: Any = merged([load(one / MODEL) for one in folders])
    slicings = [slicing(lists, by, dataset.lists("train"), ranker.schema)
                for by in dict.fromkeys(options.by or experiment.evaluation.by or ())]
    preference = _asked(ranker, lists, options)
    results = score(ranker, lists)
    show(results_table({name: described(results)}, title=f"{options.split} split"))
    served = _served(ranker, lists, preference, options) if preference else {}
    inputs = _inputs(card, options.split, lists, ranker.architecture.schema)
    slices = score_slices(ranker, lists, slicings)
    for by, found in slices.items():
        for table in slice_tables(found, by):
            show(table)
    important = _importance(functools.partial(read, ranker), lists, ranker, options)
    if options.reliability:
        _draw(ranker, lists, options.reliability)
    if options.json:
        write_json(options.json, {"run": name, "split": options.split, "results": described(results),
                                  "slices": slices, "inputs": inputs, **served, **important})
    if not others:
        _keep(folder, card, options.split, results, lists, {"slices": slices, **important})


def _of_file(options: Evaluate) -> None:
    """Evaluates a ``.keras`` file or an export on the data of a run, and prints the tables. No run card changes."""
    from tfmtl2r.evaluation.model_files import answers_of, score_model
    from tfmtl2r.evaluation.scoring import described
    from tfmtl2r.evaluation.slices import slicing
    from tfmtl2r.experiment import Experiment
    from tfmtl2r.report.tables import results_table, show, slice_tables
    from tfmtl2r.runs.card import RunCard
    from tfmtl2r.runs.identity import MODEL
    from tfmtl2r.runs.places import find
    from tfmtl2r.serving.load import load

    path, *others = options.runs
    if others:
        raise InputError(f"{path} is evaluated alone: leave {', '.join(others)} out")
    if not options.like:
        raise InputError(f"{path} knows no data set: name a run with the same tasks, on whose data it is evaluated "
                         "(--like NAME)")
    if given := [name for name in ("preference", "reliability") if getattr(options, name)]:
        raise InputError(f"--{given[0]} needs a run: a model file is evaluated by its answers alone; leave it out")
    folder = find(options.directory, options.like)
    card = RunCard.load(folder)
    experiment = Experiment.of(card.config)
    dataset = experiment.dataset()
    lists = dataset.lists(options.split)
    card.expect(options.split, lists.fingerprint())
    ranker: Any = load(folder / MODEL)
    slicings = [slicing(lists, by, dataset.lists("train"), ranker.schema)
                for by in dict.fromkeys(options.by or experiment.evaluation.by or ())]
    _asked(ranker, lists, options)
    results, slices = score_model(path, lists, ranker.tasks, slicings)
    show(results_table({path: described(results)}, title=f"{options.split} split of {card.name}"))
    for by, found in slices.items():
        for table in slice_tables(found, by):
            show(table)
    important = {}
    if options.importance:
        with answers_of(path, ranker.tasks) as reads:
            important = _importance(reads, lists, ranker, options)
    if options.json:
        write_json(options.json, {"run": path, "like": card.name, "split": options.split,
                                  "results": described(results), "slices": slices, **important})


def _check_importance(options: Evaluate) -> None:
    """Refuses flags of ``--importance`` without it."""
    plain = Evaluate(())
    given = [name for name in ("feature", "among", "repeats") if getattr(options, name) != getattr(plain, name)]
    if given and not options.importance:
        raise InputError(f"--{given[0]} is for --importance: give both, or leave --{given[0]} out")


def _importance(reads: Reads, lists: Lists, ranker: Any, options: Evaluate) -> dict[str, Any]:
    """Prints how much every feature matters to every task, and returns it; empty if it was not asked for."""
    from tfmtl2r.evaluation.exchanging import measured
    from tfmtl2r.report.tables import importance_tables, show

    if not options.importance:
        return {}
    found = measured(reads, lists, ranker.tasks, ranker.schema, features=options.feature, among=options.among,
                     repeats=options.repeats, tell=print)
    for table in importance_tables(found):
        show(table)
    return {"importance": found}


def _asked(ranker: Any, lists: Lists, options: Evaluate) -> list[float]:
    """Refuses what the run or its data cannot answer, before anything is evaluated.

    Returns:
        The preference that is asked for, in the order of the tasks; empty without one.
    """
    from tfmtl2r.evaluation import exchanging
    from tfmtl2r.preferences import asked

    if options.importance:
        exchanging.asked(lists, ranker.schema, options.feature, options.among, options.repeats)
    if options.reliability and not any(reading.has_chance for reading in ranker.readings().values()):
        raise InputError("no task has probabilities to draw: this needs a binary task whose loss determines the level "
                         "of its scores, such as 'bce', or a calibrated one (calibration = \"platt\")")
    if options.preference and len(options.runs) > 1:
        raise InputError("the served ranking of several runs as one is that of their export: name one run, or leave "
                         "--preference out")
    return asked(options.preference, [task.name for task in ranker.tasks]) if options.preference else []


def _served(ranker: Any, lists: Lists, preference: list[float], options: Evaluate) -> dict[str, Any]:
    """Prints the results of the ranking that is served at the preference, and returns them."""
    from tfmtl2r.evaluation.scoring import described
    from tfmtl2r.evaluation.served import score_served
    from tfmtl2r.report.tables import results_table, show

    results = described(score_served(ranker, lists, preference))
    show(results_table({f"served at {','.join(options.preference)}": results}, title="the served ranking, one order"))
    names = [task.name for task in ranker.tasks]
    return {"preference": dict(zip(names, preference, strict=True)), "served": results}


def _keep(folder: Path, card: RunCard, split: str, results: Any, lists: Lists, more: Mapping[str, Any]) -> None:
    """Adds the results to the run card, if the folder can be written."""
    from tfmtl2r.commands._keeping import kept
    from tfmtl2r.evaluation.scoring import record
    from tfmtl2r.runs.card import RunCard
    from tfmtl2r.runs.places import training

    with kept("the result"), training(folder):
        current = RunCard.load(folder)  # another evaluation may have added its split
        if current.identity != card.identity:
            raise InputError(f"{folder} was replaced by another training while its earlier model was evaluated: "
                             "evaluate it again")
        record(current, split, results, lists, folder)
        if more["slices"]:
            current.slices.setdefault(split, {}).update(more["slices"])
        if "importance" in more:
            current.importance[split] = more["importance"]
        current.save(folder)


def _draw(ranker: Any, lists: Lists, path: str) -> None:
    """Writes the picture of reliability, and prints its path."""
    from tfmtl2r.evaluation.calibration import reliability
    from tfmtl2r.report.plots import reliability as draw

    print(draw(reliability(ranker, lists), path))


def _inputs(card: RunCard, split: str, lists: Lists, schema: Schema) -> dict[str, Any]:
    """Prints where the inputs of a split differ from those of the training split, and returns their contents."""
    from tfmtl2r.data.contents import contents, worth_a_look

    train = card.data.get("train", {}).get("inputs")
    if train is None or split == "train":  # a card of an earlier version has no contents
        return {}
    found = contents(lists, schema, train)
    lines = worth_a_look(found, train)
    print("inputs that differ from the training split:" if lines else "the inputs are like those of the training split")
    for line in lines[:_SHOWN]:
        print(f"  {line}")
    if len(lines) > _SHOWN:
        print(f"  and {len(lines) - _SHOWN} more; --json FILE writes all numbers")
    return found
