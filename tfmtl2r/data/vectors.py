"""Columns of vectors in files, which are read a part at a time: a column may be larger than memory.

A file holds blocks of rows. In a block, the numbers of one component lie together, so that both some rows and one
component of all rows are read without the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r.data.stored import Column
from tfmtl2r.errors import DamagedError
from tfmtl2r.writing import write_json, written

BLOCK = 1 << 24
"""Bytes of a block."""
_READ = 1 << 25
"""Bytes of components that are read together."""


class VectorFile:
    """Vectors of a file that :func:`write_vectors` has written.

    Args:
        path: the file.

    Raises:
        ValueError: for a file that is not as long as it was written.
    """

    def __init__(self, path: Path):
        about = json.loads(_about(path).read_text())
        self.path, self.rows, self.width = path, int(about["rows"]), int(about["width"])
        self.dtype, self.block = np.dtype(about["dtype"]), _block(int(about["width"]), np.dtype(about["dtype"]))
        if path.stat().st_size != self.rows * self.width * self.dtype.itemsize:
            raise DamagedError(f"{path}: the file is not as long as it was written: remove its folder, and prepare "
                               "again")

    def take(self, items: np.ndarray) -> np.ndarray:
        """Some rows, ``[n, width]``."""
        found = np.empty((len(items), self.width), self.dtype)
        blocks = items // self.block
        order = np.argsort(blocks, kind="stable")
        starts = np.concatenate([[0], np.flatnonzero(np.diff(blocks[order])) + 1, [len(order)]])
        for first, last in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            if first == last:
                continue
            places = order[first:last]
            start = int(blocks[places[0]]) * self.block
            count = min(self.block, self.rows - start)
            # A map of one block at a time: what was read of the others does not stay in the memory of the process.
            block = np.memmap(self.path, self.dtype, "r", start * self.width * self.dtype.itemsize, (self.width, count))
            found[places] = block[:, items[places] - start].T
        return found

    def components(self) -> Iterator[np.ndarray]:
        """The components, ``[rows]`` each, one after the other."""
        size = self.dtype.itemsize
        together = max(1, _READ // (size * self.rows))
        with self.path.open("rb") as file:
            for component in range(0, self.width, together):
                many = min(together, self.width - component)
                found = np.empty((many, self.rows), self.dtype)
                for start in range(0, self.rows, self.block):
                    count = min(self.block, self.rows - start)
                    file.seek((start * self.width + component * count) * size)
                    found[:, start : start + count] = np.fromfile(file, self.dtype, many * count).reshape(many, count)
                yield from found


class Vectors(Column):
    """A column of vectors in a file.

    Args:
        file: the file.
        items: the rows; None for all rows.
        chosen: ``int[D]``, the components, from 0; None for all of them.
        width: number of components, if it is larger than that of the file: the others are 0.
    """

    def __init__(
        self, file: VectorFile, items: np.ndarray | None = None, chosen: Any = None,
        width: int | None = None,
    ):
        self.file, self.items = file, items
        self.width = max(width or 0, file.width)
        self.chosen = np.arange(self.width) if chosen is None else np.asarray(chosen, np.int64)

    def __len__(self) -> int:
        return self.file.rows if self.items is None else len(self.items)

    def rows(self, rows: slice) -> np.ndarray:
        """Some rows, ``[n, D]``."""
        items = np.arange(*rows.indices(len(self))) if self.items is None else self.items[rows]
        return self._wide(self.file.take(items))

    def components(self) -> Iterator[np.ndarray]:
        """The components, ``[N]`` each, one after the other."""
        wanted = set(self.chosen.tolist())
        for number, values in enumerate(self.file.components()):
            if number in wanted:
                yield values if self.items is None else values[self.items]
        for number in range(self.file.width, self.width):
            if number in wanted:
                yield np.zeros(len(self), self.file.dtype)

    @property
    def values(self) -> np.ndarray:
        return self.rows(slice(None))

    identities = whole = values

    @property
    def typed(self) -> np.ndarray:
        """The first row, since type and shape decide about vectors."""
        return self.rows(slice(1))

    @property
    def missing(self) -> np.ndarray:
        found = np.ones(len(self), bool)
        for values in self.components():
            found &= np.isnan(values) if values.dtype.kind == "f" else False
        return found

    def take(self, items: np.ndarray) -> Vectors:
        mine = items if self.items is None else self.items[items]
        return Vectors(self.file, mine, self.chosen, self.width)

    def component(self, number: int) -> Column:
        """One component, from 0."""
        [found] = Vectors(self.file, self.items, self.chosen[[number]], self.width).components()
        return Column(found)

    def without(self, numbers: Sequence[int]) -> Vectors:
        """The vectors without some components, from 0."""
        return Vectors(self.file, self.items, np.delete(self.chosen, numbers), self.width)

    def as_wide_as(self, width: int) -> Vectors:
        """The vectors with zeros behind them."""
        return Vectors(self.file, self.items, None, width)

    def _wide(self, matrix: np.ndarray) -> np.ndarray:
        if self.width > self.file.width:
            matrix = np.pad(matrix, ((0, 0), (0, self.width - self.file.width)))
        return matrix if len(self.chosen) == self.width else matrix[:, self.chosen]


def write_vectors(path: Path, parts: Iterable[np.ndarray], width: int, dtype: np.dtype | str = "float32") -> VectorFile:
    """Writes vectors, of which one block is in memory.

    Args:
        path: the file.
        parts: ``[n, D]``, some rows after the other. Rows with fewer than ``width`` numbers end in zeros.
        width: number of components.
        dtype: type of the numbers.
    """
    dtype, rows = np.dtype(dtype), 0
    block, filled = np.zeros((_block(width, dtype), width), dtype), 0
    with written(path) as temporary, temporary.open("wb") as file:
        for part in parts:
            done = 0
            while done < len(part):
                count = min(len(part) - done, len(block) - filled)
                block[filled : filled + count, : part.shape[1]] = part[done : done + count]
                block[filled : filled + count, part.shape[1] :] = 0
                done, filled = done + count, filled + count
                if filled == len(block):
                    file.write(np.ascontiguousarray(block.T).data)
                    rows, filled = rows + filled, 0
        file.write(np.ascontiguousarray(block[:filled].T).data)
    write_json(_about(path), {"rows": rows + filled, "width": width, "dtype": dtype.name})
    return VectorFile(path)


def _about(path: Path) -> Path:
    return path.with_suffix(".json")


def _block(width: int, dtype: np.dtype) -> int:
    """The number of rows of a block."""
    return max(1, BLOCK // (max(width, 1) * dtype.itemsize))
