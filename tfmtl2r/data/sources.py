"""Where batches take their lists from: by number, in any order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.batch import IMPORTANCE, LIST_SIZE, PROPENSITY
from tfmtl2r.data.columns import bounded, feature_parts, label_values, relevance, weight_values
from tfmtl2r.data.lists import Lists
from tfmtl2r.data.truncate import choose
from tfmtl2r.features.base import Feature
from tfmtl2r.layers.features import Lookup
from tfmtl2r.schema import Schema
from tfmtl2r.task import Task
from tfmtl2r.types import Tensor

LOOKUP_ROWS = 1 << 18


class Source(Protocol):
    """Lists that are taken by number inside a ``tf.data`` pipeline."""

    def keys(self, seed: int, epoch: Tensor) -> Tensor | None:
        """The random numbers of an epoch, for :meth:`take`; None if a batch depends on its lists alone.

        Args:
            seed: the seed.
            epoch: ``int64``, number of the epoch.
        """

    def take(self, numbers: Tensor, keys: Tensor | None = None) -> Any:
        """Returns the batch of some lists (for plain rows: rows); :mod:`tfmtl2r.batch` describes it.

        Args:
            numbers: ``int64[B]``, the numbers of the lists, in the order in which the batch contains them.
            keys: the result of :meth:`keys`.
        """


class MemorySource:
    """Lists in memory: all columns in a few tensors, so that one gather reads many columns.

    All scalar columns of the same type, labels and weights included, are columns of one tensor ``[N + 1, ...]``. The
    last row contains the values of padded places.
    """

    def __init__(
        self, lists: Lists, tasks: tuple[Task, ...], schema: Schema, weights: dict[Any, str], limit: int | None
    ):
        values = dict(looked_up(lists, schema))
        per_list = {name for name, f in schema.inputs.items() if f.context and not lists.is_rows}
        bounds = {(task.name, PROPENSITY): task.tau for task in tasks}
        weigh = {key: bounded(weight_values(lists, key[0], column), bounds.get(key)) for key, column in weights.items()}
        listed = {key for key, column in weights.items() if column in lists.context}
        self.rows = lists.is_rows
        self.limit = limit
        self.items = lists.num_items
        self.order = tuple(schema.inputs)
        by_type: dict[np.dtype, dict[tuple[str, Any], np.ndarray]] = {}
        scalars: dict[tuple[str, Any], np.ndarray] = {}
        scalars |= {("x", name): v for name, v in values.items() if name not in per_list and v.ndim == 1}
        scalars |= {("y", task.name): label_values(lists, task) for task in tasks}
        scalars |= {("w", key): value for key, value in weigh.items() if key not in listed}
        for key, value in scalars.items():
            by_type.setdefault(value.dtype, {})[key] = value
        self.packs = [_packed(columns) for columns in by_type.values()]
        self.vectors = {
            name: _padded(v, 0) for name, v in values.items() if name not in per_list and v.ndim > 1
        }
        self.per_list = {("x", name): tf.constant(values[name]) for name in self.order if name in per_list}
        self.per_list |= {("w", key): tf.constant(value) for key, value in weigh.items() if key in listed}
        if not self.rows:
            self.starts = tf.constant(lists.offsets[:-1], tf.int64)  # type: ignore[index]
            self.sizes = tf.constant(lists.sizes, tf.int32)
        if limit is not None:
            self.relevant = _padded(relevance(lists, tasks), False)

    def keys(self, seed: int, epoch: Tensor) -> Tensor | None:
        """A random number per item of the source, which decides the items that stay in a cut list in an epoch."""
        return None if self.limit is None else item_keys(seed, epoch, self.items)

    def take(self, numbers: Tensor, keys: Tensor | None = None) -> Any:
        """Returns a batch; see :class:`Source`."""
        parts: dict[str, dict[Any, Any]] = {"x": {}, "y": {}, "w": {}}
        items = numbers
        if not self.rows:
            items, sizes = self._items(numbers, keys)
        for names, matrix in self.packs:
            for (part, name), column in zip(names, tf.unstack(tf.gather(matrix, items), axis=-1), strict=True):
                parts[part][name] = column
        for name, matrix in self.vectors.items():
            parts["x"][name] = tf.gather(matrix, items)
        for (part, name), values in self.per_list.items():
            parts[part][name] = tf.gather(values, numbers)
        x = {name: parts["x"][name] for name in self.order}
        if not self.rows:
            x[LIST_SIZE] = sizes
        batch = (x, parts["y"], by_task(parts["w"])) if parts["w"] else (x, parts["y"])
        return batch if parts["y"] else x

    def _items(self, numbers: Tensor, keys: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns item numbers ``int64[B, L]``, which are N at padded places, and list sizes ``int32[B]``."""
        sizes = tf.gather(self.sizes, numbers)
        places = tf.range(tf.reduce_max(tf.concat([sizes, [1]], 0)))[None, :]  # a worker's share may have no list
        items = tf.gather(self.starts, numbers)[:, None] + tf.cast(places, tf.int64)
        items = tf.where(places < sizes[:, None], items, self.items)
        if self.limit is None:
            return items, sizes
        keys = tf.gather(tf.concat([keys, [np.inf]], axis=0), items)
        places, sizes = choose(keys, tf.gather(self.relevant, items), sizes, self.limit)
        return tf.gather(items, places, batch_dims=1), sizes


def item_keys(seed: int, epoch: Tensor, items: int) -> Tensor:
    """A random number in [0, 1) per item, which seed and epoch decide."""
    _, key_seed = tf.unstack(tf.random.split(tf.stack([np.int64(seed), epoch]), 2))
    return tf.random.stateless_uniform([items], key_seed)


def by_task(weights: dict[tuple[str, str], Any]) -> dict[str, Any]:
    """Weights by (task, kind) as ``sample_weight`` of a batch: the importance alone, or a dict of kinds."""
    kinds: dict[str, dict[str, Any]] = {}
    for (task, kind), values in weights.items():
        kinds.setdefault(task, {})[kind] = values
    return {task: found[IMPORTANCE] if set(found) == {IMPORTANCE} else found for task, found in kinds.items()}


def looked_up(lists: Lists, schema: Schema) -> Iterator[tuple[str, np.ndarray]]:
    """Looks up the features of all items, and the context features of all lists, in chunks, one after the other."""
    for name, chunks in looked_up_chunks(lists, schema):
        yield name, np.concatenate(list(chunks))


def looked_up_chunks(lists: Lists, schema: Schema) -> Iterator[tuple[str, Iterator[np.ndarray]]]:
    """Like :func:`looked_up`, but each input as some rows after the other. Vectors in a file are not read as a whole.

    The rows of an input must be taken before those of the next input.
    """
    lookup = Lookup(schema)
    for feature in schema.features:
        parts: Iterable[dict[str, np.ndarray]] = feature_parts(lists, feature)
        if len(feature.raw) > 1:
            parts = list(parts)
        for name in feature.raw:
            yield name, _chunks(lookup, feature, name, (part[name] for part in parts))


def _chunks(lookup: Lookup, feature: Feature, name: str, parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for values in parts:
        for first in range(0, len(values), LOOKUP_ROWS):
            yield lookup.input(feature, name, tf.convert_to_tensor(values[first : first + LOOKUP_ROWS])).numpy()


def _packed(columns: dict[tuple[str, Any], np.ndarray]) -> tuple[tuple[tuple[str, Any], ...], Any]:
    matrix = np.stack(list(columns.values()), axis=1)
    fill = [np.nan if part == "y" else 0 for part, _ in columns]
    return tuple(columns), tf.constant(np.concatenate([matrix, np.array([fill], matrix.dtype)]))


def _padded(values: np.ndarray, fill: Any) -> Any:
    return tf.constant(np.concatenate([values, np.full((1, *values.shape[1:]), fill, values.dtype)]))
