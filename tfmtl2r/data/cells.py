"""Columns of pandas and Arrow: how cells of each type become numbers, text or ids."""

from __future__ import annotations

import decimal
import functools
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow

from tfmtl2r.data import text_cells
from tfmtl2r.data.ragged import Ragged, is_list_type, of_array, of_cells
from tfmtl2r.data.stored import Column, Source, Taken, refuse_inexact
from tfmtl2r.errors import InputError

_INT64, _UINT64 = np.iinfo(np.int64), np.iinfo(np.uint64)
_NULLABLE = {
    **{kind: pd.api.types.pandas_dtype(str(kind).replace("int", "Int").replace("uI", "UI"))
       for kind in (pyarrow.int8(), pyarrow.int16(), pyarrow.int32(), pyarrow.int64(),
                    pyarrow.uint8(), pyarrow.uint16(), pyarrow.uint32(), pyarrow.uint64())},
    pyarrow.bool_(): pd.BooleanDtype(),
}
"""pandas' types for integers and booleans with missing values, which would lose digits as floats."""


def series_of(column: pyarrow.ChunkedArray, name: str) -> pd.Series:
    """An Arrow column as a series, without loss of digits."""
    try:
        return column.to_pandas(types_mapper=_NULLABLE.get if column.null_count else None).rename(name)
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"column {name!r} of the type {column.type} cannot be read: {error}; leave it out") from error


class Cells(Column):
    """A column of pandas or Arrow.

    Args:
        name: for messages.
        cells: the column.
        source: where the rows came from, for messages.
        separator: splits a cell of text that is read as a list; empty to choose it from the cells.
    """

    def __init__(self, name: str, cells: pd.Series | pyarrow.ChunkedArray, source: Source, separator: str = ""):
        self.name, self.cells, self.source, self.separator = name, cells, source, separator
        kind = cells.dtype if isinstance(cells, pd.Series) else cells.type
        kind = kind.pyarrow_dtype if isinstance(kind, pd.ArrowDtype) else kind
        self.is_category = isinstance(kind, (pd.CategoricalDtype, pyarrow.DictionaryType))
        self._elements: dict[tuple[str, bool], Ragged] = {}

    def __len__(self) -> int:
        return len(self.cells)

    @functools.cached_property
    def series(self) -> pd.Series:
        """The cells as pandas holds them; categories are replaced by their values."""
        cells = self.cells
        if isinstance(cells, pd.Series) and isinstance(cells.dtype, pd.ArrowDtype):
            cells = pyarrow.chunked_array(pyarrow.array(cells.array, from_pandas=False))
        series = cells if isinstance(cells, pd.Series) else series_of(cells, self.name)
        return series.astype(object) if isinstance(series.dtype, pd.CategoricalDtype) else series

    @functools.cached_property
    def kind(self) -> str:
        """What pandas finds in the cells; "empty" where all are missing, whatever the type of the column."""
        return pd.api.types.infer_dtype(self.series, skipna=True) if self.series.notna().any() else "empty"

    @functools.cached_property
    def values(self) -> np.ndarray:
        kind, series = self.kind, self.series
        if kind == "empty":
            return np.full(len(series), np.nan)
        if kind in ("string", "bytes"):
            return self.identities
        if kind in ("boolean", "integer", "floating", "decimal", "integer-na", "mixed-integer-float"):
            return self._numbers()
        if kind.startswith(("datetime", "date")):
            return self._times()
        if kind.startswith("timedelta"):
            return series.to_numpy()
        present = series.dropna()
        if all(isinstance(cell, (list, tuple, np.ndarray)) for cell in present):
            return self.elements().values
        return self._texts(str) if _is_uuid(present) else self._refused(present)

    @functools.cached_property
    def identities(self) -> np.ndarray:
        kind = self.kind
        if kind in ("floating", "integer", "integer-na", "mixed-integer-float", "decimal", "boolean"):
            return self._exact_numbers()
        if kind in ("string", "bytes"):
            return self._texts(_text_of_bytes if kind == "bytes" else str)
        if kind == "empty" or kind.startswith(("datetime", "date", "timedelta")):
            return self.values
        present = self.series.dropna()
        if all(isinstance(cell, (list, tuple, np.ndarray)) for cell in present):
            return self.values
        if type(present.iloc[0]).__hash__ is None or present.map(type).nunique() > 1 or kind == "complex":
            return self._refused(present)
        if len(found := present.drop_duplicates()) != found.map(str).nunique():
            return self._refused(present)
        return self._texts(str)

    @property
    def whole(self) -> np.ndarray:
        return self.values

    @functools.cached_property
    def holds_lists(self) -> bool:  # type: ignore[override]
        if isinstance(self.cells, pyarrow.ChunkedArray):
            return is_list_type(self.cells.type)
        if isinstance(self.cells.dtype, pd.ArrowDtype):
            return is_list_type(self.cells.dtype.pyarrow_dtype)
        present = self.cells.dropna()
        return present.dtype == object and len(present) > 0 and isinstance(present.iloc[0], (list, tuple, np.ndarray))

    def elements(self, separator: str = "", gaps: bool = False) -> Ragged:
        separator = separator or self.separator
        if (separator, gaps) not in self._elements:
            found = of_cells(self.cells, self.name, self.source, separator, gaps)
            found = found or of_cells(self.series, self.name, self.source, separator, gaps)  # other types of Arrow
            self._elements[separator, gaps] = found or of_array(self.identities, self.name, self.source)
        return self._elements[separator, gaps]

    def take(self, items: np.ndarray) -> Column:
        return Taken(self, items)

    @property
    def typed(self) -> np.ndarray:
        if self.is_category:
            return self.identities.astype(object)
        return self.identities if self.kind in ("integer", "integer-na", "boolean") else self.values

    @functools.cached_property
    def missing(self) -> np.ndarray:
        empty = self.identities == "" if self.kind in ("string", "bytes") else False
        return self.series.isna().to_numpy(bool) | empty

    def _texts(self, as_text: Callable[[Any], str]) -> np.ndarray:
        present = self.series.notna().to_numpy()
        values = np.full(len(self), "", dtype=object)
        values[present] = [as_text(cell) for cell in self.series.to_numpy(dtype=object)[present]]
        if as_text is _text_of_bytes and len(set(self.series[present])) != len(set(values[present])):
            raise InputError(f"column {self.name!r} mixes bytes that are UTF-8 with other bytes; make it text")
        return values

    def _numbers(self) -> np.ndarray:
        series, known = self.series, self.series.notna().to_numpy()
        if series.dtype != object and isinstance(series.dtype, np.dtype):
            values = series.to_numpy()
            return values.astype(np.int8) if values.dtype == bool else values
        if known.all() and self.kind != "mixed-integer-float":
            if (plain := _plain_integers(series.dtype)) is not None and self.kind == "integer":
                return series.to_numpy(plain)
            if self.kind == "boolean":
                return series.astype(bool).to_numpy().astype(np.int8)
            if self.kind == "integer" or (self.kind == "decimal" and _all_written_whole(series)):
                whole = _integers([int(cell) for cell in series])
                return whole if whole.dtype != object else series.astype("float64").to_numpy()
        numbers = np.full(len(series), np.nan)
        numbers[known] = series[known].astype("float64").to_numpy()
        return numbers

    def _exact_numbers(self) -> np.ndarray:
        """Numbers as ids. Integers are integers, and text if they are too long. Decimals and floats of a category type
        are text. The type of the column decides, not the values that it happens to hold."""
        kind, known = self.series.dtype, self.series.notna().to_numpy()
        if isinstance(kind, np.dtype) and kind.kind in "iub":
            return self.values
        if isinstance(kind, np.dtype) and kind.kind == "f":
            refuse_inexact(self.values, f"column {self.name!r}", self.source)
            return self.values
        if (plain := _plain_integers(kind)) is not None and (plain == np.int64 or known.all()):
            return self.series.to_numpy(plain, na_value=-1)
        cells = self.series.to_numpy(dtype=object)
        floats = [row for row in np.flatnonzero(known) if isinstance(cells[row], (float, np.floating))]
        if floats:
            numbers = np.full(len(cells), np.nan)
            numbers[known] = cells[known].astype(np.float64)
            refuse_inexact(numbers, f"column {self.name!r}", self.source)
            return self._texts(_number_text) if self.is_category else numbers
        if self.kind == "decimal":
            endless = np.array([isinstance(cell, decimal.Decimal) and not cell.is_finite() for cell in cells]) & known
            if endless.any():
                row = int(endless.argmax())
                raise InputError(f"column {self.name!r} holds {cells[row]!r} in {self.source.row(row)}: no id; leave "
                                 "the row out")
            return self._texts(_number_text)
        present = [int(cell) for cell in cells[known]]
        whole = _integers(present)
        if whole.dtype == object or (whole.dtype.kind == "u" and not known.all()):
            values = np.full(len(cells), "", dtype=object)
            values[known] = [str(cell) for cell in present]
            return values
        filled = np.full(len(cells), -1, whole.dtype) if not known.all() else np.empty(len(cells), whole.dtype)
        filled[known] = whole
        return filled

    def _times(self) -> np.ndarray:
        try:
            return pd.to_datetime(self.series, utc=True).dt.tz_localize(None).to_numpy()
        except (ValueError, TypeError, OverflowError) as error:
            raise InputError(f"column {self.name!r}: cannot read all dates: {error}; leave it out") from error

    def _refused(self, present: pd.Series) -> np.ndarray:
        """Raises for cells that are neither numbers nor text, or a mixture."""
        first = present.iloc[0]
        odd = next((place for place, cell in enumerate(present) if type(cell) is not type(first)), 0)
        row = int(np.flatnonzero(self.series.notna().to_numpy())[odd])
        cell, remedy = present.iloc[odd], f"or leave the column out (leave_out, --data.leave-out {self.name})"
        if odd:
            raise InputError(
                f"column {self.name!r} mixes types: {first!r} ({type(first).__name__}) and {cell!r} "
                f"({type(cell).__name__}) in {self.source.row(row)}; make it all numbers or all text, {remedy}"
            )
        raise InputError(f"column {self.name!r} holds {type(cell).__name__} cells, such as {cell!r} in "
                         f"{self.source.row(row)}, which are neither numbers nor text: convert it, {remedy}")


class TextCells(Cells):
    """A column of a text file. Its values have the type that all cells spell; as ids, the cells are text."""

    spells_numbers = True

    @functools.cached_property
    def spelled(self) -> Cells:
        return Cells(self.name, text_cells.typed(self.cells), self.source)

    @property
    def values(self) -> np.ndarray:
        return self.spelled.values

    @property
    def typed(self) -> np.ndarray:
        return self.spelled.typed


class Lacking(Column):
    """A column that one of several files does not have; reading it is an error.

    Args:
        message: the error.
        rows: number of rows of all files.
    """

    def __init__(self, message: str, rows: int):
        self.message, self.rows = message, rows

    def __len__(self) -> int:
        return self.rows

    @property
    def values(self) -> np.ndarray:
        raise InputError(self.message)

    identities = typed = whole = missing = values

    def elements(self, separator: str = "", gaps: bool = False) -> Ragged:
        raise InputError(self.message)

    def take(self, items: np.ndarray) -> Column:
        return Lacking(self.message, len(items))


def _text_of_bytes(cell: bytes) -> str:
    """UTF-8 where the bytes are that, else hexadecimal digits."""
    try:
        return cell.decode()
    except UnicodeDecodeError:
        return f"0x{cell.hex()}"


def _is_uuid(present: pd.Series) -> bool:
    return all(isinstance(cell, uuid.UUID) for cell in present)


def _all_written_whole(series: pd.Series) -> bool:
    return all(cell.is_finite() and int(cell.as_tuple().exponent) >= 0 for cell in series)


def _number_text(cell: Any) -> str:
    """The shortest text of a decimal or a float, equal for equal numbers."""
    if cell == int(cell):
        return str(int(cell))
    return format(cell, "f").rstrip("0") if isinstance(cell, decimal.Decimal) else str(float(cell))


def _plain_integers(kind: Any) -> np.dtype | None:
    """The type for the integers or booleans of pandas' nullable types; None for other types."""
    plain = getattr(kind, "numpy_dtype", np.dtype(object))
    return None if plain.kind not in "iub" else np.dtype(np.uint64 if plain == np.uint64 else np.int64)


def _integers(cells: list[int]) -> np.ndarray:
    """Integers in the first type that holds them all: int64, uint64, or objects."""
    low, high = min(cells, default=0), max(cells, default=0)
    fits = low >= _INT64.min and high <= _INT64.max
    return np.array(cells, np.int64 if fits else np.uint64 if low >= 0 and high <= _UINT64.max else object)
