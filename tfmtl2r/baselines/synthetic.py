"""Synthetic training lists: copies of real lists in which values are swapped between items. Only a teacher labels them.

Source of the idea: Cohen et al., Universal approximation functions for fast learning to rank, SIGIR 2018,
https://doi.org/10.1145/3209978.3210137. Their values come from the thresholds of trees; here, they are those of other
items of the same list.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tfmtl2r.data import Lists
from tfmtl2r.data.pooling import pooled
from tfmtl2r.schema import Schema
from tfmtl2r.task import Task

MOST = 0.5
"""The highest probability of a swap."""


def with_copies(
    lists: Lists, schema: Schema, tasks: Iterable[Task], copies: int, seed: int, most: float = MOST
) -> Lists:
    """The lists, and after them copies of each of them without labels.

    Each item of a copy draws a probability from U(0, most). With this probability, each of its numbers, and each other
    feature as a whole, is replaced by that of another item of the list. Features of the list stay.

    Args:
        lists: the training lists.
        schema: the features.
        tasks: tasks whose labels the copies lack.
        copies: number of copies of each list.
        seed: seed of the draws.
        most: highest probability of a swap; 0 for plain copies.

    >>> from tfmtl2r import Dense
    >>> lists = Lists({"x": np.array([1.0, 2.0, 5.0]), "y": np.array([0, 1, 1])}, offsets=np.array([0, 2, 3]))
    >>> both = with_copies(lists, Schema([Dense("x")]), [Task("y")], copies=1, seed=0, most=0.0)
    >>> both.sizes.tolist(), both.columns["x"].tolist(), both.columns["y"].tolist()
    ([2, 1, 2, 1], [1.0, 2.0, 5.0, 1.0, 2.0, 5.0], [0.0, 1.0, 1.0, nan, nan, nan])
    """
    labels = {task.label for task in tasks}
    return pooled([lists, *(_copy(lists, schema, labels, np.random.default_rng([seed, number]), most)
                            for number in range(copies))])


def _copy(lists: Lists, schema: Schema, labels: set[Any], rng: np.random.Generator, most: float) -> Lists:
    chance = rng.uniform(0, most, lists.num_items)
    columns: dict[str, Any] = {name: lists.kept(name) for name in lists.columns}
    seen: set[str] = set()
    for feature in (one for one in schema.features if not one.context):
        own = [name for name in feature.columns if name in columns and name not in seen]
        seen |= {*own}
        if feature.by_component:
            for name in own:
                values = lists.column(name)
                components = values.reshape(len(values), -1)
                items = _items(lists, chance, components.shape[1], rng)
                columns[name] = np.take_along_axis(components, items, axis=0).reshape(values.shape)
        elif own:
            items = _items(lists, chance, 1, rng)[:, 0]
            columns |= {name: lists.kept(name).take(items) for name in own}
    columns |= {name: np.full(lists.num_items, np.nan) for name in labels if name in columns}
    return Lists(columns, lists.offsets, lists.ids, lists.context, lists.list_id)


def _items(lists: Lists, chance: np.ndarray, width: int, rng: np.random.Generator) -> np.ndarray:
    """For each item and component, the item whose value it gets: itself or another one of its list, ``[N, width]``."""
    sizes = np.repeat(lists.sizes, lists.sizes)[:, None]
    starts = np.repeat(np.asarray(lists.offsets)[:-1], lists.sizes)[:, None]
    places = np.arange(lists.num_items)[:, None] - starts
    away = 1 + (rng.random((lists.num_items, width)) * np.maximum(sizes - 1, 0)).astype(np.int64)
    swapped = rng.random((lists.num_items, width)) < chance[:, None]
    return starts + (places + np.where(swapped, away, 0)) % sizes
