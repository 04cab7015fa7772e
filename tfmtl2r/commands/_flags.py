"""How a flag of a key looks: the number of its values, and what the help shows for one."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tfmtl2r.settings.values import section_of


def kind_of(hint: Any) -> Any:
    """``bool``, ``list`` for types with several values, else None."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return kind_of(arguments[0])
    if origin in (tuple, list) or (isinstance(origin, type) and issubclass(origin, (Sequence, Mapping))):
        return list
    one_of = [one for one in arguments if one is not type(None)] if origin in (typing.Union, types.UnionType) else []
    # A table, or a list of lists, is a single text on the command line.
    kinds = {kind_of(one) for one in one_of if not (str in one_of and typing.get_origin(one) in (dict, Mapping))
             and not any(typing.get_origin(inner) is tuple for inner in typing.get_args(one))}
    return bool if hint is bool or kinds == {bool} else list if list in kinds else None


def metavar_of(hint: Any) -> str:
    """What the help shows in place of a value."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return "PATH" if "path" in arguments else metavar_of(arguments[0])
    if origin is Literal:
        return "{" + ",".join(map(str, arguments)) + "}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "TASK=NUMBER"
    if arguments:
        return next((metavar_of(one) for one in arguments if one not in (type(None), ...)), "VALUE")
    simple = {int: "INT", float: "NUMBER", str: "TEXT", bool: "BOOL"}
    return "NAME" if section_of(hint) or hint is Any else simple.get(hint, "VALUE")


def text_of(value: Any) -> str:
    """A default in the help."""
    return " ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
