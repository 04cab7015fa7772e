"""Batches from a store: the rows of a batch's lists are read when the batch is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.batch import LIST_SIZE
from tfmtl2r.data.sources import by_task, item_keys
from tfmtl2r.data.store.manifest import Slot
from tfmtl2r.data.store.shards import Shards
from tfmtl2r.data.truncate import choose
from tfmtl2r.types import Tensor


class StoreSource:
    """Lists in shards, as :class:`tfmtl2r.data.sources.MemorySource` holds lists in memory.

    Args:
        shards: the split.
        lists: the numbers of the lists of this source in the split; None for all.
        wanted: part of a batch (``"x"``, ``"y"``, ``"w"``) -> name -> the slot to read, in order.
        bounds: the largest value of weights, by name.
        protecting: names of the tasks of which a cut list keeps a relevant item.
        limit: the largest number of items of a list; None if no list is longer.
        random: whether random items of a cut list stay, in place of the first ones.
    """

    def __init__(
        self, shards: Shards, lists: np.ndarray | None, wanted: dict[str, dict[Any, Slot]],
        bounds: Mapping[Any, float], protecting: tuple[str, ...], limit: int | None, random: bool,
    ):
        self.shards, self.lists = shards, lists
        self.wanted, self.bounds, self.protecting = wanted, bounds, protecting
        self.limit, self.random = limit, random
        self.rows = shards.offsets is None
        if shards.offsets is not None:
            sizes = np.diff(shards.offsets)
            sizes = sizes if lists is None else sizes[lists]
            self.sizes = tf.constant(sizes, tf.int32)
            self.items = int(sizes.sum())
            if random:
                self.starts = tf.constant(np.cumsum(sizes) - sizes, tf.int64)

    def keys(self, seed: int, epoch: Tensor) -> Tensor | None:
        """A random number per item of the source; see :class:`tfmtl2r.data.sources.Source`."""
        return item_keys(seed, epoch, self.items) if self.limit is not None and self.random else None

    def take(self, numbers: Tensor, keys: Tensor | None = None) -> Any:
        """Returns a batch; see :class:`tfmtl2r.data.sources.Source`."""
        matrices, starts = self._read(numbers)
        slots = {slot: value for key, matrix in matrices.items() if key[0] == "list"
                 for slot, value in self._split(key, matrix).items()}
        items = starts
        if not self.rows:
            sizes = tf.gather(self.sizes, numbers)
            longest = tf.reduce_max(tf.concat([sizes, [1]], 0))  # a worker's share may have no list
            places = tf.cast(tf.range(longest)[None, :], tf.int64)
            last = next((tf.shape(matrix, tf.int64)[0] - 1 for key, matrix in matrices.items() if key[0] == "item"), 0)
            valid = places < tf.cast(sizes, tf.int64)[:, None]
            items = tf.where(valid, starts[:, None] + places, last)
        gathered = {slot: value for key, matrix in matrices.items() if key[0] == "item"
                    for slot, value in self._split(key, tf.gather(matrix, items)).items()}
        if self.limit is not None:
            gathered, sizes = self._cut(gathered, sizes, valid, places, numbers, keys)
        slots |= gathered
        parts = {part: {name: slots[slot] for name, slot in names.items()} for part, names in self.wanted.items()}
        x, y = parts["x"], parts["y"]
        if not self.rows:
            x[LIST_SIZE] = sizes
        weights = {key: tf.minimum(value, self.bounds[key]) if key in self.bounds else value
                   for key, value in parts["w"].items()}
        batch = (x, y, by_task(weights)) if weights else (x, y)
        return batch if y else x

    def _cut(
        self, values: dict[Slot, Tensor], sizes: Tensor, valid: Tensor, places: Tensor, numbers: Tensor,
        keys: Tensor | None,
    ) -> tuple[dict[Slot, Tensor], Tensor]:
        """The values of the items that stay, and the new sizes."""
        order = tf.cast(tf.zeros_like(valid, tf.int64) + places, tf.float32)
        if keys is not None:
            order = tf.gather(keys, tf.where(valid, tf.gather(self.starts, numbers)[:, None] + places, 0))
        order = tf.where(valid, order, np.inf)
        labels = [values[self.wanted["y"][name]] > 0 for name in self.protecting]
        none = tf.zeros([*tf.unstack(tf.shape(order)), 0], tf.bool)
        if keys is None:
            order, labels = _first_kept(order, labels), []
        kept, sizes = choose(order, tf.stack(labels, -1) if labels else none, sizes, self.limit)  # type: ignore
        return {slot: tf.gather(value, kept, batch_dims=1) for slot, value in values.items()}, sizes

    def _read(self, numbers: Tensor) -> tuple[dict[tuple[str, str], Tensor], Tensor]:
        names = list(self.shards.packs)

        def read(wanted: np.ndarray) -> list[np.ndarray]:
            found, starts = self.shards.read(wanted if self.lists is None else self.lists[wanted])
            return [starts, *(found[name] for name in names)]

        starts, *matrices = tf.numpy_function(read, [numbers], [tf.int64, *(dtype for _, dtype in names)])
        starts.set_shape([None])
        for name, matrix in zip(names, matrices, strict=True):
            matrix.set_shape([None, sum(slot.width for slot in self.shards.packs[name])])
        return dict(zip(names, matrices, strict=True)), starts

    def _split(self, key: tuple[str, str], rows: Tensor) -> dict[Slot, Tensor]:
        """The columns of a pack, ``[..., width]``, by slot, each in its shape."""
        slots = self.shards.packs[key]
        parts = tf.split(rows, [slot.width for slot in slots], axis=-1)
        shape = tf.shape(rows)[:-1]
        return {slot: tf.ensure_shape(tf.reshape(part, tf.concat([shape, slot.shape], 0)),
                                      [*rows.shape[:-1], *slot.shape])
                for slot, part in zip(slots, parts, strict=True)}


def _first_kept(order: Tensor, relevant: list[Tensor]) -> Tensor:
    """The places of items, and -1 for the first relevant item of each task.

    :func:`tfmtl2r.data.truncate.keep_first` does the same for lists in memory.
    """
    protected = tf.zeros_like(order, tf.bool)
    for mine in relevant:
        first = tf.argmin(tf.where(mine, order, np.inf), axis=1)
        protected |= mine & tf.one_hot(first, tf.shape(order)[1], on_value=True, off_value=False, dtype=tf.bool)
    return tf.where(protected, -1.0, order)
