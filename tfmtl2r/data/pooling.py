"""Puts the lists of several splits into one table, for folds over all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from tfmtl2r.data.lists import Lists, missing_column
from tfmtl2r.data.ragged import Ragged
from tfmtl2r.data.stored import NO_FILE, Column, Source, Taken
from tfmtl2r.errors import InputError


class Joined(Column):
    """Columns of the same name, one after the other. Each converts its own cells, when they are read.

    Args:
        name: for messages.
        parts: the columns.
    """

    def __init__(self, name: str, parts: Sequence[Column]):
        self.name, self.parts = name, tuple(parts)
        self.spells_numbers = all(part.spells_numbers for part in parts)
        self.holds_lists = any(part.holds_lists for part in parts)
        self.is_category = any(part.is_category for part in parts)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @functools.cached_property
    def values(self) -> np.ndarray:
        return self._joined(lambda part: part.values)

    @property
    def whole(self) -> np.ndarray:
        return self.values

    @functools.cached_property
    def typed(self) -> np.ndarray:
        return self._joined(lambda part: part.typed)

    @property
    def spelled(self) -> Column:
        return Joined(self.name, [part.spelled for part in self.parts])

    @property
    def missing(self) -> np.ndarray:
        return np.concatenate([part.missing for part in self.parts])

    @functools.cached_property
    def identities(self) -> np.ndarray:
        return self._joined(lambda part: part.identities)

    def elements(self, separator: str = "", gaps: bool = False) -> Ragged:
        parts = [part.elements(separator, gaps) for part in self.parts]
        flat, sizes = Joined(self.name, [part.flat for part in parts]), np.concatenate([part.sizes for part in parts])
        return Ragged(flat, sizes, self.name, NO_FILE, parts[0].separator)

    def take(self, items: np.ndarray) -> Column:
        return Taken(self, items)

    def _joined(self, read: Callable[[Column], np.ndarray]) -> np.ndarray:
        arrays = [read(part) for part in self.parts if len(part)]
        kinds = ["text" if one.dtype.kind in "OU" else "time" if one.dtype.kind in "Mm" else "number" for one in arrays]
        if len(set(kinds)) > 1:  # a column without any value has no kind
            kind = next((kind for kind, one in zip(kinds, arrays, strict=True) if not _empty(one)), "number")
            blank = {"text": lambda n: np.full(n, "", object), "time": lambda n: np.full(n, "NaT", "M8[ns]"),
                     "number": lambda n: np.full(n, np.nan)}[kind]
            arrays = [blank(len(one)) if _empty(one) else one for one in arrays]
            if len({found for found, one in zip(kinds, arrays, strict=True) if not _empty(one)}) > 1:
                raise InputError(f"column {self.name!r} holds {' in one split and '.join(dict.fromkeys(kinds))} in "
                                 "another: give it one type in all splits, or leave it out")
        if len({one.shape[1:] for one in arrays}) > 1:
            widths = " and ".join(str(one.shape[1:]) for one in arrays)
            raise InputError(f"column {self.name!r} holds vectors of different shapes in the splits: {widths}")
        return np.concatenate(arrays)


def _empty(values: np.ndarray) -> bool:
    """Whether all values are missing."""
    return bool((values == "").all() if values.dtype.kind in "OU" else (values != values).all())


def pooled(parts: Sequence[Lists]) -> Lists:
    """The lists of several tables, one table after the other. Lists with the same id stay apart.

    Args:
        parts: tables with the same columns.

    Raises:
        ValueError: if lists and plain rows are mixed, or a table lacks a column. A column whose type differs raises
            when it is read.

    >>> first, second = (Lists({"x": np.array(x)}, offsets=np.array([0, len(x)])) for x in ([1.0, 2.0], [3.0]))
    >>> both = pooled([first, second])
    >>> both.sizes.tolist(), both.columns["x"].tolist()
    ([2, 1], [1.0, 2.0, 3.0])
    """
    first = parts[0]
    for part in parts[1:]:
        if part.is_rows != first.is_rows or part.context != first.context:
            raise InputError("the splits must all have lists, or all have plain rows, with the same context columns")
        for name in first.columns:
            if name not in part.columns:
                raise InputError(missing_column(name, part.columns, "a split"))
    columns = {name: Joined(name, [part.kept(name) for part in parts]) for name in first.columns}
    rows, source = _rows(parts)
    offsets, ids = None, None
    if not first.is_rows:
        offsets = np.concatenate([[0], np.cumsum(np.concatenate([part.sizes for part in parts]))])
        ids = Joined("ids", [Column(part.ids) for part in parts if part.ids is not None]).values
    return Lists(columns, offsets, ids, first.context, first.list_id, rows, source)


def _rows(parts: Sequence[Lists]) -> tuple[np.ndarray, Source]:
    """The rows of the source tables, counted through, and their files."""
    counts = [sum(count for _, count in part.source.files) for part in parts]
    own = [np.asarray(part.source_rows, np.int64) for part in parts]
    known = all(count > rows.max() for count, rows in zip(counts, own, strict=True))
    if not known or any(part.source.start for part in parts):
        return np.arange(sum(part.num_items for part in parts)), NO_FILE
    starts = np.cumsum([0, *counts[:-1]])
    rows = np.concatenate([rows + start for rows, start in zip(own, starts, strict=True)])
    return rows, Source(tuple(file for part in parts for file in part.source.files))
