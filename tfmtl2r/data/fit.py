"""Fits a schema: vocabularies and normalisation statistics, from the training split and nothing else."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tfmtl2r import features as kinds
from tfmtl2r.data.columns import Columns
from tfmtl2r.data.lists import Lists, missing_column
from tfmtl2r.data.thresholds import with_thresholds
from tfmtl2r.data.vectors import Vectors
from tfmtl2r.errors import InputError
from tfmtl2r.features.base import Feature, content, doubt
from tfmtl2r.schema import Schema
from tfmtl2r.task import Task

log = logging.getLogger("tfmtl2r")
GUESSES = logging.getLogger("tfmtl2r.guesses")
"""Says in one line which undeclared columns may be something else, at the level INFO. ``tfmtl2r train`` shows it."""


@dataclasses.dataclass(frozen=True)
class Rest:
    """All columns that are not named, with options: the entry ``name = "*"`` of an experiment file.

    Args:
        kind: of these features; None for the kind that each column becomes by itself. The options then belong to the
            columns of kinds that read them.
        options: the other keys of the entry.
    """

    kind: str | None
    options: Mapping[str, Any]

    def of(self, lists: Lists, names: Iterable[str], shared: set[str]) -> list[str | Feature]:
        """The features that these columns become.

        Args:
            lists: the training split.
            names: the columns that are not named.
            shared: columns whose ids another feature shares; they have no options.

        Raises:
            ValueError: if no column reads the options.
        """
        found = [name if name in shared else self._of(lists, name) for name in names]
        if self.options and found and all(isinstance(one, str) for one in found):
            raise InputError(f"the entry \"*\" of features has {', '.join(self.options)}, but no other column becomes "
                             "a feature that reads this: name a column, or leave the entry's options out")
        return found

    def _of(self, lists: Lists, name: str) -> str | Feature:
        context = name in lists.context
        reads = kinds.registry.constructor(self.kind).file_keys if self.kind else type(_infer(lists, name)).file_keys
        if self.kind is None and not set(self.options) <= set(reads):
            return name
        # A value of the whole list is constant within the list.
        options = {key: one for key, one in self.options.items() if not (context and key == "within_list")}
        return declared(lists, name, context, self.kind, options)


def fit_schema(
    lists: Lists,
    tasks: Iterable[Task],
    features: Schema | Iterable[str | Feature | Rest] | None = None,
    exclude: Iterable[str] = (),
    *,
    min_count: int = 1,
) -> Schema:
    """Infers a schema from the training split, or completes the one that was given.

    Each kind of feature (:mod:`tfmtl2r.features`) decides which undeclared columns become one of it, and what it fits.
    Text, pandas' and Arrow's own category type, and at most 64 different integers become a
    :class:`tfmtl2r.Category`, with or without missing values. Lists of text or integers become a
    :class:`tfmtl2r.features.Bag`. A column whose table another feature shares contains ids and becomes a category,
    whatever its values are. All other columns, and lists of floats of one length, become :class:`tfmtl2r.Dense`
    (:func:`tfmtl2r.features.base.names_things`). The log contains what each column became, and why. A column that is a
    context column of the lists becomes a context feature. Dense features get mean and variance, categories their
    vocabulary. Missing values (``""``, -1) are the unknown value, id 0, and never part of a vocabulary.

    Args:
        lists: the **training** split.
        tasks: all tasks whose labels the table holds; their label and weight columns leave the inputs, and so do the
            columns of ``only_where`` that are not named.
        features: a schema, or names and features in order (they win over what would be inferred); ``"*"``, the
            default, stands for all columns that are not named, and :class:`Rest` for these columns with options.
        exclude: columns that are no features, such as other feedback of the same impression, and ids.
        min_count: values of text and integers that occur less often become the unknown value.

    Raises:
        ValueError: for a missing column (with the nearest names), a label among the features, a column that can be
            no feature, or a number that its logarithm cannot take.

    >>> import numpy as np
    >>> train = Lists({"price": np.array([1.0, 3.0]), "brand": np.array(["b", "a"], object), "click": np.array([0, 1])})
    >>> schema = fit_schema(train, [Task("click", kind="binary")])
    >>> schema.names, schema.features[0].mean, schema.features[1].vocabulary
    (('price', 'brand'), (2.0,), ('a', 'b'))
    """
    tasks = tuple(tasks)
    owned = {column: what for task in tasks for column, what in task.columns.items()}
    _check_exists(exclude := {str(name) for name in exclude}, lists)
    exclude |= {name for task in tasks for name in task.rule_columns}
    if min_count < 1:
        raise InputError(f"min_count must be at least 1, not {min_count}")
    given = features.features if isinstance(features, Schema) else ["*"] if features is None else features
    given = [str(one) if isinstance(one, (int, np.integer)) else one for one in given]  # pandas' names of columns
    named = {column for feature in given for column in _inputs(feature)}
    for name in named & owned.keys():
        raise InputError(f"feature {name!r} is {owned[name]}: such a column leaves the inputs; take it out of the "
                         "features")
    _check_exists(named - {"*"}, lists)
    shared = {one.shares for one in given if isinstance(one, Feature)}
    rest = [name for name in lists.columns if name not in {*named, *owned, *exclude, lists.list_id}]
    chosen = [one for feature in given for one in (
        feature.of(lists, rest, shared) if isinstance(feature, Rest) else rest if feature == "*" else [feature])]
    inferred = [one if not isinstance(one, str) else _of_ids(lists, one) if one in shared else _infer(lists, one)
                for one in chosen]
    doubts = [f"{name} is {said}" for name in chosen
              if isinstance(name, str) and name not in shared and (said := doubt(_typed(lists, name)))]
    if doubts:
        GUESSES.info("guessed from the columns: %s; declare them if this is wrong", ", ".join(doubts))
    inferred = with_thresholds(lists, tasks, inferred)
    schema = Schema(feature.fit(Columns(lists, feature.context), min_count) for feature in inferred)
    if schema.list_context and lists.is_rows:
        raise InputError(f"feature {schema.list_context[0]!r} is standardised within its list (within_list), but the "
                         "table has no lists: set list_id to the column with the id of the list, or leave within_list "
                         "out")
    return schema


def _inputs(feature: str | Feature | Rest) -> tuple[str, ...]:
    return ("*",) if isinstance(feature, Rest) else (feature,) if isinstance(feature, str) else feature.columns


def _check_exists(names: Iterable[str], lists: Lists) -> None:
    for name in sorted(names):
        if name not in lists.columns:
            raise InputError(missing_column(name, lists.columns, "the training split"))


def declared(lists: Lists, name: str, context: bool, kind: str | None, options: Mapping[str, Any]) -> Feature:
    """The feature that an entry of ``[[features]]`` in an experiment file declares.

    Args:
        lists: the training split.
        name: of the column.
        context: whether the column belongs to the list.
        kind: of feature; None for the kind that the column would become by itself, or else for the first one that reads
            all the options.
        options: the other keys of the entry.

    Raises:
        ValueError: for an option that the kind does not read, or options that do not decide about the kind.
    """
    if kind is None:
        by_itself = kinds.registry.name_of(type(_infer(lists, name)))
        classes = {one: kinds.registry.constructor(one) for one in kinds.names()}
        able = [one for one, cls in classes.items()
                if set(options) <= set(cls.file_keys) and cls.reads_lists == lists.kept(name).holds_lists]
        kind = by_itself if by_itself in able or not able else able[0]
    cls = kinds.registry.constructor(kind)
    if other := sorted(set(options) - set(cls.file_keys)):
        raise InputError(f"feature {name!r}: {', '.join(other)} is not for a feature of kind {kind!r}, which reads "
                         f"{', '.join(cls.file_keys) or 'no other key'}")
    column = lists.kept(name)
    if cls.reads_lists:
        column = column.elements(options.get("separator", "")).flat
    values = column.identities if cls.reads_names else column.typed if isinstance(column, Vectors) else column.values
    return cls.of_entry(name, values, context, options)


def described(lists: Lists) -> dict[str, str]:
    """What each column of a table would become as a feature, and what it contains; or why it can be no feature."""
    found = {}
    for name in lists.columns:
        try:
            kind = kinds.registry.name_of(type(_infer(lists, name)))
            sizes = lists.kept(name).elements().sizes if lists.kept(name).holds_lists else None
            found[name] = f"{kind}: {content(_typed(lists, name), sizes)}"
        except InputError as error:
            found[name] = f"no feature: {error}"
    return found


def _typed(lists: Lists, name: str) -> np.ndarray:
    column = lists.kept(name)
    return (column.elements().flat if column.holds_lists else column).typed


def _of_ids(lists: Lists, name: str) -> Feature:
    """The feature for a column that nobody declared, but whose ids another feature shares."""
    feature = _infer(lists, name)
    if feature.reads_names:
        return feature
    classes = [kinds.registry.constructor(kind) for kind in kinds.names()]
    kind = next(cls for cls in classes if cls.reads_names and not cls.reads_lists)
    log.info("column %r is of the kind %r instead, since another feature shares its ids", name,
             kinds.registry.name_of(kind))
    return kind.of_entry(name, lists.identities(name), name in lists.context, {})


def _infer(lists: Lists, name: str) -> Feature:
    column, context = lists.kept(name), name in lists.context
    sizes = column.elements().sizes if column.holds_lists else None
    values = _typed(lists, name)
    claims = {kind: kinds.registry.constructor(kind).inferred(name, values, context, sizes) for kind in kinds.names()}
    found = {kind: feature for kind, feature in claims.items() if feature is not None}
    if len(found) > 1:
        raise InputError(f"column {name!r} could be a feature of the kinds {' and '.join(found)}: declare it")
    if not found:
        advice = "declare it as a time, convert it to a number, such as an age in days" if sizes is None else \
            "declare its kind, such as the weights of a bag"
        raise InputError(f"column {name!r} holds {content(values, sizes)}, which can be no feature: {advice}, or "
                         "exclude it")
    [(kind, feature)] = found.items()
    log.info("column %r becomes a feature of the kind %r: %s", name, kind, content(values, sizes))
    return feature
