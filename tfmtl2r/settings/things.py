"""Checks the names and options of the registered things in an experiment, before any of them is created."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from tfmtl2r import constructors
from tfmtl2r.errors import InputError
from tfmtl2r.names import did_you_mean
from tfmtl2r.settings.schema import Settings
from tfmtl2r.settings.values import Section, SettingError, converted, facts, registry_of

THINGS = {"data": "tfmtl2r.datasets", "architecture": "tfmtl2r.architectures", "method": "tfmtl2r.methods"}
"""Key of an experiment -> package whose registry contains the named thing."""


def check_options(settings: Settings) -> None:
    """Checks that each named thing exists (data set, architecture, method, losses, metrics), and its options.

    Raises:
        ValueError: for an unknown name or option (the message contains the most similar), or a value of a wrong type.
    """
    if settings.data.name is not None:
        _check_thing(("data",), {**settings.data.options, "name": settings.data.name}, THINGS["data"])
    for path, thing, package in _things(settings):
        if path != ("data", "name"):
            _check_thing(path, thing, package)


def _things(section: Section) -> Iterator[tuple[tuple[str, ...], Any, str]]:
    """Every registered thing in a section: its keys, its description and its package."""
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        for entry in value if isinstance(value, tuple) else [value]:
            if isinstance(entry, Section):
                inner = (str(getattr(entry, entry.identity)),) if isinstance(value, tuple) else ()
                yield from (((field.name, *inner, *keys), *rest) for keys, *rest in _things(entry))
            elif facts(field).registry and facts(field).outcome:  # a sweep checks its methods when it is planned
                yield (field.name,), entry, facts(field).registry


def _check_thing(path: tuple[str, ...], thing: Any, package: str) -> None:
    name, options = (thing, {}) if isinstance(thing, str) else (None, {})
    if isinstance(thing, Mapping):
        name, options = thing.get("name"), {key: value for key, value in thing.items() if key != "name"}
    if not isinstance(name, str):
        return  # an object
    try:
        options_of = registry_of(package).options(name.partition("@")[0])  # ndcg@5 is ndcg with k = 5
    except InputError as error:
        raise SettingError(path, f"is unknown: {error}") from None
    for lacking in constructors.required(registry_of(package).constructor(name.partition("@")[0]), options):
        raise SettingError(path, f"needs the option {lacking} of {name}: {{name = \"{name}\", {lacking} = ...}}")
    _check_options(path, name, options, {option.name: option.annotation for option in options_of})


def _check_options(path: tuple[str, ...], name: str, options: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for option, value in options.items():
        if option not in known:
            near = did_you_mean(option, known) or f"; its options: {', '.join(known) or 'none'}"
            raise SettingError([*path, option], f"is not an option of {name}{near}")
        try:
            converted(value, known[option])
        except SettingError as error:
            raise error.within(*path, option) from None
