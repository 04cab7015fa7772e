"""Checks the options of the registered things that an experiment names, before any of them is created."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfmtl2r.names import did_you_mean
from tfmtl2r.settings.schema import Settings
from tfmtl2r.settings.values import SettingError, converted, registry_of

THINGS = {"data": "tfmtl2r.datasets", "architecture": "tfmtl2r.architectures", "method": "tfmtl2r.methods"}
"""Key of an experiment -> package whose registry contains the named thing."""


def check_options(settings: Settings) -> None:
    """Checks that the data set, the architecture and the method exist, and names and types of their options.

    Raises:
        ValueError: for an unknown name or option (the message contains the most similar), or a value of a wrong type.
    """
    described: dict[str, Any] = {
        "architecture": settings.architecture, "method": settings.method,
        "data": {**settings.data.options, "name": settings.data.name},
    }  # fmt: skip
    for key, thing in described.items():
        name, options = (thing, {}) if isinstance(thing, str) else (None, {})
        if isinstance(thing, Mapping):
            name, options = thing.get("name"), {k: v for k, v in thing.items() if k != "name"}
        if isinstance(name, str):
            known = {option.name: option.annotation for option in registry_of(THINGS[key]).options(name)}
            _check(key, name, options, known)


def _check(key: str, name: str, options: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for option, value in options.items():
        if option not in known:
            near = did_you_mean(option, known) or f"; its options: {', '.join(known) or 'none'}"
            raise SettingError([key, option], f"is not an option of {name}{near}")
        try:
            converted(value, known[option])
        except SettingError as error:
            raise error.within(key, option) from None
