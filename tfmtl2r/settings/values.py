"""Strict conversion of values to the types of their keys. A section is a dataclass that converts its values."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import datetime
import functools
import math
import re
import tomllib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, Union

import numpy as np

from tfmtl2r.errors import InputError
from tfmtl2r.names import did_you_mean

FilePath = Annotated[str, "path"]
"""A file or a folder. In an experiment file it is relative to the folder of that file."""


class Text(str):
    """A value from the command line, which is converted to the type of its key."""

    __slots__ = ()


class SettingError(InputError):
    """A key or a value of an experiment that cannot be used.

    Args:
        path: keys from the root of the experiment, such as ``("training", "epochs")``.
        problem: description of the error, without the key.
    """

    def __init__(self, path: Sequence[str], problem: str):
        self.path, self.problem = tuple(path), problem
        super().__init__(f"{'.'.join(self.path)} {problem}" if self.path else problem)

    def within(self, *outer: str) -> SettingError:
        """Returns the same error, with outer keys before its path."""
        return SettingError((*outer, *self.path), self.problem)


@dataclasses.dataclass(frozen=True)
class Facts:
    """Facts about a key.

    Args:
        outcome: whether the run's numbers depend on the key. The fingerprint of a run contains such keys.
        shown: ``"apart"``: tables show the key if runs differ in it. ``"own"``: tables have a separate column or text
            for the key. ``"never"``: runs that differ only in this key count as equal.
        several: True if the key has no effect for a single task.
        axis: whether runs of one sweep may differ in the key.
        least: smallest allowed value.
        above: the value must be greater than this number.
        registry: the package in which the named thing is registered.
        flag: whether the key is a flag of the command line; every key can be given with ``--set``.
    """

    outcome: bool = True
    shown: Literal["apart", "own", "never"] = "apart"
    several: bool = False
    axis: bool = False
    least: float | None = None
    above: float | None = None
    registry: str = ""
    flag: bool = True


def key(default: Any = None, **facts: Any) -> Any:
    """Makes a field of a section from its default and its :class:`Facts`. None means that the key has no default."""
    metadata = {"facts": Facts(**facts)}
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Section:
    """Base class of all sections. The constructor converts and checks the values; None means not given."""

    identity: ClassVar[str] = "name"
    """The key that identifies an entry of a list. A text in place of the whole section is the value of this key."""
    not_built: ClassVar[tuple[str, ...]] = ()
    """Keys of the format that this version does not support yet."""
    given: ClassVar[frozenset[str]] = frozenset()
    """The fields that were given to the constructor of this object; all others have their defaults."""

    def __new__(cls, *arguments: Any, **named: Any) -> Self:
        made = super().__new__(cls)
        fields = [field.name for field in dataclasses.fields(cls)]
        object.__setattr__(made, "given", frozenset([*fields[:len(arguments)], *named]))
        return made

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None:
                value = default_of(field)
            if value is not None:
                object.__setattr__(self, field.name, self._checked(field, value))

    def _checked(self, field: dataclasses.Field[Any], value: Any) -> Any:
        known = facts(field)
        try:
            value = converted(value, hints(type(self))[field.name])
            if known.registry and isinstance(value, tuple):
                value = tuple(_thing(entry, None) for entry in value)
            elif known.registry:
                value = _thing(value, default_of(field))
        except SettingError as error:
            raise error.within(name_of(field)) from None
        if known.least is not None and not value >= known.least:
            raise SettingError([name_of(field)], f"must be at least {known.least:g}, not {value!r}")
        if known.above is not None and not known.above < value < math.inf:
            raise SettingError([name_of(field)], f"must be a number above {known.above:g}, not {value!r}")
        return value

    @classmethod
    def of(cls, value: Any) -> Self:
        """Makes a section from a section, a mapping of its keys, or the value of its identity key.

        Raises:
            SettingError: for an unknown key; the message contains the most similar key.
        """
        if isinstance(value, cls):
            return value
        known = {name_of(field): field.name for field in dataclasses.fields(cls)}
        if isinstance(value, str) and cls.identity in known:
            return cls(**{cls.identity: value})
        if not isinstance(value, Mapping):
            raise SettingError([], f"must be a table of keys, not {value!r}")
        for name in value:
            if name in cls.not_built:
                raise SettingError([name], "is not built yet: this version of tfmtl2r lacks it; leave it out")
            if name not in known:
                near = did_you_mean(str(name), known) or f"; the keys here are {', '.join(known)}"
                raise SettingError([str(name)], f"is not a key{near}")
        return cls(**{known[name]: entry for name, entry in value.items()})

    def tree(self) -> dict[str, Any]:
        """Returns plain data (text, numbers, lists, dicts) that :meth:`of` accepts, without keys that have no value."""
        found = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None:
                found[name_of(field)] = _plain(value, facts(field).registry)
        return found


def name_of(field: dataclasses.Field[Any]) -> str:
    """Returns the key of a field of a section. A key that is a word of Python, ``from``, has the field ``from_``."""
    return field.name.removesuffix("_")


def facts(field: dataclasses.Field[Any]) -> Facts:
    """Returns the facts of a field of a section."""
    return field.metadata.get("facts", Facts())


def hints(cls: type) -> dict[str, Any]:
    """Returns the types of a class's fields, including inherited fields."""
    return _hints(cls)


_hints: Callable[[type], dict[str, Any]] = functools.cache(
    lambda cls: typing.get_type_hints(cls, include_extras=True))


def section_of(hint: Any) -> type[Section] | None:
    """Returns the section class in a type such as ``tuple[Feature, ...] | None``, or None without one."""
    if isinstance(hint, type) and issubclass(hint, Section):
        return hint
    return next(filter(None, map(section_of, typing.get_args(hint))), None)


def converted(value: Any, hint: Any) -> Any:
    """Converts a value to a type without loss. A text is never a number, and a fraction is never a whole number.

    Args:
        value: from Python, from a file, or :class:`Text` from the command line.
        hint: the type.

    Raises:
        SettingError: if the value does not fit the type; the message contains the expected type.

    >>> converted(Text("3"), int), converted(3, float), converted([1, 2], tuple[int, ...])
    (3, 3.0, (1, 2))
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return converted(value, arguments[0])
    if origin in (Union, types.UnionType):
        return _one_of(value, hint, arguments)
    if origin is Literal:
        if str(value) in arguments:
            return str(value)
        raise SettingError([], f"must be {expected(hint)}, not {value!r}{did_you_mean(str(value), arguments)}")
    if isinstance(hint, type) and issubclass(hint, Section):
        return hint.of(read(value) if isinstance(value, Text) and value.startswith("{") else value)
    if origin in (tuple, list):
        return _sequence(value, hint, arguments)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(value, arguments)
    if origin is not None and issubclass(origin, Sequence):
        return _sequence(value, hint, arguments)
    if hint in (bool, int, float, str):
        return _scalar(value, hint)
    return _untyped(value)


def _thing(value: Any, default: Any) -> Any:
    """Returns the description of a registered thing. Options without a name are those of the default."""
    if isinstance(value, Mapping) and "name" not in value and default is not None:
        return {"name": default, **value}
    named = value.get("name") if isinstance(value, Mapping) else value
    if named is None or isinstance(named, (bool, int, float, list)):
        raise SettingError([], f"must be a name or a table such as {{name = ..., option = ...}}, not {_shown(value)}")
    return value


def _untyped(value: Any) -> Any:
    """Returns a value of unknown type, after parsing the texts from the command line in it.

    A date or a time, which TOML has and JSON lacks, becomes its text.
    """
    if isinstance(value, Text):
        return _untyped(read(value))
    if isinstance(value, dict):
        return {name: _untyped(entry) for name, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_untyped, value))
    return value.isoformat() if isinstance(value, (datetime.date, datetime.time)) else value


def expected(hint: Any) -> str:
    """Describes a type in words.

    >>> expected(int), expected(tuple[float, ...] | None), expected(Literal["a", "b"])
    ('a whole number', 'a list, each entry a number', "'a' or 'b'")
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    simple = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    if hint in simple:
        return simple[hint]
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin is Annotated:
        return "a path"
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(expected(one) for one in arguments if one is not type(None)))
    if origin in (tuple, list):
        return f"a list, each entry {expected(arguments[0])}"
    section = section_of(hint)
    return "a table" if section or (origin and issubclass(origin, Mapping)) else "a name or a table with a name"


def read(text: str) -> Any:
    """Parses a text from the command line as TOML or Python; returns the text itself if it is neither.

    Raises:
        SettingError: for a text that begins a table or a list and is neither TOML nor Python.

    >>> read("[8, 4]"), read("0.5"), read("mse"), read('{name = "dml"}')
    ([8, 4], 0.5, 'mse', {'name': 'dml'})
    """
    problem = ""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        problem = re.sub(r" \(at line.*", "", str(error))
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        if text.startswith(("{", "[")):
            what = "table such as {name = 'x', number = 0.5}" if text.startswith("{") else "list such as ['x', 'y']"
            raise SettingError([], f"must be a TOML {what}, not {str(text)!r} ({problem})") from None
        return str(text)


def default_of(field: dataclasses.Field[Any]) -> Any:
    """Returns the default of a key."""
    make: Any = field.default_factory
    return field.default if make is dataclasses.MISSING else make()


def _one_of(value: Any, hint: Any, arguments: Sequence[Any]) -> Any:
    if type(None) in arguments and (value is None or (isinstance(value, Text) and value.lower() == "none")):
        return None
    kinds = [one for one in arguments if one is not type(None)]
    # Every value from the command line fits type str, so narrower types come first.
    kinds.sort(key=lambda one: one is str)
    problems = []
    for kind in kinds:
        try:
            return converted(value, kind)
        except SettingError as error:
            problems.append(error)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], Text):
        # A flag that takes several values was given one, perhaps a word that stands for them, or a list as one text.
        with contextlib.suppress(SettingError):
            return _one_of(value[0], hint, arguments)
    deepest = max(problems, key=lambda problem: len(problem.path))
    if deepest.path or len(kinds) == 1:
        raise deepest
    raise SettingError([], f"must be {expected(hint)}, not {_shown(value)}")


def _sequence(value: Any, hint: Any, arguments: Sequence[Any]) -> tuple[Any, ...]:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], Text) and value[0].startswith("["):
        value = value[0]  # a flag that takes several values was given a list as one text
    if isinstance(value, Text):
        tables = value.startswith(("[", "{"))
        value = read(value if value.startswith("[") else f"[{value}]") if tables else [*map(Text, value.split(","))]
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (str, Mapping)) or not isinstance(value, Sequence):
        raise SettingError([], f"must be {expected(hint)}, not {_shown(value)}")
    found = []
    for number, entry in enumerate(value):
        try:
            found.append(converted(entry, arguments[0]))
        except SettingError as error:
            section = section_of(arguments[0])
            name = entry.get(section.identity) if section and isinstance(entry, Mapping) else None
            raise error.within(str(name or number)) from None
    return tuple(found)


def _mapping(value: Any, arguments: Sequence[Any]) -> dict[str, Any]:
    if isinstance(value, (Text, list)) and all(isinstance(part, Text) for part in value):
        parts = [part.partition("=") for part in ",".join([value] if isinstance(value, str) else value).split(",")]
        if all(equals for _, equals, _ in parts):
            value = {name.strip(): Text(text.strip()) for name, _, text in parts}
    if not isinstance(value, Mapping):
        raise SettingError([], f"must be a table such as {{click = 2, like = 1}}, not {_shown(value)}")
    found = {}
    for name, entry in value.items():
        try:
            found[str(name)] = converted(entry, arguments[1])
        except SettingError as error:
            raise error.within(str(name)) from None
    return found


def _scalar(value: Any, kind: type) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Text):
        value = _typed(value, kind)
    if isinstance(value, Path) and kind is str:
        return str(value)
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise SettingError([], f"must be {expected(kind)}, not {_shown(value)}")
    return kind(value)


def _typed(text: Text, kind: type) -> Any:
    if kind is str:
        return str(text)
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), str(text))
    try:
        return kind(text)
    except ValueError:
        return str(text)


def _shown(value: Any) -> str:
    return repr(str(value) if isinstance(value, Text) else value)


def _plain(value: Any, registry: str) -> Any:
    """Converts a value to text, numbers, lists and dicts; the registry describes an object."""
    if isinstance(value, Section):
        return value.tree()
    if isinstance(value, Mapping):
        return {name: _plain(entry, registry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry, registry) for entry in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, (str, bool, int, float)) or not registry:
        return value
    return registry_of(registry).describe(value)


def registry_of(package: str) -> Any:
    """Imports a package and returns its registry. The import is here so that the schema does not load TensorFlow."""
    import importlib

    return importlib.import_module(package).registry
