"""Flags in two stages: the names of data, architecture and method first, then the options of just those."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import itertools
import operator
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import tyro

REGISTRIES = {
    "data": "tfmtl2r.datasets",
    "architecture": "tfmtl2r.architectures",
    "method": "tfmtl2r.methods",
}

INNER = "base"
"""An option of this name names another thing of the same registry, whose options are flags too."""


def parse(base: type, arguments: Sequence[str], prog: str) -> tuple[Any, dict[str, dict[str, Any]]]:
    """Parses the flags of a dataclass plus the options of the things that it names.

    ``--method graddrop --method.leak 0.5``: only graddrop's file is imported, and only its options are flags.
    ``--architecture dml --base ple --base.levels 1``: a thing that wraps another one.

    Args:
        base: a dataclass with fields named as in ``REGISTRIES``.
        arguments: of the command line.
        prog: shown in the help.

    Returns:
        The parsed dataclass, and for each named thing ``{"name": ..., **options that were given}``.
    """
    names = {
        field.name: _named(arguments, field.name, field.default)
        for field in dataclasses.fields(base) if field.name in REGISTRIES
    }
    registries = {key: importlib.import_module(REGISTRIES[key]).registry for key in names}
    fields: list[tuple[str, Any, Any]] = [
        ("base", Annotated[base, tyro.conf.arg(name="")], dataclasses.field(default_factory=base))
    ]
    owners = {}
    for key in list(names):
        for option in registries[key].options(str(names[key])):
            if option.name == INNER:
                names[INNER] = _named(arguments, INNER, option.default)
                registries[INNER], owners[INNER] = registries[key], key
                flag = tyro.conf.arg(name=INNER, help=f"what {names[key]} wraps; see tfmtl2r list")
                fields.append((f"{INNER}_name", Annotated[str, flag], option.default))
    defaults = {}
    for key, name in names.items():
        made = _option_class(registries[key], str(name), leave_out=INNER if key in owners.values() else "")
        if made is not None:
            fields.append((f"{key}_options", Annotated[made, tyro.conf.arg(name=key)],
                           dataclasses.field(default_factory=made)))
            defaults[key] = made()
    combined = dataclasses.make_dataclass("Arguments", fields)
    combined.__doc__ = base.__doc__
    parsed: Any = tyro.cli(combined, args=list(arguments), prog=prog, description=(base.__doc__ or "").split("\n\n")[0])
    named: dict[str, dict[str, Any]] = {}
    for key, name in names.items():
        named[key] = {"name": str(name)}
        if key in defaults:
            given = getattr(parsed, f"{key}_options")
            changed = {k: v for k, v in vars(given).items() if v != getattr(defaults[key], k)}
            named[key].update(changed)
    for inner, owner in owners.items():
        named[owner][inner] = named.pop(inner)
    return parsed.base, named


def _option_class(registry: Any, name: str, leave_out: str) -> type | None:
    """A dataclass of a thing's options; None if it has none."""
    options = [o for o in registry.options(name) if o.name != leave_out]
    if not options:
        return None
    made = dataclasses.make_dataclass(
        f"{registry.resolve(name)}", [(o.name, _flag(o.annotation), _default(o.default)) for o in options]
    )
    made.__doc__ = f"options of {name}\n\n{_arguments(registry.constructor(name).__doc__ or '')}"
    return made


def _named(arguments: Sequence[str], key: str, default: Any) -> Any:
    """What follows the flag ``--key``."""
    name = default
    for position, argument in enumerate(arguments):
        if argument == f"--{key}" and position + 1 < len(arguments):
            name = arguments[position + 1]
        elif argument.startswith(f"--{key}="):
            name = argument.split("=", 1)[1]
    return name


def _arguments(docstring: str) -> str:
    """The ``Args:`` section of a docstring, from which the help of each flag is taken."""
    lines = inspect.cleandoc(docstring).split("\n")
    if "Args:" not in lines:
        return ""
    start = lines.index("Args:")
    section = itertools.takewhile(lambda line: line.startswith(" "), lines[start + 1:])
    return "\n".join(["Args:", *section])


def _flag(annotation: Any) -> Any:
    """An option's type without the mappings that Python callers may pass: a flag takes the name alone."""
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
        return annotation
    kept = [t for t in typing.get_args(annotation) if typing.get_origin(t) not in (dict, Mapping)]
    return functools.reduce(operator.or_, kept)


def _default(value: Any) -> Any:
    return dataclasses.field(default_factory=lambda: value) if isinstance(value, (list, dict)) else value
