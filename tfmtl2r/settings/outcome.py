"""Selects the settings that enter fingerprints, and the settings in which runs differ, by the facts of their keys."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from tfmtl2r.settings.schema import Settings
from tfmtl2r.settings.values import Facts, Section, hints, name_of
from tfmtl2r.settings.values import facts as facts_of


@functools.cache
def keys() -> Mapping[str, Facts]:
    """Returns the facts of every key of the schema. The name of a key in a section is ``section.key``.

    >>> keys()["training.seed"].axis, keys()["directory"].outcome
    (True, False)
    """
    return _keys(Settings, "")


def _keys(section: type[Section], prefix: str) -> dict[str, Facts]:
    found: dict[str, Facts] = {}
    for field in dataclasses.fields(section):
        inner = hints(section)[field.name]
        if isinstance(inner, type) and issubclass(inner, Section):
            found.update(_keys(inner, f"{prefix}{field.name}."))
        else:
            found[prefix + name_of(field)] = facts_of(field)
    return found


def keys_where(**wanted: Any) -> tuple[str, ...]:
    """Returns the keys that have these facts.

    >>> "method" in keys_where(several=True), keys_where(several=True, axis=False)
    (True, ('gradients',))
    """
    return tuple(name for name, known in keys().items()
                 if all(getattr(known, fact) == value for fact, value in wanted.items()))


def leaves(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any, Facts]]:
    """Yields key, value and facts of every key in an experiment's tree. A name alone becomes ``{"name": ...}``."""
    known = keys()
    sections = {name.partition(".")[0] for name in known if "." in name}
    for name, value in tree.items():
        inner = value.items() if name in sections and isinstance(value, Mapping) else [("", value)]
        for key, entry in inner:
            path = f"{name}.{key}" if key else name
            facts = known.get(path, known.get(f"{name}.options", Facts()))
            yield path, {"name": entry} if facts.registry and isinstance(entry, str) else entry, facts


def outcome(tree: Mapping[str, Any], without: Collection[str] = ()) -> dict[str, Any]:
    """Returns the settings on which a run's numbers depend, in one form for an experiment and its file.

    Keys with their defaults are left out, so that a later version with more keys still knows its earlier runs.

    Args:
        tree: tree of an experiment, see :meth:`Settings.tree`.
        without: keys to leave out.

    >>> outcome({"name": "a", "method": "mgda", "training": {"seed": 1, }, "staged": False})
    {'method': {'name': 'mgda'}, 'training.seed': 1}
    """
    found = {path: value for path, value, facts in leaves(tree) if facts.outcome and path not in without}
    plain: dict[str, Any] = json.loads(json.dumps(found, sort_keys=True))
    return {path: value for path, value in plain.items() if value is not None and value != defaults().get(path)}


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each key in which two outcomes differ.

    >>> differing({"training.seed": 1}, {"training.epochs": 3, "training.seed": 1})
    ['training.epochs=8, not 3']
    """
    known = defaults()
    return [f"{key}={one.get(key, known.get(key))!r}, not {other.get(key, known.get(key))!r}"
            for key in sorted({*one, *other}) if one.get(key, known.get(key)) != other.get(key, known.get(key))]


@functools.cache
def defaults() -> Mapping[str, Any]:
    """Returns the defaults of the keys that have one, in the form of :func:`outcome`."""
    tree = Settings().tree()
    found = {path: value for path, value, _ in leaves({name: tree[name] for name in tree})}
    plain: dict[str, Any] = json.loads(json.dumps({path: value for path, value in found.items() if value is not None}))
    return plain
