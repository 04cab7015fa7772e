"""Fingerprints of lists whose columns are read one at a time: the bytes of each column wait in a file."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import numpy as np

from tfmtl2r.data.fingerprints import Coded, InMemory, both
from tfmtl2r.data.lists import Lists
from tfmtl2r.data.vectors import Vectors
from tfmtl2r.writing import written

_ROWS = 1 << 16


def digests_of(lists: Lists, work: Path) -> tuple[str, str]:
    """The results of :meth:`tfmtl2r.data.Lists.fingerprint` and :meth:`tfmtl2r.data.Lists.order`.

    Args:
        lists: the lists.
        work: a folder for files that are removed at the end.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        columns: dict[str, Coded] = {}
        for name, column in lists.stored.columns.items():
            path = work / f"{len(columns)}.bin"
            if isinstance(column, Vectors):
                columns[name] = _OfVectors(column)
            elif (values := lists.stored.readable(name)) is not None:
                columns[name] = _InFile(path, InMemory(values))
        return both(columns, lists.offsets)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(work)


class _OfVectors:
    """Vectors that are in a file already."""

    def __init__(self, column: Vectors):
        self.column, self.width = column, len(column.chosen)

    def __len__(self) -> int:
        return len(self.column)

    def codes(self, rows: slice) -> np.ndarray:
        return InMemory(self.column.rows(rows)).codes(slice(None))


class _InFile:
    """The bytes of a column in a file."""

    def __init__(self, path: Path, column: Coded):
        self.path, self.width, self.count = path, column.width, len(column)
        with written(path) as temporary, temporary.open("wb") as file:
            for first in range(0, self.count, _ROWS):
                file.write(np.ascontiguousarray(column.codes(slice(first, first + _ROWS))).data)

    def __len__(self) -> int:
        return self.count

    def codes(self, rows: slice) -> np.ndarray:
        count = rows.stop - rows.start
        with self.path.open("rb") as file:
            file.seek(8 * self.width * rows.start)
            return np.fromfile(file, np.int64, count * self.width).reshape(count, self.width)
