"""Columns as they came: each is converted when it is read, so that a column that nobody reads cannot fail.

A column has two readings. Its *values* are quantities where the column holds numbers. Its *identities* only tell equal
cells from different ones: they are exact, or they are refused. List ids and categories read identities.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tfmtl2r.errors import InputError

if TYPE_CHECKING:
    from tfmtl2r.data.ragged import Ragged


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the rows of a table came from.

    Args:
        files: each file with its number of rows, in order; empty for a table that came from no file.
        start: the row of the files that is row 0 of the table.

    >>> Source((("a.csv", 2), ("b.csv", 3))).row(4)
    'row 2 (counted from 0) of b.csv'
    """

    files: tuple[tuple[str, int], ...] = ()
    start: int = 0

    def row(self, number: int) -> str:
        """The place of a row, for error messages."""
        number, first = number + self.start, 0
        for path, rows in self.files:
            if number < first + rows:
                return f"row {number - first} (counted from 0) of {path}"
            first += rows
        return f"row {number} (counted from 0)"


NO_FILE = Source()


class Column:
    """A column of an array. Subclasses hold cells of other types and convert them on demand.

    Attributes:
        spells_numbers: whether text in the column may spell numbers, as in a text file.
        holds_lists: whether the cells are lists. A matrix of numbers is a column of vectors instead.
        is_category: whether the column has a category type (pandas' ``category``, Arrow's dictionary).
    """

    spells_numbers = False
    holds_lists = False
    is_category = False

    def __init__(self, array: np.ndarray, whole: np.ndarray | None = None):
        self.array = array
        self._whole = whole

    def __len__(self) -> int:
        return len(self.array)

    @property
    def values(self) -> np.ndarray:
        """``[N, ...]``: numbers with NaN where they are missing, or text with ``""``.

        Raises:
            ValueError: for cells that are neither; the message contains column, row, value and remedy.
        """
        return self.array

    @property
    def whole(self) -> np.ndarray:
        """The values of the table from which these rows were taken; of vectors, only these rows."""
        return self.array if self._whole is None else self._whole

    @property
    def typed(self) -> np.ndarray:
        """``[N, ...]``: what decides about the kind of an undeclared feature; a missing integer is -1, and the values
        of a category type (pandas' ``category``, Arrow's dictionary) are objects."""
        return self.array

    @property
    def spelled(self) -> Column:
        """The column that the text of a text file spells; otherwise the column itself."""
        return self

    @property
    def missing(self) -> np.ndarray:
        """``bool[N]``: which cells are missing: NaN, None, no time, or empty text."""
        import pandas as pd

        gone: Any = pd.isna(self.array)
        if self.array.dtype.kind in "OU":
            gone[~gone] = self.array[~gone] == ""
        return gone if self.array.ndim == 1 else gone.reshape(len(gone), -1).all(axis=1)

    @property
    def identities(self) -> np.ndarray:
        """``[N]``: integers (-1 is missing), text (``""`` is missing), dates, or floats that are exact.

        Raises:
            ValueError: for cells that cannot be told apart exactly.
        """
        return self.array

    def elements(self, separator: str = "", gaps: bool = False) -> Ragged:
        """The column read as lists (:mod:`tfmtl2r.data.ragged`).

        Args:
            separator: splits a cell of text; empty to choose it from the cells.
            gaps: whether elements keep their places, also behind missing ones.
        """
        from tfmtl2r.data.ragged import of_array, of_cells

        if self.array.ndim == 1 and self.array.dtype.kind in "OU":
            import pandas as pd

            if found := of_cells(pd.Series(self.array), "", NO_FILE, separator, gaps):
                return found
        return of_array(self.array, "", NO_FILE, gaps)

    def take(self, items: np.ndarray) -> Column:
        """The column of these rows."""
        return Column(self.array[items], self.whole if self.array.ndim == 1 else None)


class Taken(Column):
    """Rows of a column that is converted later, once for all that take rows of it."""

    def __init__(self, column: Column, items: np.ndarray):
        self.column, self.items = column, items
        self.spells_numbers, self.is_category = column.spells_numbers, column.is_category
        self.holds_lists = column.holds_lists

    def __len__(self) -> int:
        return len(self.items)

    @functools.cached_property
    def values(self) -> np.ndarray:
        return self.column.values[self.items]

    @property
    def whole(self) -> np.ndarray:
        return self.column.whole

    @property
    def typed(self) -> np.ndarray:
        return self.column.typed[self.items]

    @property
    def spelled(self) -> Column:
        return self.column.spelled.take(self.items)

    @property
    def missing(self) -> np.ndarray:
        return self.column.missing[self.items]

    @functools.cached_property
    def identities(self) -> np.ndarray:
        return self.column.identities[self.items]

    def elements(self, separator: str = "", gaps: bool = False) -> Ragged:
        return self.column.elements(separator, gaps).take(self.items)

    def take(self, items: np.ndarray) -> Column:
        return Taken(self.column, self.items[items])


class Stored(Mapping[str, np.ndarray]):
    """Columns by name. ``columns[name]`` converts a column, and :attr:`columns` holds all of them unconverted."""

    def __init__(self, columns: Mapping[str, np.ndarray | Column]):
        found = columns.columns if isinstance(columns, Stored) else columns
        self.columns: dict[str, Column] = {name: _column(name, values) for name, values in found.items()}

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name].values

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def take(self, items: np.ndarray) -> Stored:
        """The same columns at these rows."""
        return Stored({name: column.take(items) for name, column in self.columns.items()})

    def having(self, name: str, values: np.ndarray) -> Stored:
        """The columns with the column ``name`` added, or replaced if there is one."""
        return Stored({**self.columns, name: values})

    def readable(self, name: str) -> np.ndarray | None:
        """A column as a fingerprint reads it; None for one that cannot be converted."""
        try:
            return self[name]
        except InputError:
            return self.columns[name].elements().texts() if self.columns[name].holds_lists else None

    def all_readable(self) -> dict[str, np.ndarray]:
        """All columns that can be converted, converted."""
        found = {name: self.readable(name) for name in self}
        return {name: values for name, values in found.items() if values is not None}


def _column(name: str, values: np.ndarray | Column) -> Column:
    """An array as a column. An array of lists converts its cells when they are read."""
    if isinstance(values, Column):
        return values
    array = np.asarray(values)
    first = next((cell for cell in array if cell is not None), None) if array.dtype == object else None
    if array.ndim == 1 and isinstance(first, (list, tuple, np.ndarray)):
        import pandas as pd

        from tfmtl2r.data.cells import Cells

        return Cells(name, pd.Series(array), NO_FILE)
    return Column(array)


def refuse_inexact(values: np.ndarray, what: str, source: Source) -> None:
    """Refuses floats from which neighbouring integers cannot be told apart, and infinite ones.

    Raises:
        ValueError: for the first such value, with its row.
    """
    if values.dtype.kind != "f":
        return
    limit = 2.0 ** (np.finfo(values.dtype).nmant + 1)
    wrong = np.abs(values) >= limit
    if wrong.any():
        row = int(wrong.reshape(len(values), -1).any(axis=1).argmax())
        raise InputError(
            f"{what} holds {np.ravel(values[row])[0].item()!r} in {source.row(row)}: from {limit:.0f} on, a "
            f"{values.dtype} no longer tells neighbouring ids apart, so that different ids may be equal already; store "
            "the ids as integers or as text"
        )
