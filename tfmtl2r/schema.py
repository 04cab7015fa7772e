"""The features of a ranker, with all statistics that were fitted on the training split.

A :class:`Schema` is plain data: it contains vocabularies and normalisation statistics, and is saved inside the model.
Both the training pipeline and the exported graph are built from it, so that they cannot differ.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tfmtl2r.errors import InputError
from tfmtl2r.names import checked, refuse_equal_keys
from tfmtl2r.registry import Registry

if TYPE_CHECKING:
    import numpy as np

RESERVED = {
    "list_size": "the number of items per list has this name",
    "preference": "the importance of the tasks has this name",
    "*": "it stands for all other columns",
}
KINDS: Registry[Any] = Registry("tfmtl2r.features", "kind of feature", base="Feature")
"""The kinds of features, by name; also :mod:`tfmtl2r.features`."""


@dataclasses.dataclass(frozen=True)
class Schema:
    """The features of a ranker, in order.

    Args:
        features: features, for example :class:`tfmtl2r.Dense` and :class:`tfmtl2r.Category`, with distinct names.

    Raises:
        ValueError: for no feature, a reserved name, two features with the same name or the same name of an input, or a
            feature that shares the table of a feature without one.

    >>> from tfmtl2r import Category, Dense
    >>> Schema([Dense("price"), Category("brand", vocabulary=("a", "b"))]).names
    ('price', 'brand')
    """

    features: tuple[Any, ...]

    def __init__(self, features: Iterable[Any]):
        object.__setattr__(self, "features", _joined(tuple(features)))
        names = self.names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(f"two features are called {twice[0]!r}; names must differ")
        if not names:
            raise InputError("a schema needs at least one feature")
        for name in self.inputs:
            checked(name, "feature", RESERVED)
            _check_readers(name, [feature for feature in self.features if name in feature.raw])
        refuse_equal_keys(names, "features")

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names, in order."""
        return tuple(feature.name for feature in self.features)

    @property
    def inputs(self) -> dict[str, Any]:
        """The feature of each input, a tensor of a batch or a request, in order.

        An input that several features read is an input of the feature that has its name, or else of the first one.
        """
        found: dict[str, Any] = {}
        for feature in self.features:
            found |= {name: feature for name in feature.raw if name not in found or name == feature.name}
        return found

    @property
    def list_context(self) -> tuple[str, ...]:
        """Names of the features whose value for an item depends on the other items of its list."""
        return tuple(feature.name for feature in self.features if feature.list_context)

    def in_files(self, column: str, values: np.ndarray) -> np.ndarray:
        """Values of a column as files and tables may contain them: hashes, if a feature of this name has ``hash``.

        Args:
            column: a column of the data.
            values: ``[n]``, its values.
        """
        found: np.ndarray = next((f.as_known(values) for f in self.features if f.name == column), values)
        return found

    def get_config(self) -> dict[str, Any]:
        """Plain data from which :meth:`from_config` rebuilds the schema.

        Raises:
            ValueError: for a feature whose kind is not registered.
        """
        return {"features": [
            {"kind": KINDS.name_of(type(feature)), **{key: _plain(value) for key, value in vars(feature).items()}}
            for feature in self.features
        ]}

    def extensions(self) -> list[dict[str, str]]:
        """Kinds of these features that are not built in; see :meth:`tfmtl2r.registry.Registry.extensions`.

        Raises:
            ValueError: for a feature whose kind is not registered.
        """
        kinds = dict.fromkeys(KINDS.name_of(type(feature)) for feature in self.features)
        return [need for kind in kinds for need in KINDS.extensions(kind)]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Schema:
        """Builds the schema that :meth:`get_config` described. Files of format 1, with classes for kinds, work, too."""
        features = []
        for entry in config["features"]:
            options = {key: value for key, value in entry.items() if key not in ("kind", "type")}
            features.append(KINDS.constructor(entry.get("kind") or entry["type"].lower())(**options))
        return cls(features)


def _plain(value: Any) -> Any:
    """A value as JSON can hold it: a tuple as a list, and a number that is not finite as text."""
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _check_readers(name: str, readers: list[Any]) -> None:
    """Refuses an input that several features read, unless they share it and read it in the same way."""
    first, *others = sorted(readers, key=lambda feature: name in feature.borrowed)
    for other in others:
        if name not in other.borrowed:
            raise InputError(f"two features have an input called {name!r}; rename one of them")
        if first.reading_of(name) != other.reading_of(name):
            raise InputError(f"features {first.name!r} and {other.name!r} both read {name!r}, but in different ways "
                             f"({first.reading_of(name)} and {other.reading_of(name)}): declare both alike")


def _joined(features: tuple[Any, ...]) -> tuple[Any, ...]:
    """The features; those that share a table take over what they need from the owner of the table."""
    owners = {feature.name: feature for feature in features if feature.reads_names and not feature.shares}
    for feature in features:
        if feature.shares and feature.shares not in owners:
            raise InputError(f"feature {feature.name!r} shares the table of {feature.shares!r}, which is no feature "
                             f"with a table of its own; such features are: {', '.join(owners) or 'none'}")
    return tuple(feature.joined(owners[feature.shares]) if feature.shares else feature for feature in features)
