"""Converts tables to lists: :func:`read_table` reads a file, and :func:`from_frame` groups its rows."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.csv
import pyarrow.parquet

from tfmtl2r.data.lists import Lists, missing_column
from tfmtl2r.errors import InputError, MissingFileError

SUFFIXES = (".parquet", ".csv", ".csv.gz")


def from_frame(frame: pd.DataFrame, list_id: str | None = None, context: Sequence[str] = ()) -> Lists:
    """Groups the rows of a table into lists.

    Lists are in the order in which their ids first appear. The rows of a list keep their order and need not be
    adjacent. Missing numbers become NaN, missing text becomes ``""``, and booleans become 0 and 1. A column whose cells
    are sequences of numbers with the same length becomes ``[N, D]``.

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
    _check_names(frame.columns)
    for name in [*([list_id] if list_id else []), *context]:
        if name not in frame.columns:
            hint = "; it is the index of the frame: call reset_index() first" if name in frame.index.names else ""
            raise InputError(missing_column(name, frame.columns) + hint)
    columns = {str(name): _values(frame[name]) for name in frame.columns}
    if list_id is None:
        return Lists(columns, context=tuple(context))
    missing = frame[list_id].isna().to_numpy()
    if columns[list_id].dtype.kind == "O":
        missing = missing | (columns[list_id] == "")
    if missing.any():
        raise InputError(
            f"the list id {list_id!r} is missing in {int(missing.sum())} of {len(frame)} rows, first in row "
            f"{int(missing.argmax())} (counted from 0): each row must belong to a list; fill or drop these rows"
        )
    codes, ids = pd.factorize(columns[list_id])
    order = np.argsort(codes, kind="stable")
    return Lists(
        {name: values[order] for name, values in columns.items()},
        offsets=np.concatenate([[0], np.cumsum(np.bincount(codes))]),
        ids=np.asarray(ids),
        context=tuple(context),
        list_id=list_id,
        source_rows=order,
    )


def read_table(path: str | Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Reads a ``.parquet``, ``.csv`` or ``.csv.gz`` file.

    In CSV files, an empty cell is a missing value. ``NA``, ``NaN`` and ``null`` are missing values in a column of
    numbers, and ordinary text in a column of text. Every row must have as many cells as the header.

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
    path = Path(path)
    if not path.name.endswith(SUFFIXES):
        raise InputError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise MissingFileError(f"{path}: there is no such file")
    try:
        table = pyarrow.parquet.read_table(path) if path.suffix == ".parquet" else _read_csv(path)
    except (pyarrow.ArrowInvalid, gzip.BadGzipFile, EOFError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    _check_names(table.column_names, f"{path}: ")
    for name in columns or ():
        if name not in table.column_names:
            raise InputError(missing_column(name, table.column_names, str(path)))
    if table.num_rows == 0:
        raise InputError(f"{path}: the table is empty: it has {table.num_columns} columns and no rows")
    return (table if columns is None else table.select(list(columns))).to_pandas()


def _read_csv(path: Path) -> pyarrow.Table:
    content = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    # One block for the whole file: Arrow infers a column's type from the first block, and a later "1.5" or "a" would
    # be an error. The limit of a block is an int32.
    block = min(max(len(content), 1) + 1, 2**31 - 1)
    return pyarrow.csv.read_csv(
        pyarrow.BufferReader(content),
        read_options=pyarrow.csv.ReadOptions(block_size=block),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
    )


def _check_names(names: Iterable[Any], where: str = "") -> None:
    names = [str(name) for name in names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{where}two columns are called {twice[0]!r}; rename or drop one")


def _values(series: pd.Series) -> np.ndarray:
    """A column as numbers with NaN, as text with ``""``, or as ``[N, D]``; datetimes stay datetimes."""
    kind = pd.api.types.infer_dtype(series, skipna=True)
    if kind in ("string", "bytes", "categorical", "empty"):
        return _texts_or_numbers(series, kind)
    if kind in ("boolean", "integer", "floating", "decimal", "integer-na", "mixed-integer-float"):
        return _numbers(series)
    if kind.startswith(("datetime", "date")):
        return pd.to_datetime(series).to_numpy()
    if kind.startswith("timedelta"):
        return series.to_numpy()
    present = series.dropna()
    if all(isinstance(cell, (list, tuple, np.ndarray)) for cell in present):
        return _vectors(series)
    first = type(present.iloc[0])
    odd = next((cell for cell in present if type(cell) is not first), present.iloc[0])
    row = next(i for i, cell in enumerate(series) if cell is odd)
    raise InputError(
        f"column {series.name!r} mixes types: {present.iloc[0]!r} ({first.__name__}) and {odd!r} "
        f"({type(odd).__name__}) in row {row} (counted from 0); make it all numbers or all text"
    )


def _texts_or_numbers(series: pd.Series, kind: str) -> np.ndarray:
    if kind == "empty":
        return np.full(len(series), np.nan)
    if kind == "categorical":
        return _values(series.astype(object))
    texts = series.to_numpy(dtype=object)
    present = series.notna().to_numpy()
    decoded = (t.decode() if isinstance(t, bytes) else str(t) for t in texts[present])
    values = np.full(len(texts), "", dtype=object)
    values[present] = list(decoded)
    return values


def _numbers(series: pd.Series) -> np.ndarray:
    missing = series.isna().to_numpy()
    if missing.any() or series.dtype == object:
        numbers = np.full(len(series), np.nan)
        numbers[~missing] = series[~missing].astype("float64").to_numpy()
        whole = not missing.any() and pd.api.types.infer_dtype(series) in ("integer", "boolean")
        return series.astype("int64").to_numpy() if whole else numbers
    values = series.to_numpy()
    if values.dtype == object:  # pandas' nullable types without a missing value
        values = series.astype("int64" if pd.api.types.infer_dtype(series) == "integer" else "float64").to_numpy()
    if values.dtype == bool:
        return values.astype(np.int8)
    if values.dtype.kind == "u" and values.max() > np.iinfo(np.int64).max:
        raise InputError(f"column {series.name!r} holds {values.max()}, more than a 64-bit integer; make it text")
    return values


def _vectors(series: pd.Series) -> np.ndarray:
    """Cells that are sequences of numbers, stacked to ``float32[N, D]``."""
    lengths = np.array([-1 if cell is None or np.isscalar(cell) else len(cell) for cell in series])
    if (lengths != lengths[0]).any() or lengths[0] < 1:
        row = int((lengths != lengths[0]).argmax())
        raise InputError(
            f"column {series.name!r} holds sequences of different lengths: {lengths[0]} in row 0, {lengths[row]} in "
            f"row {row} (counted from 0; -1 is a missing one); each must have the same number of components"
        )
    try:
        return np.stack([np.asarray(cell, np.float32) for cell in series])
    except (TypeError, ValueError) as error:
        raise InputError(f"column {series.name!r}: sequences must hold numbers: {error}") from error
