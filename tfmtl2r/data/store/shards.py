"""Reads lists from the shards of a split by their numbers, without reading anything else."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from tfmtl2r.data.store.manifest import Manifest, Slot, packs
from tfmtl2r.errors import DamagedError

_OPEN_FILES = 64


class Shards:
    """The rows of a split.

    A shard file holds one pack (:func:`tfmtl2r.data.store.manifest.packs`) after the other, each row by row.

    Args:
        manifest: the store.
        split: the split.

    Attributes:
        packs: (per, dtype) -> the slots of a row.
        offsets: ``int64[num_lists + 1]``, the first item of each list; None for plain rows.
    """

    def __init__(self, manifest: Manifest, split: str):
        about = manifest.content["splits"][split]
        self.folder = manifest.folder
        self.packs = packs([Slot.of(one) for one in about["slots"]])
        self.shards: list[dict[str, Any]] = about["shards"]
        self.first_lists = np.cumsum([0, *(shard["lists"] for shard in self.shards)])
        self.first_items = np.cumsum([0, *(shard["items"] for shard in self.shards)])
        self.offsets: np.ndarray | None = None
        if not about["is_rows"]:
            sizes = np.fromfile(self.folder / about["sizes"], np.int32)
            self.offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self._files: OrderedDict[int, BinaryIO] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def num_lists(self) -> int:
        """The number of lists, or of plain rows."""
        return int(self.first_lists[-1])

    def read(self, numbers: np.ndarray) -> tuple[dict[tuple[str, str], np.ndarray], np.ndarray]:
        """Reads some lists.

        Args:
            numbers: ``int64[B]``, the lists.

        Returns:
            For each pack a matrix ``[n, width]``, and for each list its first row in the matrices of items, ``[B]``.
            A matrix of values per list has the order of ``numbers``. A matrix of items has a last row with the values
            of padded places.
        """
        order = np.argsort(numbers, kind="stable")
        wanted = numbers[order]
        sizes = self._ends(wanted) - self._starts(wanted)
        starts = np.cumsum(sizes) - sizes
        found = {}
        for key, slots in self.packs.items():
            width = sum(slot.width for slot in slots)
            count = int(sizes.sum()) if key[0] == "item" else len(wanted)
            found[key] = np.empty((count + (key[0] == "item"), width), key[1])
            if key[0] == "item":
                found[key][-1] = np.concatenate([np.full(slot.width, slot.fill) for slot in slots])
        for first, last in _runs(wanted, np.searchsorted(self.first_lists, wanted, side="right")):
            self._read_run(wanted, first, last, int(starts[first]), found)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        found = {key: rows[back] if key[0] == "list" else rows for key, rows in found.items()}
        return found, starts[back]

    def column(self, slot: Slot, numbers: np.ndarray | None = None, lists: int = 4096) -> np.ndarray:
        """The values of a slot, ``[N, ...]``, for all lists or some, which are read a few at a time."""
        numbers = np.arange(self.num_lists) if numbers is None else numbers
        key = (slot.per, slot.dtype)
        place = sum(one.width for one in self.packs[key][: self.packs[key].index(slot)])
        count = int((self._ends(numbers) - self._starts(numbers)).sum()) if slot.per == "item" else len(numbers)
        values, done = np.empty((count, slot.width), slot.dtype), 0
        for first in range(0, len(numbers), lists):
            chunk = numbers[first : first + lists]
            matrices, starts = self.read(chunk)
            rows = matrices[key][:, place : place + slot.width]
            if slot.per == "item":
                sizes = self._ends(chunk) - self._starts(chunk)
                rows = rows[np.repeat(starts - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())]
            values[done : done + len(rows)] = rows
            done += len(rows)
        return values.reshape(count, *slot.shape)

    def _starts(self, numbers: np.ndarray) -> np.ndarray:
        return numbers if self.offsets is None else self.offsets[numbers]

    def _ends(self, numbers: np.ndarray) -> np.ndarray:
        return numbers + 1 if self.offsets is None else self.offsets[numbers + 1]

    def _read_run(self, wanted: np.ndarray, first: int, last: int, row: int, found: dict[Any, np.ndarray]) -> None:
        """Reads consecutive lists of one shard, with one read of each pack."""
        shard = int(np.searchsorted(self.first_lists, wanted[first], side="right")) - 1
        begin = int(self._starts(wanted[first])) - int(self.first_items[shard])
        end = int(self._ends(wanted[last])) - int(self.first_items[shard])
        place = 0
        for (per, _), rows in found.items():
            start, count, target = (begin, end - begin, row) if per == "item" else \
                (int(wanted[first] - self.first_lists[shard]), last + 1 - first, first)
            width = rows.shape[1] * rows.itemsize
            self._fill(shard, place + start * width, rows[target : target + count].data.cast("B"))
            place += self.shards[shard]["items" if per == "item" else "lists"] * width

    def _fill(self, shard: int, place: int, target: memoryview) -> None:
        with self._lock:
            if shard not in self._files:
                self._files[shard] = (self.folder / self.shards[shard]["file"]).open("rb", buffering=0)
                if len(self._files) > _OPEN_FILES:
                    self._files.popitem(last=False)[1].close()
            self._files.move_to_end(shard)
            file = self._files[shard]
            file.seek(place)
            done = 0
            while done < len(target):
                count = file.readinto(target[done:])  # type: ignore[attr-defined]
                if not count:
                    raise DamagedError(f"{file.name}: the file of the store ends too early: make the store again")
                done += count


def _runs(numbers: np.ndarray, shards: np.ndarray) -> Iterator[tuple[int, int]]:
    """The first and last places of consecutive numbers of the same shard."""
    if not len(numbers):
        return
    cuts = np.flatnonzero((np.diff(numbers) != 1) | (np.diff(shards) != 0))
    yield from zip([0, *(cuts + 1).tolist()], [*cuts.tolist(), len(numbers) - 1], strict=True)
