"""Help texts of options, from the section ``Args`` of a class and its base classes."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any


def help_of(thing: Callable[..., Any]) -> dict[str, str]:
    """Returns the help of every option, including options of base classes. A class's own text replaces its bases' text.

    >>> from tfmtl2r.settings import Training
    >>> help_of(Training)["batch_size"]
    'lists (or rows) that run through the ranker at a time, in all workers together.'
    """
    found: dict[str, str] = {}
    for source in inspect.getmro(thing) if inspect.isclass(thing) else (thing,):
        for name, text in _arguments(source.__doc__ or "").items():
            found.setdefault(name, text)
    return found


@functools.cache
def _arguments(docstring: str) -> dict[str, str]:
    """Returns the entries of the section ``Args``, each in one line. ``low, high: ...`` is the text of both names."""
    found: dict[str, str] = {}
    names: list[str] = []
    inside = False
    for line in inspect.cleandoc(docstring).split("\n"):
        if not line.startswith(" "):
            inside = line == "Args:" or (inside and not line)
            continue
        entry = re.match(r"    (\w+(?:, \w+)*): (.*)", line)
        if inside and entry:
            names = entry[1].split(", ")
            found.update(dict.fromkeys(names, entry[2].strip()))
        elif inside:
            found.update({name: f"{found[name]} {line.strip()}" for name in names})
    return {name: _plain(text) for name, text in found.items()}


def _plain(text: str) -> str:
    """Removes the markup of reStructuredText: ``:class:`tfmtl2r.Task``` becomes ``tfmtl2r.Task``."""
    return re.sub(r"(:\w+:)?`+~?([^`]*)`+", r"\2", text)
