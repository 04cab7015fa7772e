"""Layers of settings: a preset below the keys that somebody gave, and both above defaults."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping
from typing import Any

from tfmtl2r.errors import InputError, UserError
from tfmtl2r.settings.data import Data, Feature
from tfmtl2r.settings.sections import Goal
from tfmtl2r.settings.values import Section, SettingError, facts, hints, name_of, registry_of

log = logging.getLogger("tfmtl2r")
_OF_NUMBERS = {"transform", "within_list", "steps", "noise"}
"""Keys of entries of features that only numbers have."""
_DATASETS, _PRESETS = "tfmtl2r.datasets", "tfmtl2r.presets"


def layered(below: Mapping[str, Any], above: Mapping[str, Any], section: type[Section]) -> dict[str, Any]:
    """Returns two layers of a section's keys as one. A value above wins, key by key in tables.

    The options of a registered thing count only below a description of the same thing.

    Args:
        below, above: trees of the section.
        section: the section, such as :class:`Settings` for whole experiments.

    >>> from tfmtl2r.settings import Settings
    >>> layered({"training": {"epochs": 3, "seed": 1}, "method": {"name": "cagrad", "c": 0.2}},
    ...         {"training": {"epochs": 5}, "method": "mgda"}, Settings)
    {'training': {'epochs': 5, 'seed': 1}, 'method': 'mgda'}
    """
    found = {**below, **above}
    fields = {name_of(field): field for field in dataclasses.fields(section)}
    for key in (key for key in below if key in above and key in fields):
        inner = hints(section)[fields[key].name]
        if isinstance(inner, type) and issubclass(inner, Section):
            found[key] = layered(_table(below[key], inner.identity), _table(above[key], inner.identity), inner)
        elif facts(fields[key]).registry:
            found[key] = _things(below[key], above[key], facts(fields[key]).registry)
    return found


def _things(below: Any, above: Any, package: str) -> Any:
    """Two descriptions of a registered thing as one, if they are descriptions of the same thing."""
    under, over = _table(below), _table(above)
    if not isinstance(over, Mapping) or not isinstance(under, Mapping):
        return above
    name = over.get("name", under["name"])
    return {**under, **over, "name": name} if _resolved(name, package) == _resolved(under["name"], package) else above


def _resolved(name: Any, package: str) -> Any:
    try:
        return registry_of(package).resolve(name) if isinstance(name, str) else name
    except InputError:  # the check of the whole experiment says more
        return name


def _table(value: Any, identity: str = "name") -> Any:
    return {identity: value} if isinstance(value, str) else value


def as_given(value: Any) -> Any:
    """Returns the keys of a section that somebody gave, as a tree, and other values as they are."""
    if isinstance(value, Section):
        tree = {name_of(field): as_given(getattr(value, field.name)) for field in dataclasses.fields(value)
                if field.name in value.given}
        named = tree.get("name")
        options = {**(named if isinstance(named, Mapping) else {}), **tree.pop("options", {})}
        return {**tree, **options}
    return [as_given(one) for one in value] if isinstance(value, (list, tuple)) else value


def with_keys(section: Any, changes: Mapping[str, Any]) -> Any:
    """Returns a section with other values of some keys."""
    kept = {name_of(field): getattr(section, field.name) for field in dataclasses.fields(section)}
    made = type(section).of({**{key: value for key, value in kept.items() if value is not None}, **changes})
    return marked(made, section.given | {field for field in made.given if field.removesuffix("_") in changes})


def marked(section: Any, given: Collection[str]) -> Any:
    """Returns a section after noting which of its fields somebody gave; all others count as defaults."""
    object.__setattr__(section, "given", frozenset(given))
    return section


def preset_of(given: Mapping[str, Any]) -> Any:
    """Returns the preset that settings name, or None if they name none or contain its keys already.

    Raises:
        SettingError: for an unknown preset.
    """
    if given.get("preset") is None:
        return None
    try:
        preset = registry_of(_PRESETS).get(given["preset"])
    except UserError as error:
        raise SettingError(["preset"], f"cannot be used: {error}") from None
    return None if preset.applied else preset


def with_preset(given: Mapping[str, Any], whole: type[Section]) -> dict[str, Any]:
    """Returns the settings that somebody gave above those of the preset that they name.

    Args:
        given: the keys that were given, and no defaults.
        whole: the class of whole experiments.

    Raises:
        SettingError: for an unknown preset, or a preset without effect.
    """
    preset = preset_of(given)
    if preset is None:
        return dict(given)
    name = registry_of(_PRESETS).describe(preset)["name"]
    rest = {key: value for key, value in given.items() if key != "preset"}
    found = layered(preset.settings, rest, whole)
    found |= _inputs(preset.inputs, found, name)
    found |= _goals(preset.losses, found)
    if found == rest:
        raise SettingError(["preset"], f"{name!r} has no effect, since all of its keys are given. The settings of a "
                           "run are complete: leave the preset out, or begin without them")
    return {"preset": {"name": str(_table(given["preset"])["name"]), "applied": True}, **found}


def _inputs(inputs: Mapping[str, Any], tree: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The section of the features, or of the data, with the preset's keys of numbers."""
    if not inputs:
        return {}
    data = _data(tree)
    if data.name is None:
        given = tree.get("features")
        entries = [as_given(Feature.of(entry)) for entry in (["*"] if given is None else given)]
        found = [{**inputs, **entry} if _is_number(entry) else entry for entry in entries]
        changes: dict[str, Any] = {"features": [{"name": entry["name"], **entry} for entry in found]}
        known = found != entries
    else:
        named = data.name.get("name") if isinstance(data.name, Mapping) else data.name
        own = {option.name for option in registry_of(_DATASETS).options(named)} if isinstance(named, str) else set()
        known = "normalise" in own
        renamed = {"normalise" if key == "transform" else key: value for key, value in inputs.items()}
        changes = {"data": {**{key: value for key, value in renamed.items() if key in own}, **as_given(data)}}
    if not known:
        log.warning("preset %r: its keys %s do not apply, since %s", name, ", ".join(inputs), "no entry of features "
                    "is \"*\" or known to be a number" if data.name is None else
                    f"the data set {data.name!r} defines its inputs")
    return changes if known else {}


def _is_number(entry: Mapping[str, Any]) -> bool:
    kind = entry.get("kind")
    return kind == "dense" or (kind is None and (entry["name"] == "*" or not _OF_NUMBERS.isdisjoint(entry)))


def _goals(losses: Mapping[str, Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of tasks, each with the preset's loss for its kind."""
    if not losses:
        return {}
    data, given = _data(tree), {str(goal.name): goal for goal in map(Goal.of, tree.get("tasks") or ())}
    dataset = None if data.name is None else registry_of(_DATASETS).get(data.name, **data.options)
    own = {} if dataset is None else dataset.offered()
    chosen = data.tasks or tuple(given) or (() if dataset is None else dataset.default_tasks)
    entries = []
    for name in dict.fromkeys([*(name for name in chosen if name in own), *given]):
        entry = as_given(given[name]) if name in given else {"name": name}
        loss = losses.get(entry.get("kind") or (own[name].kind if name in own else "graded"))
        entries.append(layered({"loss": loss}, entry, Goal) if loss is not None and name in chosen else entry)
    return {"tasks": [{"name": entry["name"], **entry} for entry in entries]} if entries else {}


def _data(tree: Mapping[str, Any]) -> Data:
    return Data.of(tree.get("data") or {})
