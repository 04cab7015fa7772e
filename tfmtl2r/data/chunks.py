"""Reads files of any size piece by piece, each with whole lists, so that the memory does not grow with the files."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

from tfmtl2r.data.cells import Cells, TextCells
from tfmtl2r.data.damage import readable
from tfmtl2r.data.delimiters import header, parsing
from tfmtl2r.data.frame import are_text_files, as_written, check_names, grouped, is_text_file
from tfmtl2r.data.lists import Lists, missing_column
from tfmtl2r.data.own_files import Reading
from tfmtl2r.data.ragged import is_list_type
from tfmtl2r.data.stored import Source
from tfmtl2r.errors import InputError, MissingFileError

ROWS = 65_536
_BLOCK = 1 << 24
_UNKNOWN = 1 << 62
"""Stands for the number of rows of a file that has not been read to its end."""


def chunks(
    paths: Sequence[Path], reading: Reading, keep: Sequence[str] | None = (), rows: int = ROWS
) -> Iterator[tuple[pyarrow.Table, Lists]]:
    """Yields the rows of files in their order, in pieces of about ``rows`` rows; every list is in one piece.

    The memory is that of a piece, of the longest list, and of eight bytes for each list. A piece grows while its lists
    are not complete, such as those of a file whose lists are mixed. LETOR and TFRecord files are one piece.

    Args:
        paths: the files.
        reading: how they are read.
        keep: names of the columns to yield beside the lists, unchanged; None for all.
        rows: rows that are read at a time; of text, at least those of 16 MB are in memory.

    Yields:
        The kept columns in the order of the rows, and the lists, whose ``source_rows`` are the rows of the piece.

    Raises:
        FileNotFoundError: for a missing file.
        ValueError: for a malformed file, a missing column, files with different columns, or a list that comes again
            after it was complete.
    """
    if reading.kind != "table":
        lists = reading.lists(paths)
        yield _kept(lists, list(lists.columns) if keep is None else keep), lists
        return
    are_text_files(paths)
    seen: list[np.ndarray] = []
    first, rest = 0, None
    for table, files, last in _with_last(_tables(paths, rows)):
        whole = table if rest is None else pyarrow.concat_tables([rest, table])
        end = len(whole) if last or reading.list_id is None else _end(_ids(whole, reading, paths))
        part, rest = whole.slice(0, end), whole.slice(end)
        if end:
            lists = _lists(part, reading, Source(files, first), str(paths[0]))
            _check_new(lists, seen)
            first += end
            yield part if keep is None else part.select(_known(keep, part, paths)), lists


def _tables(paths: Sequence[Path], rows: int) -> Iterator[tuple[pyarrow.Table, tuple[tuple[str, int], ...]]]:
    """The rows of all files, each piece with the names of the files so far."""
    done: list[tuple[str, int]] = []
    names: pyarrow.Schema | None = None
    for path in paths:
        count = 0
        for table in _of_file(path, rows):
            names = names or table.schema
            if set(table.column_names) != set(names.names):
                odd = sorted(set(table.column_names) ^ set(names.names))[0]
                raise InputError(f"{path} and {paths[0]} have different columns: only one has {odd!r}")
            count += len(table)
            columns = [_cast(table[field.name], field, f"{path} and {paths[0]}") for field in names]
            yield pyarrow.Table.from_arrays(columns, schema=names), (*done, (str(path), _UNKNOWN))
        if not count:
            raise InputError(f"{path}: the table is empty: it has no rows")
        done.append((str(path), count))


def _cast(cells: pyarrow.ChunkedArray, field: pyarrow.Field, where: str) -> pyarrow.ChunkedArray:
    """A column in the type that it has in the first file, if every value keeps its meaning and all of its digits."""
    if cells.type == field.type:
        return cells
    types = pyarrow.types
    try:
        if not types.is_null(cells.type) and _family(cells.type) != _family(field.type):
            raise pyarrow.ArrowInvalid("these types differ in meaning")
        found = cells.cast(field.type)
        back = found.cast(field.type.value_type) if types.is_dictionary(field.type) else found
        before = cells.cast(cells.type.value_type) if types.is_dictionary(cells.type) else cells
        if not types.is_null(cells.type) and not _same(back.cast(before.type, safe=False), before):
            raise pyarrow.ArrowInvalid("the values would lose digits")
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
        raise InputError(f"{where}: their columns {field.name!r} have other types, {cells.type} and {field.type}: "
                         f"{error}; convert the files to one type") from error
    return found


def _same(one: pyarrow.ChunkedArray, other: pyarrow.ChunkedArray) -> bool:
    """Whether two columns of one type have the same cells."""
    while is_list_type(one.type):
        one, other = pyarrow.compute.list_flatten(one), pyarrow.compute.list_flatten(other)
    if not pyarrow.types.is_floating(one.type):
        return bool(one.equals(other))
    same = pyarrow.compute.or_(pyarrow.compute.equal(one, other), pyarrow.compute.is_nan(other))
    return bool(pyarrow.compute.all(same, min_count=0).as_py())


def _family(kind: pyarrow.DataType) -> str:
    """What values of a type are, whatever their width."""
    types = pyarrow.types
    if types.is_dictionary(kind) or is_list_type(kind):
        return "list of " * is_list_type(kind) + _family(kind.value_type)
    families = {
        "number": (types.is_integer, types.is_floating), "text": (types.is_string, types.is_large_string),
        "bytes": (types.is_binary, types.is_large_binary), "time": (types.is_timestamp, types.is_date),
        "decimal": (types.is_decimal,),
    }
    return next((name for name, tests in families.items() if any(test(kind) for test in tests)), str(kind))


def _of_file(path: Path, rows: int) -> Iterator[pyarrow.Table]:
    if not path.is_file():
        raise MissingFileError(f"{path}: there is no such file")
    with readable(path):
        if is_text_file(path):
            found = _in_pieces(_csv(path), rows)
        else:
            file = pyarrow.parquet.ParquetFile(path)
            found = (as_written(table, file.metadata.metadata) for table in _in_pieces(file.iter_batches(rows), rows))
        for table in found:
            check_names(table.column_names, f"{path}: ")
            if len(table):
                yield table


def _in_pieces(batches: Iterator[pyarrow.RecordBatch], rows: int) -> Iterator[pyarrow.Table]:
    """The rows of batches of any size, in pieces of ``rows`` rows."""
    held: pyarrow.Table | None = None
    for batch in batches:
        table = pyarrow.Table.from_batches([batch])
        held = table if held is None else pyarrow.concat_tables([held, table])
        whole = len(held) // rows * rows
        yield from (held.slice(start, rows) for start in range(0, whole, rows))
        held = held.slice(whole)
    if held is not None:
        yield held


def _csv(path: Path) -> Iterator[pyarrow.RecordBatch]:
    opened: Any = gzip.open if path.name.endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        names, delimiter = header(file, path)
    if not names:
        raise InputError(f"{path}: the table is empty: it has no header")
    yield from pyarrow.csv.open_csv(path, read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK),
                                    **parsing(names, delimiter))


def _with_last(pieces: Iterator[tuple[pyarrow.Table, tuple]]) -> Iterator[tuple[pyarrow.Table, tuple, bool]]:
    """Each piece, and whether it is the last one."""
    before = next(pieces, None)
    for piece in itertools.chain(pieces, [None]):
        if before is not None:
            yield *before, piece is None
        before = piece


def _cells(table: pyarrow.Table, name: str, reading: Reading, source: Source, path: str) -> Cells:
    return (TextCells if is_text_file(path) else Cells)(name, table[name], source, reading.separator)


def _ids(table: pyarrow.Table, reading: Reading, paths: Sequence[Path]) -> np.ndarray:
    [name] = _known([str(reading.list_id)], table, paths)
    return _cells(table, name, reading, Source(), str(paths[0])).identities


def _lists(table: pyarrow.Table, reading: Reading, source: Source, path: str) -> Lists:
    columns = {name: _cells(table, name, reading, source, path) for name in table.column_names}
    return reading.made(grouped(columns, reading.list_id, (), source=source))


def _known(names: Sequence[str], table: pyarrow.Table, paths: Sequence[Path]) -> list[str]:
    for name in names:
        if name not in table.column_names:
            raise InputError(missing_column(name, table.column_names, str(paths[0])))
    return list(names)


def _end(ids: np.ndarray) -> int:
    """The number of rows at the start whose lists have no row behind them, without the list of the last row.

    >>> _end(np.array([7, 7, 8, 9, 8, 9])), _end(np.array([7, 8, 7])), _end(np.array([7, 8, 9, 8, 5, 5]))
    (2, 0, 4)
    """
    codes, _ = pd.factorize(ids)
    first = np.unique(codes, return_index=True)[1][codes]
    behind = np.minimum.accumulate(first[::-1])[::-1]
    possible = np.flatnonzero(behind[: first[-1] + 1] >= np.arange(first[-1] + 1))
    return int(possible[-1])


def _check_new(lists: Lists, seen: list[np.ndarray]) -> None:
    """Adds the digests of lists to those of all lists so far; a list that comes again is an error.

    The digests are in sorted arrays, of which each is more than twice as long as the next one.
    """
    if lists.is_rows or lists.ids is None or lists.offsets is None:
        return
    digests = pd.util.hash_array(np.asarray(lists.ids))
    again = np.zeros(len(digests), bool)
    for part in seen:
        again |= part[np.minimum(np.searchsorted(part, digests), len(part) - 1)] == digests
    if again.any():
        number = int(again.argmax())
        raise InputError(f"the rows of list {lists.ids[number]!s} are far apart: it comes again in "
                         f"{lists.place(int(lists.offsets[number]))}, after these lists were read; sort the rows "
                         "by the id of the list, or read more rows at a time")
    seen.append(np.sort(digests))
    while len(seen) > 1 and len(seen[-2]) <= 2 * len(seen[-1]):
        seen[-2:] = [np.union1d(seen[-2], seen[-1])]


def _kept(lists: Lists, names: Sequence[str]) -> pyarrow.Table:
    """Columns of lists in the order of their rows; a missing number is null."""
    found = {}
    for name in names:
        column = lists.kept(name)
        cells = lists.in_order_of_rows(column.identities)
        gone = lists.in_order_of_rows(column.missing) & (cells.dtype.kind in "iuf" and cells.ndim == 1)
        found[name] = pyarrow.array([None if no else cell for no, cell in zip(gone, cells.tolist(), strict=True)])
    return pyarrow.table(found)
