"""The graph of numbers: the columns of all :class:`tfmtl2r.features.dense.Dense` features of a group at once."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfmtl2r.errors import InputError
from tfmtl2r.features._transforms import RANKED, TRANSFORMS, heights

if TYPE_CHECKING:
    from tfmtl2r.batch import Batch
    from tfmtl2r.features.dense import Dense


@dataclasses.dataclass(frozen=True)
class _Column:
    """One transformed number.

    Args:
        feature: the feature.
        source: the raw number, counted over all features.
        component: the component of the feature.
        copy: the place among the feature's transformed numbers.
        place: the place in the result.
    """

    feature: Dense
    source: int
    component: int
    copy: int
    place: int

    @property
    def transform(self) -> str:
        return self.feature.copied[self.copy]

    def statistic(self, name: str, otherwise: float) -> float:
        values = getattr(self.feature, name)
        return otherwise if values is None else float(values[self.copy])

    @property
    def scale(self) -> float:
        """A constant feature has variance 0 and no information: it becomes 0."""
        variance = self.statistic("variance", 1.0)
        return float(variance**-0.5) if variance > 1e-12 else 0.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """Where everything about the numbers of a group goes. All lists are in the order in which they are computed.

    Args:
        columns: the transformed numbers, those of one transform together.
        steps: place in the result, raw number, threshold and share of each step.
        marks: place in the result of each indicator of a missing value, and its feature.
    """

    columns: list[_Column]
    steps: list[tuple[int, int, float, float]]
    marks: list[tuple[int, Dense]]

    @classmethod
    def of(cls, features: Sequence[Dense]) -> Plan:
        """The plan of features whose results follow each other: transformed numbers, the same within their list, steps,
        indicator."""
        columns, steps, marks = [], [], []
        source = place = 0
        for f in features:
            count = len(f.copied)
            columns += [_Column(f, source + i % f.components, i % f.components, i, place + i) for i in range(count)]
            after = place + count * (1 + f.within_list)
            pairs = [(source + component, threshold, share) for component, (thresholds, shares)
                     in enumerate(zip(f.thresholds or (), f.above or (), strict=True))
                     for threshold, share in zip(thresholds, shares, strict=True)]
            steps += [(after + number, *pair) for number, pair in enumerate(pairs)]
            marks += [(place + f.width - 1, f)] if f.missing else []
            source, place = source + f.components, place + f.width
        names = list(dict.fromkeys(column.transform for column in columns))
        return cls(sorted(columns, key=lambda column: names.index(column.transform)), steps, marks)

    @property
    def within(self) -> list[int]:
        """The columns that are standardised within their list, too."""
        return [number for number, column in enumerate(self.columns) if column.feature.within_list]

    @property
    def places(self) -> list[int]:
        """The place in the result of each computed number."""
        inside = [self.columns[number] for number in self.within]
        return [*(column.place for column in self.columns),
                *(column.place + len(column.feature.copied) for column in inside),
                *(place for place, *_ in self.steps), *(place for place, _ in self.marks)]


def encoded(features: Sequence[Dense], tensors: Mapping[str, Any], batch: Batch | None, training: bool) -> Any:
    """The numbers of several features, ``float32[n, sum of widths]``. Missing numbers become the mean."""
    from tfmtl2r._backend import tf
    from tfmtl2r.layers import numbers

    plan = Plan.of(features)
    given = [tf.cast(tensors[f.name], tf.float32) for f in features]
    raw = tf.concat([value if f.shape else value[..., None] for f, value in zip(features, given, strict=True)], axis=-1)
    known = tf.math.is_finite(raw)
    raw = tf.where(known, raw, 0.0)  # before the transform, since gradients through tf.where would still be NaN
    found = _standardised(plan, raw, known)
    blocks = [found]
    if plan.within:
        blocks.append(_within_list(plan, found, known, batch))
    if training and any(column.feature.noise for column in plan.columns):
        blocks = [_noisy(plan, blocks)]
    if plan.steps:
        _, sources, thresholds, shares = (np.array(part) for part in zip(*plan.steps, strict=True))
        blocks.append(numbers.steps(_taken(raw, sources), _taken(known, sources), thresholds.astype(np.float32),
                                    shares.astype(np.float32)))
    blocks += [tf.cast(~f.known(tensors), tf.float32)[:, None] for _, f in plan.marks]
    return _taken(blocks[0] if len(blocks) == 1 else tf.concat(blocks, axis=-1), np.argsort(plan.places))


def _taken(value: Any, columns: np.ndarray | Sequence[int]) -> Any:
    from tfmtl2r._backend import tf

    columns = np.asarray(columns, np.int32)
    same = len(columns) == value.shape[-1] and (columns == np.arange(len(columns))).all()
    return value if same else tf.gather(value, columns, axis=-1)


def _standardised(plan: Plan, raw: Any, known: Any) -> Any:
    """Applies bounds, transform, (x - mean) / sd in float32, and clip."""
    from tfmtl2r._backend import tf

    def numbers(columns: Sequence[_Column], name: str, otherwise: float) -> np.ndarray:
        return np.array([column.statistic(name, otherwise) for column in columns], np.float32)

    parts = []
    for name, group in itertools.groupby(plan.columns, lambda column: column.transform):
        columns = list(group)
        value = _taken(raw, [column.source for column in columns])
        low, high = numbers(columns, "low", -np.inf), numbers(columns, "high", np.inf)
        if np.isfinite(low).any() or np.isfinite(high).any():
            value = tf.clip_by_value(value, low, high)
        parts.append(_ranked(columns, value) if name == RANKED else TRANSFORMS[name].forward(value, tf.math))
    value = parts[0] if len(parts) == 1 else tf.concat(parts, axis=-1)
    scale = np.array([column.scale for column in plan.columns], np.float32)
    clip = np.array([column.feature.clip for column in plan.columns], np.float32)
    value = (value - numbers(plan.columns, "mean", 0.0)) * scale
    known = _taken(known, [column.source for column in plan.columns])
    return tf.where(known, tf.clip_by_value(value, -clip, clip), 0.0)


def _ranked(columns: Sequence[_Column], value: Any) -> Any:
    from tfmtl2r.layers import numbers

    found = [(column.feature.points or (), column.feature.ranks or ()) for column in columns]
    mine = [(points[column.component], ranks[column.component])
            for column, (points, ranks) in zip(columns, found, strict=True)]
    return numbers.rank_gauss(value, *heights(*zip(*mine, strict=True)))


def _within_list(plan: Plan, value: Any, known: Any, batch: Batch | None) -> Any:
    from tfmtl2r._backend import tf
    from tfmtl2r.layers import numbers

    names = dict.fromkeys(plan.columns[number].feature.name for number in plan.within)
    if batch is None or batch.is_rows:
        raise InputError(f"feature {', '.join(map(repr, names))} is standardised within its list (within_list), but "
                         "plain rows have no lists: set list_id to the column with the id of the list, or leave "
                         "within_list out")
    known = _taken(known, [plan.columns[number].source for number in plan.within])
    list_of = batch.repeated(tf.range(batch.num_lists))
    return numbers.within_list(_taken(value, plan.within), known, list_of, batch.num_lists)


def _noisy(plan: Plan, blocks: Sequence[Any]) -> Any:
    """The standardised numbers with their noise."""
    from tfmtl2r._backend import tf
    from tfmtl2r.layers import randomness

    value = tf.concat(blocks, axis=-1)
    columns = [*plan.columns, *(plan.columns[number] for number in plan.within)]
    sizes = np.array([column.feature.noise for column in columns], np.float32)
    return value + sizes * tf.random.stateless_normal(tf.shape(value), randomness.next_seed())
