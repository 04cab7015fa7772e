"""Reads and writes experiment files. Errors contain the line of the key. Paths in a file are relative to its folder."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import tomlkit

from tfmtl2r.errors import InputError, MissingFileError
from tfmtl2r.reading import read_toml
from tfmtl2r.remote import is_remote
from tfmtl2r.settings.schema import Settings
from tfmtl2r.settings.values import Section, SettingError, facts, hints, read, registry_of, section_of
from tfmtl2r.writing import write_text

FILE = "experiment.toml"
"""Name of the file in a run's folder with which the run can be repeated."""


def load(path: str | Path) -> dict[str, Any]:
    """Reads an experiment file as a tree. The paths in the tree are relative to the working folder."""
    path = Path(path)
    return relocated(raw(path), lambda place: os.path.normpath(path.parent / place))


def raw(path: str | Path) -> dict[str, Any]:
    """Reads an experiment file as a tree. The paths in the tree stay relative to the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a file that is not TOML; the message contains the line.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"there is no experiment file {path}; tfmtl2r init writes one that you can fill in")
    return read_toml(path)


def save(tree: Mapping[str, Any], path: Path) -> None:
    """Writes a tree as an experiment file, with paths relative to the file's folder."""
    def move(place: str) -> str:
        return place if os.path.isabs(place) else os.path.relpath(place, path.parent)

    first = {"format": tree["format"]} if "format" in tree else {}
    write_text(path, dumps({**first, **relocated(tree, move)}))


def dumps(tree: Mapping[str, Any]) -> str:
    """Converts a tree to TOML: plain keys, then a table per section and entry. Nested mappings become inline tables.

    >>> print(dumps({"method": {"name": "cagrad", "c": 0.5}, "tasks": [{"name": "like"}], "data": {"name": "mslr"}}))
    method = {name = "cagrad", c = 0.5}
    <BLANKLINE>
    [[tasks]]
    name = "like"
    <BLANKLINE>
    [data]
    name = "mslr"
    <BLANKLINE>
    """
    document = tomlkit.document()
    tables: list[tuple[str, Any]] = []
    for name, value in tree.items():
        section = section_of(hints(Settings).get(name))
        if section is None:
            document.add(name, _inline(value))
        elif value:
            tables.append((name, value))
    for name, value in tables:
        entries = value if isinstance(value, list) else [value]
        made = [tomlkit.table() for _ in entries]
        for table, entry in zip(made, entries, strict=True):
            for key, inner in entry.items():
                table.add(key, _inline(inner))
        document.add(tomlkit.nl())
        if isinstance(value, list):
            array = tomlkit.aot()
            for table in made:
                array.append(table)
            document.add(name, array)
        else:
            document.add(name, made[0])
    return tomlkit.dumps(document)


def located(error: SettingError, path: str | Path) -> InputError:
    """Returns an error with the file and the line of the key in its message."""
    line = line_of(Path(path).read_text(encoding="utf-8"), error.path)
    return InputError(f"{path}, line {line}: {error}" if line else f"{path}: {error}")


def line_of(text: str, path: Sequence[str]) -> int | None:
    """Returns the line of a key. For a key in an inline table, this is the line on which the table begins.

    Args:
        text: text of the file.
        path: keys from the root. In a list of tables, the second key is the ``name`` or ``task`` of the entry.

    >>> line_of('[training]\\nepochs = 3\\n[[tasks]]\\nname = "a"\\nknd = 1', ["tasks", "a", "knd"])
    5
    """
    best, found = 0, None
    table: tuple[str, ...] = ()
    header_line, several = 0, False
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[\[?([^\]]+)\]\]?", line)
        entry = re.match(r"\s*([\w\-.\"']+)\s*=\s*(.*)", line)
        if header:
            table, header_line, several = _parts(header[1]), number, line.strip().startswith("[[")
        elif entry and several and _parts(entry[1])[0] in ("name", "task") and len(table) == 1:
            table = (table[0], str(read(entry[2].strip())))
            if table == tuple(path[:2]) and best < 2:
                best, found = 2, header_line
        here = table if header else (*table, *_parts(entry[1])) if entry else ()
        if len(here) > best and here == tuple(path[:len(here)]):
            best, found = len(here), number
    return found


def assign(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Sets the value of a dotted key.

    In a list of tables, the second key is the name of the entry. A table with this name replaces a value that is
    only a name.


    >>> tree = {"architecture": "dml", "tasks": [{"name": "like"}]}
    >>> assign(tree, ["architecture", "base", "name"], "ple")
    >>> assign(tree, ["tasks", "like", "loss"], "mse")
    >>> tree
    {'architecture': {'name': 'dml', 'base': {'name': 'ple'}}, 'tasks': [{'name': 'like', 'loss': 'mse'}]}
    """
    section = section_of(hints(Settings).get(path[0]))
    identity = section.identity if section else "name"
    here: Any = tree
    for depth, name in enumerate(path[:-1]):
        is_list = depth == 0 and section is not None and hints(Settings)[name] is not section
        inner = here.get(name) if isinstance(here, dict) else None
        if isinstance(inner, str):
            inner = {"name": inner}
        if isinstance(here, list):
            inner = next((entry for entry in here if entry[identity] == name), None)
            if inner is None:
                inner = {identity: name}
                here.append(inner)
        elif is_list:
            entries = [{identity: e} if isinstance(e, str) else {**e} for e in inner or []]
            here[name] = inner = entries
        else:
            here[name] = inner = {**(inner or {})}
        here = inner
    if isinstance(here, list):
        raise SettingError(path, f"is not a single key: name one of its keys, such as --set {'.'.join(path)}.KEY=VALUE")
    here[path[-1]] = value


def relocated(tree: Mapping[str, Any], move: Callable[[str], str]) -> dict[str, Any]:
    """Returns a tree in which ``move`` has changed every path. Keys whose type is :data:`FilePath` contain paths."""
    return _relocated(tree, Settings, lambda place: place if is_remote(place) else move(place))


def _relocated(tree: Mapping[str, Any], section: type[Section], move: Callable[[str], str]) -> dict[str, Any]:
    found = dict(tree)
    types = {**_option_types(tree, section), **hints(section)}
    for name, value in tree.items():
        hint = types.get(name)
        if isinstance(hint, type) and issubclass(hint, Section) and isinstance(value, Mapping):
            found[name] = _relocated(value, hint, move)
        elif "path" in _notes(hint):
            found[name] = move(value) if isinstance(value, str) and value else (
                [move(one) for one in value] if isinstance(value, (list, tuple)) else value)
        elif "grid" in _notes(hint) and isinstance(value, str) and value != "none" and ":" not in value:
            found[name] = move(value)
    return found


def _option_types(tree: Mapping[str, Any], section: type[Section]) -> Mapping[str, Any]:
    """Returns the types of the options of the registered thing that the tree names."""
    named = {field.name: facts(field).registry for field in dataclasses.fields(section)}
    if "options" not in named or not isinstance(tree.get("name"), str):
        return {}
    constructor = registry_of(named["name"]).constructor(tree["name"])
    return hints(constructor) if isinstance(constructor, type) else {}


def _notes(hint: Any) -> set[Any]:
    """Returns the annotations of ``Annotated`` in a type, at any depth."""
    if get_origin(hint) is Annotated:
        return set(hint.__metadata__)
    return set().union(*map(_notes, get_args(hint)))


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def _inline(value: Any) -> Any:
    """Converts mappings to inline tables, at any depth."""
    if isinstance(value, Mapping):
        table = tomlkit.inline_table()
        for key, entry in value.items():
            if entry is not None:
                table.append(key, _inline(entry))
        return table
    if isinstance(value, (list, tuple)):
        array = tomlkit.array()
        for entry in value:
            array.append(_inline(entry))
        return array
    return value
