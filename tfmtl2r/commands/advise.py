"""Measure in about two minutes which goals fight, say what is worth a try, and write the experiment files."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfmtl2r.commands._options import Command, Value, parse
from tfmtl2r.errors import InputError
from tfmtl2r.figures import figure
from tfmtl2r.writing import write_json

if TYPE_CHECKING:
    from rich.table import Table

    from tfmtl2r.advice import Advice, Facts

COMMAND = Command(
    "advise",
    "Runs a pilot: equal weights and each goal alone are trained for a short time, and the gradients of the goals are "
    "compared with their noise. Says whether equal weights are likely enough, which goals fight and what is worth a "
    "try, and writes an experiment file for each suggestion.",
    switches={"overwrite": "replace experiment files of the same names",
              "dry": "write no experiment files"},
    values={"to": Value(str, "folder of the experiment files", "advice"),
            "seconds": Value(float, "the time of the pilot, beside reading and compiling", 120.0),
            "json": Value(str, "also write all facts and the advice to this file", "")},
)


def main(arguments: Sequence[str]) -> None:
    """Runs the pilot, and prints and writes the advice."""
    tree, given = parse(COMMAND, arguments)
    from tfmtl2r.advice import advise, pilot, write_experiments
    from tfmtl2r.advice.files import check_room
    from tfmtl2r.experiment import Experiment
    from tfmtl2r.report.tables import show

    if not given.seconds > 0:
        raise InputError(f"the pilot takes more than 0 seconds, not {given.seconds:g}")
    if not (given.dry or given.overwrite):
        check_room(given.to)
    facts = pilot(Experiment.of(tree), given.seconds, print)
    advice = advise(facts)
    for table in (_goals(facts), _pairs(facts)):
        show(table)
    _say(facts, advice)
    if given.json:
        write_json(given.json, {"facts": dataclasses.asdict(facts), "advice": dataclasses.asdict(advice)})
    if not given.dry:
        names = [goal.name for goal in facts.goals]
        for path in write_experiments(tree, names, advice.suggestions, given.to, given.overwrite):
            print(f"wrote {path}")
        print(f"next: tfmtl2r train {Path(given.to) / '0_equal_weights.toml'}")


def _goals(facts: Facts) -> Table:
    from rich.markup import escape
    from rich.table import Table

    sharing = {one.task: one for one in facts.sharing}
    table = Table(title="goals", title_justify="left", caption_justify="left",
                  caption="known: items with a label; gradient: length in the shared layers without noise, 0 if "
                          "there is only noise; together: with equal weights; alone: the same network for this goal; "
                          "\u00b1: one standard error over lists")
    table.add_column("", overflow="fold", max_width=14)
    for head in ("known", "positive", "gradient", "together", "alone", "lost"):
        table.add_column(head, justify="right", no_wrap=True)
    for goal in facts.goals:
        one = sharing.get(goal.name)
        found = ["", "", ""] if one is None else [figure(one.together), figure(one.alone),
                                                  f"{figure(one.lost)}\n\u00b1{figure(one.error)}"]
        positive = "" if math.isnan(goal.positive) else _percent(goal.positive)
        name = goal.name if one is None else f"{goal.name}\n{one.metric}"
        table.add_row(escape(name), _percent(goal.known), positive, f"{goal.length:.2g}", *found)
    return table


def _pairs(facts: Facts) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="cosines of mean gradients", title_justify="left", caption_justify="left",
                  caption="one order: of one score for both; shared layers: of the ranker in training; p: that the "
                          "true one is not below 0")
    for head in ("pair", "one order", "p", "shared layers", "p"):
        table.add_column(head, justify="left" if head == "pair" else "right", overflow="fold")
    for pair in facts.pairs:
        cells = []
        for one in (pair.order, pair.layers):
            if one is None or math.isnan(one.cosine):
                cells += ["only noise" if one else "", ""]
            else:
                error = "" if math.isnan(one.error) else f" \u00b1 {one.error:.2f}"
                cells += [f"{one.cosine:.2f}{error}", f"{one.p:.3f}" if one.p >= 0.001 else "< .001"]
        table.add_row(f"{escape(pair.first)} / {escape(pair.second)}", *cells)
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _say(facts: Facts, advice: Advice) -> None:
    """Prints verdict, worries and suggestions, as wide as the terminal but no wider than 100 characters."""
    from rich.console import Console

    width = min(Console().width, 100)
    for line in [*advice.verdict, *facts.worries]:
        print("\n".join(_wrapped(line, "- ", width)))
    print("worth a try:" if advice.suggestions else "nothing else is worth a try before a longer training")
    for one in advice.suggestions:
        print("\n".join(_wrapped(f"{one.name}: {one.reason}", "- ", width)))


def _wrapped(line: str, start: str, width: int) -> Iterator[str]:
    yield from textwrap.wrap(line, width, initial_indent=start, subsequent_indent=" " * len(start))
