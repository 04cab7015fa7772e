"""Experiment files of suggestions: all of them are written, or none."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfmtl2r import architectures
from tfmtl2r.advice.facts import Suggestion
from tfmtl2r.errors import InputError
from tfmtl2r.experiment import Experiment
from tfmtl2r.settings.files import assign, dumps, relocated
from tfmtl2r.writing import write_text

PLAIN = {"method": None, "gradients": None, "preference": None, "conditioned": None, "staged": None}
"""Changes that lead to equal weights: the defaults of these keys."""


def write_experiments(
    tree: Mapping[str, Any], goals: Sequence[str], suggestions: Sequence[Suggestion], folder: str | Path,
    overwrite: bool = False,
) -> list[Path]:
    """Writes an experiment file for each suggestion that has changes, and one for equal weights to compare with.

    Args:
        tree: the experiment of the pilot, with paths relative to the working folder.
        goals: names of its tasks.
        suggestions: what is worth a try.
        folder: where the files are written.
        overwrite: replace files of the same names.

    Returns:
        The files, in order.

    Raises:
        ValueError: if a file exists and ``overwrite`` is off, or a suggestion is no valid experiment. Nothing is
            written then.
    """
    folder = Path(folder)
    first = Suggestion("equal_weights", "Equal weights: what all others are compared with.", PLAIN)
    texts: dict[Path, str] = {}
    for number, one in enumerate([first, *(one for one in suggestions if one.changes)]):
        found = changed(tree, goals, one)
        Experiment.of(found)  # raises for what is no experiment
        about = textwrap.wrap(one.reason, 116, initial_indent="# ", subsequent_indent="# ")
        texts[folder / f"{number}_{one.name}.toml"] = "\n".join([*about, "", _text(found, folder)])
    there = [path for path in texts if path.exists()]
    if there and not overwrite:
        raise InputError(f"{there[0]} exists, and nothing was written: name another folder with --to, or give "
                         "--overwrite")
    written: list[Path] = []
    try:
        for path, text in texts.items():
            write_text(path, text)
            written.append(path)
    except OSError:
        for path in set(written) - set(there):
            path.unlink()
        raise
    return written


def check_room(folder: str | Path) -> None:
    """Refuses a folder with experiment files, before a pilot that could not write its own.

    Raises:
        ValueError: if there is one.
    """
    if there := sorted(Path(folder).glob("*.toml")):
        raise InputError(f"{there[0]} exists: name another folder with --to, give --overwrite, or --dry for no files")


def changed(tree: Mapping[str, Any], goals: Sequence[str], one: Suggestion) -> dict[str, Any]:
    """The experiment with the changes of a suggestion, beginning from equal weights.

    Args:
        tree: the experiment.
        goals: names of its tasks.
        one: the suggestion. Another architecture keeps the options that it shares with the one before.
    """
    changes = {**PLAIN, **one.changes}
    found = {**tree, "name": one.name}
    if any(key.startswith("tasks.") for key in changes) and not found.get("tasks"):
        found["tasks"] = [{"name": goal} for goal in goals]
    for key, value in changes.items():
        if value is None:
            found.pop(key, None)
        else:
            assign(found, key.split("."), _replaced(found, str(value)) if key == "architecture" else value)
    return found


def _replaced(tree: Mapping[str, Any], name: str) -> str | dict[str, Any]:
    """Another architecture, with those options of the one in the tree that it takes."""
    before = tree.get("architecture")
    taken = {option.name for option in architectures.registry.options(name)}
    kept = {key: value for key, value in before.items() if key in taken} if isinstance(before, Mapping) else {}
    return {"name": name, **kept} if kept else name


def _text(tree: Mapping[str, Any], folder: Path) -> str:
    def move(place: str) -> str:
        return place if os.path.isabs(place) else os.path.relpath(place, folder)

    return dumps({**({"format": tree["format"]} if "format" in tree else {}), **relocated(tree, move)})
