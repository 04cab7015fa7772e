"""The type of a column of a text file, which follows from all of its cells."""

from __future__ import annotations

import pyarrow
import pyarrow.compute

from tfmtl2r.features.base import MISSING

_CODES = r"^[+-]?0[0-9xX]"
_DIGITS = r"^[+-]?[0-9]+$"
_TYPES = (pyarrow.int64(), pyarrow.uint64(), pyarrow.float64(), pyarrow.bool_(), pyarrow.date32(),
          pyarrow.timestamp("s"), pyarrow.timestamp("ns"), pyarrow.timestamp("ns", "UTC"))


def typed(texts: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    """A column of text as numbers, booleans, dates or times, if every cell that is not missing spells one.

    Numbers with leading zeros and integers of more than 64 bits are codes, and stay text.

    Args:
        texts: the cells; an empty one is missing.

    >>> typed(pyarrow.chunked_array([["1", "2.5", "NA"]])).to_pylist()
    [1.0, 2.5, None]
    >>> typed(pyarrow.chunked_array([["07", "7"]])).to_pylist()
    ['07', '7']
    """
    cells = pyarrow.compute.utf8_trim_whitespace(texts)
    missing = pyarrow.compute.is_in(cells, pyarrow.array(MISSING, cells.type))
    cells = pyarrow.compute.if_else(missing, pyarrow.scalar(None, cells.type), cells)
    if cells.null_count == len(cells):
        return cells.cast(pyarrow.float64())
    if _any(pyarrow.compute.match_substring_regex(cells, _CODES)):
        return _texts(texts)
    for kind in _TYPES:
        try:
            found = cells.cast(kind)
        except pyarrow.ArrowInvalid:
            continue
        if kind == pyarrow.float64() and _long(cells):
            break
        return found
    return _texts(texts)


def _long(cells: pyarrow.ChunkedArray) -> bool:
    """Whether all cells are integers, of which some do not fit into 64 bits."""
    return bool(pyarrow.compute.all(pyarrow.compute.match_substring_regex(cells, _DIGITS)).as_py())


def _any(found: pyarrow.ChunkedArray) -> bool:
    return bool(pyarrow.compute.any(found).as_py())


def _texts(texts: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    """Text, in which only an empty cell is missing."""
    return pyarrow.compute.if_else(pyarrow.compute.equal(texts, ""), pyarrow.scalar(None, texts.type), texts)
