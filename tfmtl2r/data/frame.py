"""Reads files as frames (:func:`read_table`) or lists (:func:`read_lists`), and groups frames (:func:`from_frame`)."""

from __future__ import annotations

import base64
import gzip
import io
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from tfmtl2r.data import text_cells
from tfmtl2r.data.cells import Cells, Lacking, TextCells, series_of
from tfmtl2r.data.damage import readable
from tfmtl2r.data.delimiters import header, parsing, tell_decimal_commas
from tfmtl2r.data.encoding import not_utf8
from tfmtl2r.data.lists import Lists, missing_column
from tfmtl2r.data.stored import Column, Source
from tfmtl2r.errors import InputError, InputTypeError, MissingFileError

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".tsv", ".tsv.gz")
_UNNAMED = re.compile(r"(Unnamed: \d+|__index_level_\d+__)?")
"""The names that pandas gives to a column without name, such as an index that was written into the file."""
log = logging.getLogger("tfmtl2r")


def from_frame(frame: pd.DataFrame, list_id: str | None = None, context: Sequence[str] = ()) -> Lists:
    """Groups the rows of a table into lists.

    Lists are in the order in which their ids first appear. The rows of a list keep their order and need not be
    adjacent. Columns are converted when they are read. Missing numbers become NaN, missing text becomes ``""``, and
    booleans become 0 and 1. A column whose cells are sequences of numbers with the same length becomes ``[N, D]``.

    List ids are exact: integers of 64 bits, integral decimals, text, bytes, UUIDs, dates. Floats from 2**53 on are no
    ids, and are refused.

    Args:
        frame: a table of N rows.
        list_id: column with the id of a row's list (query, user, session); None for plain rows.
        context: columns with one value per list, for example features of the user.

    Raises:
        ValueError: for an empty table, a missing column, two columns with the same name, a missing list id, a context
            column that varies within a list, or cells of mixed types.

    >>> lists = from_frame(pd.DataFrame({"user": ["b", "a", "b"], "price": [1, 2, 3]}), list_id="user")
    >>> lists.ids.tolist(), lists.sizes.tolist(), lists.columns["price"].tolist()
    (['b', 'a'], [2, 1], [1, 3, 2])
    """
    if len(frame) == 0:
        raise InputError(f"the table is empty: it has {len(frame.columns)} columns and no rows")
    check_names(frame.columns)
    names = [str(name) for name in frame.columns]
    columns = {name: Cells(name, frame.iloc[:, place], Source()) for place, name in enumerate(names)}
    return grouped(columns, list_id, context, frame.index.names)


def grouped(
    columns: Mapping[str, Any], list_id: str | None = None, context: Sequence[str] = (), index: Iterable[Any] = (),
    source: Source | None = None,
) -> Lists:
    """Groups rows into lists; see :func:`from_frame`.

    Args:
        columns: the columns by name.
        list_id, context: as for :func:`from_frame`.
        index: names that are the index of a frame, for messages.
        source: where the rows came from, for messages.
    """
    source = source or Source()
    list_id, context = _one_name(list_id), _names(context)
    columns = {name: column for name, column in columns.items()
               if name in (list_id, *context) or not left_out(name, source)}
    for name in [*([] if list_id is None else [list_id]), *context]:
        if name not in columns:
            hint = "; it is the index of the frame: call reset_index() first" if name in map(str, index) else ""
            raise InputError(missing_column(name, columns) + hint)
    if list_id is None:
        return Lists(columns, context=context, source=source)
    ids = columns[list_id]
    identities, missing = ids.identities, ids.missing
    if missing.any():
        raise InputError(
            f"the list id {list_id!r} is missing in {int(missing.sum())} of {len(missing)} rows, first in "
            f"{source.row(int(missing.argmax()))}: each row must belong to a list; fill or drop these rows"
        )
    if identities.ndim > 1:
        raise InputError(f"the list id {list_id!r} holds sequences, which are no ids: make one number or text of each")
    codes, found = pd.factorize(identities)
    order = np.argsort(codes, kind="stable")
    return Lists(
        {name: Column(identities[order]) if name == list_id else column.take(order)
         for name, column in columns.items()},
        offsets=np.concatenate([[0], np.cumsum(np.bincount(codes))]),
        ids=np.asarray(found),
        context=context,
        list_id=list_id,
        source_rows=order,
        source=source,
    )


def _one_name(name: Any) -> str | None:
    """The name of a column, which pandas allows to be a number."""
    if name is None:
        return None
    if isinstance(name, (list, tuple, set, pd.Index, np.ndarray)):
        raise InputTypeError(
            f"list_id names one column, not {list(name)}: make one column of them first, such as "
            "frame['list'] = frame['user'].astype(str) + '|' + frame['day'].astype(str)")
    return str(name)


def _names(names: Any) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(str(name) for name in names)


def left_out(name: str, source: Source) -> bool:
    """Whether a column has no name; such a column is an index, which is no feature."""
    if not _UNNAMED.fullmatch(name):
        return False
    where = "".join(f"{path}: " for path, _ in source.files[:1])
    log.warning("%sthe column %r has no name and is left out: it looks like an index; write tables with index=False, "
                "or name the column", where, name)
    return True


def read_table(path: str | Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Reads a ``.parquet``, ``.csv``, ``.csv.gz``, ``.tsv`` or ``.tsv.gz`` file.

    A comma divides the cells of a CSV file, or a semicolon, a tab or a bar if the header has no comma. An empty cell is
    a missing value. ``NA``, ``NaN`` and ``null`` are missing values in a column of numbers, and ordinary text in a
    column of text. Every row must have as many cells as the header.

    Args:
        path: the file.
        columns: the columns to read; all if None.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: for another kind of file, a malformed or empty one, or a missing column (with the nearest names).

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "rows.csv"
    >>> _ = path.write_text("user,price,country\\n1,2.5,NA\\n1,,FR\\n")
    >>> read_table(path).values.tolist()
    [[1, 2.5, 'NA'], [1, nan, 'FR']]
    """
    table = read_arrow(path)
    for name in columns or ():
        if name not in table.column_names:
            raise InputError(missing_column(name, table.column_names, str(path)))
    found = table if columns is None else table.select(list(columns))
    is_text = is_text_file(path)
    return pd.DataFrame({name: series_of(text_cells.typed(column) if is_text else column, name)
                         for name, column in zip(found.column_names, found.columns, strict=True)})


def _read_columns(paths: Sequence[str | Path], separator: str) -> tuple[dict[str, Any], Source]:
    """The columns of several files, one after the other, which convert when they are read; see :func:`read_table`."""
    tables = [read_arrow(path) for path in paths]
    source = Source(tuple((str(path), table.num_rows) for path, table in zip(paths, tables, strict=True)))
    kind = TextCells if are_text_files(paths) else Cells
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for table in tables for name in table.column_names):
        without = [path for path, table in zip(paths, tables, strict=True) if name not in table.column_names]
        if without:
            message = f"{without[0]} has no column {name!r}, but other files have it: add it, or leave it out"
            found[name] = Lacking(message, sum(table.num_rows for table in tables))
        else:
            found[name] = kind(name, _joined([table[name] for table in tables], name), source, separator)
    return found, source


def read_lists(
    paths: Sequence[str | Path], list_id: str | None = None, context: Sequence[str] = (), separator: str = ""
) -> Lists:
    """Reads the rows of several files, and groups them into lists.

    In a text file, a list id is text, and so is every column that is read as text, whatever it spells.

    Args:
        paths: the files; see :func:`read_table`. Reading a column that one of them lacks is an error.
        list_id, context: as for :func:`from_frame`.
        separator: splits a cell of text that is read as a list; empty to choose it from each column.

    Raises:
        ValueError: see :func:`read_table` and :func:`from_frame`.
    """
    columns, source = _read_columns(paths, separator)
    try:
        return grouped(columns, list_id, context, source=source)
    except ValueError as error:
        where = ", ".join(map(str, paths))
        raise InputError(str(error) if str(paths[0]) in str(error) else f"{where}: {error}") from error


def _joined(parts: list[pyarrow.ChunkedArray], name: str) -> pyarrow.ChunkedArray | pd.Series:
    """The parts of a column, one after the other. It is a category if one of the parts is."""
    category = any(pyarrow.types.is_dictionary(part.type) for part in parts)
    if category:
        parts = [part.cast(part.type.value_type) if pyarrow.types.is_dictionary(part.type) else part for part in parts]
    if len({part.type for part in parts}) > 1:
        # Such as int32 and int64. pandas finds a common type, or the column mixes types.
        cells = pd.concat([series_of(part, name).astype(object) for part in parts], ignore_index=True)
        return cells.astype("category") if category else cells
    joined = pyarrow.chunked_array([chunk for part in parts for chunk in part.chunks], parts[0].type)
    return joined.dictionary_encode() if category else joined


def is_text_file(path: str | Path) -> bool:
    """Whether a file holds text, in which types are spelled."""
    return not str(path).endswith(".parquet")


def are_text_files(paths: Sequence[str | Path]) -> bool:
    """Whether files, which belong to one table, hold text.

    Raises:
        ValueError: if some do and others do not, since text such as 007 may be a number or not.
    """
    texts = [is_text_file(path) for path in paths]
    if any(texts) and not all(texts):
        raise InputError(f"{paths[0]} and {paths[texts.index(not texts[0])]}: one is a text file and the other is not; "
                         "convert all files to Parquet or all to CSV")
    return texts[0]


def read_arrow(path: str | Path) -> pyarrow.Table:
    """The table of a file, in which all columns of a text file are text. See :func:`read_table` for errors."""
    path = Path(path)
    if not path.name.endswith(SUFFIXES):
        raise InputError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise MissingFileError(f"{path}: there is no such file")
    with readable(path):
        table = _read_csv(path) if is_text_file(path) else _read_parquet(path)
    check_names(table.column_names, f"{path}: ")
    if table.num_rows == 0:
        raise InputError(f"{path}: the table is empty: it has {table.num_columns} columns and no rows")
    return table


def _read_parquet(path: Path) -> pyarrow.Table:
    """The table with the dictionary types that it was written with; Parquet keeps them for text only."""
    return as_written(pyarrow.parquet.read_table(path), pyarrow.parquet.read_metadata(path).metadata)


def as_written(table: pyarrow.Table, metadata: Mapping[bytes, bytes] | None) -> pyarrow.Table:
    """A table of a Parquet file, with the dictionary types of the table that was written.

    Args:
        table: all rows, or some of them.
        metadata: the metadata of the file.
    """
    written = (metadata or {}).get(b"ARROW:schema")
    for field in pyarrow.ipc.read_schema(pyarrow.py_buffer(base64.b64decode(written))) if written else ():
        place = table.schema.get_field_index(field.name)
        if pyarrow.types.is_dictionary(field.type) and not pyarrow.types.is_dictionary(table.schema.types[place]):
            table = table.set_column(place, field.name, table[place].dictionary_encode())
    return table


def _read_csv(path: Path) -> pyarrow.Table:
    content = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    if wrong := not_utf8(content):
        raise InputError(f"{path}: {wrong}")
    names, delimiter = header(io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline=""), path)
    # One block for the whole file, since a column may hold long texts. The limit of a block is an int32.
    block = min(max(len(content), 1) + 1, 2**31 - 1)
    table = pyarrow.csv.read_csv(pyarrow.BufferReader(content), pyarrow.csv.ReadOptions(block_size=block),
                                 **parsing(names, delimiter))
    tell_decimal_commas(table, delimiter, path)
    return table


def check_names(names: Iterable[Any], where: str = "") -> None:
    names = [str(name) for name in names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{where}two columns are called {twice[0]!r}; rename or drop one")
