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

    Args:
        tree: tree of an experiment, see :meth:`Settings.tree`.
        without: keys to leave out.

    >>> outcome({"name": "a", "method": "mgda", "training": {"seed": 1}})
    {'method': {'name': 'mgda'}, 'training.seed': 1}
    """
    found = {}
    for path, value, facts in leaves(tree):
        if facts.outcome and path not in without and value is not None:
            found[path] = value
    return json.loads(json.dumps(found, sort_keys=True))
