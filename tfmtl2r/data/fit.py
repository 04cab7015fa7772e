"""Fits a schema: vocabularies and normalisation statistics, from the training split and nothing else."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable
from typing import Any

import numpy as np

from tfmtl2r.data.columns import UNKNOWN_INTEGER, feature_values
from tfmtl2r.data.lists import Lists, missing_column
from tfmtl2r.errors import InputError
from tfmtl2r.schema import LOG_OFFSET, Category, Dense, Schema
from tfmtl2r.task import Task

FEW_INTEGERS = 64
UNKNOWN = ("", "[UNK]", UNKNOWN_INTEGER)
"""Values that Keras's lookup layers read as the unknown value, id 0: they do not enter a vocabulary."""
log = logging.getLogger("tfmtl2r")


def fit_schema(
    lists: Lists,
    tasks: Iterable[Task],
    features: Schema | Iterable[str | Dense | Category] | None = None,
    exclude: Iterable[str] = (),
    *,
    min_count: int = 1,
) -> Schema:
    """Infers a schema from the training split, or completes the one that was given.

    Inferred: fractional numbers and vectors become :class:`Dense`; text becomes a :class:`Category`; integers become
    a :class:`Category` if there are at most 64 different ones, else :class:`Dense`. A column that is a context column
    of the lists becomes a context feature. Completed: a ``Dense`` without a mean gets mean and variance (after its
    transform, in float64, missing values skipped) and, where it asks for quantiles, its bounds; a ``Category`` without
    vocabulary or buckets gets its vocabulary, most frequent values first, equally frequent ones ascending. Missing
    values (``""``, -1) are the unknown value, id 0, and never part of a vocabulary.

    Args:
        lists: the **training** split.
        tasks: all tasks whose labels the table holds; their label columns leave the inputs.
        features: a schema, or names and features in order (they win over what would be inferred); ``"*"``, the
            default, stands for all columns that are not named.
        exclude: columns that are no features, such as other feedback of the same impression, and ids.
        min_count: values of text and integers that occur less often become the unknown value.

    Raises:
        ValueError: for a missing column (with the nearest names), a label among the features, a column that can be
            no feature, or a number that its logarithm cannot take.

    >>> train = Lists({"price": np.array([1.0, 3.0]), "brand": np.array(["b", "a"], object), "click": np.array([0, 1])})
    >>> schema = fit_schema(train, [Task("click", kind="binary")])
    >>> schema.names, schema.features[0].mean, schema.features[1].vocabulary
    (('price', 'brand'), (2.0,), ('a', 'b'))
    """
    labels = {task.label: task.name for task in tasks}
    _check_exists(exclude := set(exclude), lists)
    if min_count < 1:
        raise InputError(f"min_count must be at least 1, not {min_count}")
    given = list(features.features if isinstance(features, Schema) else ["*"] if features is None else features)
    named = {_name(feature) for feature in given}
    for name in named & labels.keys():
        raise InputError(f"feature {name!r} is the label of task {labels[name]!r}: a feature used as a label leaves "
                         "the inputs; take it out of the features")
    _check_exists(named - {"*"}, lists)
    rest = [name for name in lists.columns if name not in {*named, *labels, *exclude, lists.list_id}]
    chosen = [one for feature in given for one in (rest if feature == "*" else [feature])]
    inferred = [_infer(lists, one) if isinstance(one, str) else one for one in chosen]
    return Schema(_complete(lists, feature, min_count) for feature in inferred)


def _name(feature: str | Dense | Category) -> str:
    return feature if isinstance(feature, str) else feature.name


def _check_exists(names: Iterable[str], lists: Lists) -> None:
    for name in sorted(names):
        if name not in lists.columns:
            raise InputError(missing_column(name, lists.columns, "the training split"))


def _infer(lists: Lists, name: str) -> Dense | Category:
    values = lists.columns[name]
    context = name in lists.context
    if values.dtype.kind in "OU":
        return Category(name, context=context)
    if values.dtype.kind in "iub" and values.ndim == 1 and len(np.unique(values)) <= FEW_INTEGERS:
        return Category(name, context=context, dtype="int64")
    if values.dtype.kind in "iufb":
        return Dense(name, shape=values.shape[1:], context=context)
    raise InputError(f"column {name!r} holds {values.dtype}, which can be no feature: convert it to a number, such as "
                     "an age in days, or exclude it")


def _complete(lists: Lists, feature: Dense | Category, min_count: int) -> Dense | Category:
    if isinstance(feature, Dense):
        return feature if feature.is_fitted else _fit_dense(lists, feature)
    if feature.dtype == "string" and lists.columns[feature.name].dtype.kind not in "OU":
        # "string" is only the default; what the column holds is what the serving input will be given.
        if any(isinstance(value, str) for value in feature.vocabulary or ()):
            raise InputError(f"feature {feature.name!r}: the vocabulary is text, but the column holds numbers")
        feature = dataclasses.replace(feature, dtype="int64")
    if feature.vocabulary is not None or feature.buckets is not None:
        feature_values(lists, feature)
        return feature
    return _fit_category(lists, feature, min_count)


def _fit_dense(lists: Lists, feature: Dense) -> Dense:
    values = feature_values(lists, feature)
    # Statistics over the original column: its float64 or integers lose digits as float32.
    exact = lists.first_of_lists(feature.name) if feature.context else lists.columns[feature.name]
    bounds, moments = [], []
    for component, column in enumerate(np.asarray(exact).reshape(len(values), -1).T):
        known = column.astype(np.float64)  # one component at a time: a copy of all would double the memory
        known = known[np.isfinite(known)]
        bounds.append(_bounds(feature, component, known))
        known = _transformed(np.clip(known, *bounds[-1]), feature.transforms[component])
        moments.append((float(known.mean()), float(known.var())) if len(known) else (0.0, 0.0))
        _warn(feature, component, known, *moments[-1])
    mean, variance = zip(*moments, strict=True)
    if feature.quantiles is None:
        return dataclasses.replace(feature, mean=mean, variance=variance)
    low, high = zip(*bounds, strict=True)
    return dataclasses.replace(feature, mean=mean, variance=variance, low=low, high=high)


def _bounds(feature: Dense, component: int, known: np.ndarray) -> tuple[float, float]:
    """Between which raw values are kept."""
    if feature.quantiles is not None and feature.low is None and feature.high is None:
        if not len(known):
            return 0.0, 0.0
        low, high = np.quantile(known, feature.quantiles)
        return float(low), float(high)
    return (feature.low[component] if feature.low else -np.inf, feature.high[component] if feature.high else np.inf)


def _transformed(values: np.ndarray, transform: str) -> np.ndarray:
    """What :class:`tfmtl2r.layers.features.Encoder` does, in float64."""
    if transform == "log1p":
        return np.log1p(np.maximum(values, 0.0))
    if transform == "signed_log1p":
        return np.sign(values) * np.log1p(np.abs(values))
    if transform in ("log", "log_negative"):
        return np.log(np.maximum(values if transform == "log" else -values, 0.0) + LOG_OFFSET)
    return values


def _warn(feature: Dense, component: int, known: np.ndarray, mean: float, variance: float) -> None:
    name = f"feature {feature.name!r}" + (f" (component {component})" if feature.shape else "")
    if not len(known):
        log.warning("%s has no value in the training split: it says nothing; exclude it", name)
    elif variance <= 1e-12:
        log.warning("%s is constant (%g) in the training split: it says nothing; exclude it", name, mean)
    elif abs(mean) > 1e5 * variance**0.5:
        log.warning("%s varies by %g around %g: float32 cannot tell its values apart; subtract an offset first",
                    name, variance**0.5, mean)


def _fit_category(lists: Lists, feature: Category, min_count: int) -> Category:
    values, counts = np.unique(feature_values(lists, feature), return_counts=True)
    entries: list[tuple[int, Any]] = [
        (-count, value)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True)
        if count >= min_count and value not in UNKNOWN
    ]
    if len(values) == 1:
        log.warning("feature %r is constant (%r) in the training split: it says nothing; exclude it", feature.name,
                    values.tolist()[0])
    if not entries:
        log.warning("feature %r has no known value that occurs %d times in the training split: it says nothing; "
                    "exclude it", feature.name, min_count)
        return dataclasses.replace(feature, buckets=1)
    return dataclasses.replace(feature, vocabulary=tuple(value for _, value in sorted(entries)))
