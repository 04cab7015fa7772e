"""Columns whose cells are lists: :class:`Ragged` holds the elements of all cells, one cell after the other.

A cell is a list of Arrow (any of its list types), a list, tuple or array of Python, or text. Text that begins with
``[`` is a JSON list. Other text is split at a separator: the first of ``|``, ``;``, ``,`` and space that occurs in the
column; empty parts are dropped. If a separator is given, only a column of texts in brackets is a JSON list. As in a
text file, the parts of a text are text, which may spell numbers. A missing cell is an empty list. In a padded array
``[N, M]``, missing values (NaN, -1, ``""``) at the end of a row are padding.

Places matter in a vector. If a column is read with ``gaps``, empty parts of a text are missing elements instead, except
between spaces, and a row of an array has all its values, or none if all are NaN.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.compute

from tfmtl2r.data.stored import Column, Source
from tfmtl2r.errors import InputError

SEPARATORS = ("|", ";", ",", " ")


@dataclasses.dataclass(frozen=True)
class _Elements(Source):
    """Where the elements of lists came from: the rows of these lists."""

    cells: Source = dataclasses.field(default_factory=Source)
    ends: Any = None

    def row(self, number: int) -> str:
        return self.cells.row(int(np.searchsorted(self.ends, number, side="right")))


class Ragged(Column):
    """A column of lists.

    Args:
        flat: the elements of all lists.
        sizes: ``int64[N]``, the lengths of the lists.
        name: for messages.
        source: where the lists came from, for messages.
        separator: what splits the texts from which the lists came; empty for lists of another origin.
    """

    holds_lists = True

    def __init__(self, flat: Column, sizes: np.ndarray, name: str, source: Source, separator: str = ""):
        self.flat, self.sizes, self.name, self.source = flat, sizes.astype(np.int64), name, source
        self.separator = separator

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def values(self) -> np.ndarray:
        """``float32[N, D]``, if all lists have D numbers."""
        sizes = self.sizes
        if (sizes != sizes[0]).any() or sizes[0] < 1:
            row = int((sizes != sizes[0]).argmax())
            raise InputError(
                f"column {self.name!r} holds sequences of different lengths: {sizes[0]} in {self.source.row(0)}, "
                f"{sizes[row]} in {self.source.row(row)}; declare a bag or a sequence, give each the same number of "
                "components, or leave the column out"
            )
        values = self.flat.values
        if values.dtype.kind not in "iufb" or values.ndim > 1:
            raise InputError(f"column {self.name!r}: sequences must hold numbers, not {values.dtype}; declare a bag or "
                             "a sequence, or leave it out")
        return values.reshape(len(sizes), -1).astype(np.float32)

    identities = typed = whole = values

    @property
    def missing(self) -> np.ndarray:
        return self.sizes == 0

    def elements(self, separator: str = "", gaps: bool = False) -> Ragged:
        return self

    def take(self, items: np.ndarray) -> Ragged:
        return Ragged(self.flat.take(self.places(items)), self.sizes[items], self.name, self.source, self.separator)

    def places(self, items: np.ndarray) -> np.ndarray:
        """The elements of these lists, one list after the other."""
        sizes = self.sizes[items]
        first = (np.cumsum(self.sizes) - self.sizes)[items] - (np.cumsum(sizes) - sizes)
        return np.repeat(first, sizes) + np.arange(sizes.sum())

    def texts(self) -> np.ndarray:
        """Each list as one text, for fingerprints."""
        cells = np.array([str(cell) for cell in self.flat.values.tolist()] if len(self.flat) else [], object)
        ends = np.cumsum(self.sizes)
        spans = zip(ends - self.sizes, ends, strict=True)
        return np.array(["\0".join(cells[start:end]) for start, end in spans], object)


def of_array(array: np.ndarray, name: str, source: Source, gaps: bool = False) -> Ragged:
    """Lists from a padded array ``[N, M]``, or from an array ``[N]`` of lists of one."""
    rows = array.reshape(len(array), -1)
    if gaps and rows.dtype.kind in "iufb":
        sizes = np.where(np.isnan(rows.astype(np.float64)).all(axis=1), 0, rows.shape[1])
        return Ragged(Column(rows[sizes > 0].ravel()), sizes, name, source)
    missing = rows == ("" if rows.dtype.kind in "OU" else -1)
    if rows.dtype.kind == "f":
        missing = np.isnan(rows)
    sizes = np.where(missing.all(axis=1), 0, rows.shape[1] - (~missing[:, ::-1]).argmax(axis=1))
    return Ragged(Column(rows[np.arange(rows.shape[1]) < sizes[:, None]]), sizes, name, source)


def of_cells(cells: pd.Series | pyarrow.ChunkedArray, name: str, source: Source, separator: str, gaps: bool = False
             ) -> Ragged | None:
    """Lists from cells of pandas or Arrow; None for cells that are neither lists nor text."""
    if isinstance(cells, pd.Series) and isinstance(cells.dtype, pd.ArrowDtype):
        cells = pyarrow.chunked_array(pyarrow.array(cells.array, from_pandas=False))
    if isinstance(cells, pyarrow.ChunkedArray):
        if is_list_type(cells.type):
            sizes = pyarrow.compute.fill_null(pyarrow.compute.list_value_length(cells), 0)
            return _ragged(pyarrow.compute.list_flatten(cells), np.asarray(sizes), name, source)
        if pyarrow.types.is_dictionary(cells.type):
            cells = cells.cast(cells.type.value_type)
        texts = pyarrow.types.is_string(cells.type) or pyarrow.types.is_large_string(cells.type)
        return _split(cells.to_pylist(), name, source, separator, gaps) if texts else None
    present = cells[cells.notna()]
    if len(present) and isinstance(present.iloc[0], (list, tuple, np.ndarray)):
        return _of_objects(cells, name, source)
    if len(present) and all(isinstance(cell, str) for cell in present):
        return _split(cells, name, source, separator, gaps)
    return None


def is_list_type(kind: Any) -> bool:
    """Whether a type of Arrow is one of its list types."""
    return (pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind) or pyarrow.types.is_fixed_size_list(kind))


def _ragged(
    flat: Any, sizes: np.ndarray, name: str, source: Source, texts: bool = False, separator: str = ""
) -> Ragged:
    from tfmtl2r.data.cells import Cells, TextCells

    flat = flat if isinstance(flat, (pd.Series, pyarrow.ChunkedArray)) else pyarrow.chunked_array([flat])
    within = _Elements(source.files, cells=source, ends=np.cumsum(sizes))
    return Ragged((TextCells if texts else Cells)(name, flat, within), sizes, name, source, separator)


def _of_objects(cells: pd.Series, name: str, source: Source) -> Ragged:
    missing = cells.isna().to_numpy(bool)
    lists: list[Any] = [[] if gone else cell for gone, cell in zip(missing, cells, strict=True)]
    for row, cell in enumerate(lists):
        if not isinstance(cell, (list, tuple)) and not (isinstance(cell, np.ndarray) and cell.ndim == 1):
            raise InputError(f"column {name!r} mixes types: lists and {cell!r} ({type(cell).__name__}) in "
                             f"{source.row(row)}; make each cell a list, or leave the column out")
    sizes = np.array([len(cell) for cell in lists], np.int64)
    kinds = {cell.dtype.kind if isinstance(cell, np.ndarray) else "O" for cell in lists if len(cell)}
    if len(kinds) == 1 and "O" not in kinds:
        return _ragged(pd.Series(np.concatenate([cell for cell in lists if len(cell)])), sizes, name, source)
    flat = list(itertools.chain.from_iterable(cell.tolist() if isinstance(cell, np.ndarray) else cell
                                              for cell in lists))
    for place, cell in enumerate(flat):
        if isinstance(cell, (list, tuple, np.ndarray, dict, set)):
            row = int(np.searchsorted(np.cumsum(sizes), place, side="right"))
            raise InputError(f"column {name!r} holds lists of {type(cell).__name__} cells, in {source.row(row)}: an "
                             "element must be a number or a text; convert it, or leave the column out")
    whole = pd.Series(np.fromiter(flat, object, len(flat)), dtype=object)
    return _ragged(whole, sizes, name, source)


def _split(texts: Iterable[Any], name: str, source: Source, separator: str, gaps: bool) -> Ragged:
    """Lists from cells of text."""
    cells = [text.strip() if isinstance(text, str) else "" for text in texts]
    bracketed = [cell.startswith("[") and (not separator or cell.endswith("]")) for cell in cells if cell]
    if any(bracketed) and (not separator or all(bracketed)):
        separator, lists = "", [_json(cell, name, source, row) for row, cell in enumerate(cells)]
    else:
        separator = separator or next((one for one in SEPARATORS if any(one in cell for cell in cells)), "")
        gaps = gaps and bool(separator.strip())
        if gaps and all(cell.endswith(separator) for cell in cells if cell):  # a separator behind every element
            cells = [cell.removesuffix(separator) for cell in cells]
        lists = [[part or None for part in map(str.strip, cell.split(separator or " ")) if part or (gaps and cell)]
                 for cell in cells]
    sizes = np.array([len(parts) for parts in lists], np.int64)
    try:
        flat = pyarrow.array(list(itertools.chain.from_iterable(lists)), pyarrow.string())
    except (UnicodeEncodeError, pyarrow.ArrowException) as error:
        raise InputError(f"column {name!r} holds text that is not Unicode: {error}; leave it out") from error
    return _ragged(flat, sizes, name, source, texts=True, separator=separator)


def _json(cell: str, name: str, source: Source, row: int) -> list[str | None]:
    if cell in ("", "null"):
        return []
    try:
        found = json.loads(cell, parse_int=str, parse_float=str, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(one is None or isinstance(one, (str, bool)) for one in found):
        raise InputError(f"column {name!r} holds {cell[:80]!r} in {source.row(row)}, but other cells are JSON lists: "
                         "make each cell a JSON list of numbers or texts, such as [1, 2], or leave it empty")
    return [str(one).lower() if isinstance(one, bool) else one for one in found]
