"""Random changes of a training batch: values swapped within a list, and features that count as missing."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.batch import Batch
from tfmtl2r.errors import InputError
from tfmtl2r.schema import Schema
from tfmtl2r.types import Seed, Tensor

_STREAM = 2**31 - 2
"""Keeps these draws apart from the draws of layers and losses, whose numbers count from 1."""


def check(augment: float, feature_dropout: float, has_lists: bool | None) -> None:
    """Checks the options of :func:`augmented`.

    Raises:
        ValueError: for a number outside its range, or ``augment`` for plain rows.
    """
    if not 0.0 <= augment <= 1.0:
        raise InputError(f"augment must be a probability from 0 to 1, not {augment}")
    if not 0.0 <= feature_dropout < 1.0:
        raise InputError(f"feature_dropout must be a probability of at least 0 and below 1, not {feature_dropout}")
    if augment and has_lists is False:
        raise InputError("augment swaps values within a list, but plain rows have no lists: set list_id to the column "
                         "with the id of the list, or leave augment out")


def augmented(batch: Batch, schema: Schema, augment: float, feature_dropout: float, seed: Seed) -> Batch:
    """A training batch with random changes of its features; labels do not change.

    A value is one number of a :class:`tfmtl2r.Dense`, or the whole value of a feature of another kind.

    Args:
        batch: the lists, or plain rows if ``augment`` is 0.
        schema: the features that change.
        augment: each item draws a probability from U(0, augment). With this probability, each of its values is replaced
            by the value of another item of the list.
        feature_dropout: probability with which a value counts as missing for all items of a list (a plain row).
        seed: seed of the step.
    """
    if not augment and not feature_dropout:
        return batch
    check(augment, feature_dropout, not batch.is_rows)
    start = tf.random.experimental.stateless_fold_in(seed, _STREAM)
    draw = _Draws(batch, (tf.random.experimental.stateless_fold_in(start, number) for number in itertools.count()))
    chance = augment * draw.items(1) if augment else None
    features = dict(batch.features)
    for numbers, context, names in _groups(schema):
        values = [features[name] for name in names]
        widths = [value.shape[-1] if value.shape.rank > 2 - (context or batch.is_rows) else None for value in values]
        if numbers:
            values = [tf.concat([value if width else value[..., None] for value, width in
                                 zip(values, widths, strict=True)], axis=-1)]
        if chance is not None and not context:
            values = draw.swapped(values, chance, numbers)
        if feature_dropout:
            values = draw.without(values, feature_dropout, numbers)
        if numbers:
            parts = tf.split(values[0], [width or 1 for width in widths], axis=-1)
            values = [part if width else part[..., 0] for part, width in zip(parts, widths, strict=True)]
        features |= dict(zip(names, values, strict=True))
    return dataclasses.replace(batch, features=features)


def _groups(schema: Schema) -> Iterator[tuple[bool, bool, list[str]]]:
    """Inputs that change together: whether they are numbers that change one by one, whether they belong to lists, and
    their names. All numbers are one group, since few large draws are faster than many small ones."""
    for context in (False, True):
        mine = [f for f in schema.features if f.context == context]
        numbers = [f.name for f in mine if f.by_component]
        if numbers:
            yield True, context, numbers
        for f in mine:
            own = [name for name in f.looked_up if schema.inputs[name] is f]
            if own and not f.by_component:
                yield False, context, own


class _Draws:
    """Random choices of values in a batch."""

    def __init__(self, batch: Batch, seeds: Iterator[Any]):
        self.batch, self.seeds = batch, seeds

    def items(self, width: int) -> Tensor:
        """Uniform numbers for each item, ``[B, L, width]``."""
        shape = tf.concat([tf.shape(self.batch.valid), [width]], 0)
        return tf.random.stateless_uniform(shape, next(self.seeds))

    def swapped(self, values: list[Tensor], chance: Tensor, numbers: bool) -> list[Tensor]:
        """Values ``[B, L, ...]`` of which some are those of other items of the list."""
        width = values[0].shape[-1] if numbers else 1
        size = tf.cast(self.batch.list_size, tf.float32)[:, None, None]
        place = tf.range(tf.shape(self.batch.valid)[1])[None, :, None]
        away = 1 + tf.cast(self.items(width) * tf.maximum(size - 1.0, 0.0), tf.int32)
        other = tf.math.floormod(place + away, tf.maximum(tf.cast(size, tf.int32), 1))
        other = tf.where(self.items(width) < chance, other, place)
        if numbers:
            moved = tf.gather(tf.transpose(values[0], [0, 2, 1]), tf.transpose(other, [0, 2, 1]), batch_dims=2)
            return [tf.transpose(moved, [0, 2, 1])]
        return [tf.gather(value, other[..., 0], batch_dims=1) for value in values]

    def without(self, values: list[Tensor], rate: float, numbers: bool) -> list[Tensor]:
        """Values ``[B, ...]`` of which some are missing, the same ones for all items of a list."""
        shape = [self.batch.num_lists, values[0].shape[-1] if numbers else 1]
        gone = tf.random.stateless_uniform(shape, next(self.seeds)) < rate
        found = []
        for value in values:
            middle = value.shape.rank - 2 if numbers else value.shape.rank - 1
            mask = tf.reshape(gone, [shape[0], *[1] * middle, *([shape[1]] if numbers else [])])
            missing = float("nan") if value.dtype.is_floating else 0  # looked-up ids and sizes
            found.append(tf.where(mask, tf.constant(missing, value.dtype), value))
        return found
