"""Tables that do not fit into memory: DuckDB sorts the rows into lists in a file, whose columns are read one at a time.

The lists, their order and all values are those of :func:`tfmtl2r.data.read_lists`. DuckDB spills to the disk what does
not fit into its share of memory. A column that is read needs memory for itself, and the last one that was read is kept.
"""

from __future__ import annotations

import functools
import gzip
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet

from tfmtl2r.data.cells import Cells, TextCells
from tfmtl2r.data.delimiters import header, parsing
from tfmtl2r.data.frame import are_text_files, as_written, check_names, is_text_file, left_out
from tfmtl2r.data.lists import Lists, missing_column
from tfmtl2r.data.ragged import Ragged, is_list_type
from tfmtl2r.data.stored import Column, Source
from tfmtl2r.errors import InputError, MissingFileError, MissingPackageError
from tfmtl2r.writing import remove_parts, write_json, written

MEMORY = "1GB"
"""The memory in which DuckDB sorts; more goes to the disk."""
_BATCH = 1 << 16
_BLOCK = 1 << 24
ROW = "row"


def read_sorted(
    paths: Sequence[Path], work: Path, list_id: str | None = None, context: Sequence[str] = (), separator: str = ""
) -> Lists:
    """Groups the rows of Parquet or CSV files into lists, in a file. Rows that are sorted already stay.

    Args:
        paths: the files; all must have the same columns.
        work: a folder for the sorted rows and DuckDB's temporary files. It belongs to these files alone.
        list_id, context, separator: as for :func:`tfmtl2r.data.read_lists`.

    Raises:
        ValueError: as for :func:`tfmtl2r.data.read_lists`; also for files with different columns.
        ImportError: without DuckDB.
    """
    text = are_text_files(paths)
    schema = _schema(paths)
    for name in [*([] if list_id is None else [list_id]), *context]:
        if name not in schema.names:
            raise InputError(f"{paths[0]}: {missing_column(name, schema.names)}")
    done = work / "sorted.json"
    if not done.is_file():
        remove_parts(work)
        write_json(done, _sort(paths, schema, list_id, work))
    counts = json.loads(done.read_text())
    source = Source(tuple((str(path), rows) for path, rows in zip(paths, counts["rows"], strict=True)))
    table = SortedRows(work / "sorted.parquet", schema, source, separator, text)
    columns: dict[str, Any] = {name: OnDisk(table, name) for name in schema.names
                               if name in (list_id, *context) or not left_out(name, source)}
    if list_id is None:
        return Lists(columns, context=tuple(context), source=source)
    columns[list_id] = Ids(table, list_id)
    sizes = np.load(work / "sizes.npy")
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return Lists(columns, offsets, columns[list_id].values[offsets[:-1]], tuple(context), list_id, table.rows, source)


class ColumnFiles:
    """Columns in files, which are read one at a time. The last one that was read is kept."""

    def __init__(self) -> None:
        self.column = functools.lru_cache(maxsize=1)(self._column)
        self._taken: tuple[Any, ...] = (None, None, None)

    def rows_of(self, before: np.ndarray | None, items: np.ndarray) -> np.ndarray:
        """Rows of rows. All columns take the same rows of a table and share the result."""
        if before is None:
            return items
        if self._taken[0] is not before or self._taken[1] is not items:
            self._taken = (before, items, before[items])
        found: np.ndarray = self._taken[2]
        return found

    def _column(self, name: str) -> Any:
        raise NotImplementedError


class SortedRows(ColumnFiles):
    """The columns of a file of sorted rows.

    Args:
        path: the file.
        schema: names and types of the columns in the files from which the rows came.
        source: these files.
        separator: what splits a cell of text that is a list.
        text: whether the files are text files.
    """

    def __init__(self, path: Path, schema: pyarrow.Schema, source: Source, separator: str, text: bool):
        super().__init__()
        self.path, self.schema, self.source, self.separator, self.text = path, schema, source, separator, text
        self.count = pyarrow.parquet.read_metadata(path).num_rows

    @property
    def rows(self) -> np.ndarray:
        """``int64[N]``, the row of each sorted row in the files."""
        found: np.ndarray = pyarrow.parquet.read_table(self.path, columns=[ROW])[ROW].to_numpy()
        return found

    def _column(self, name: str) -> Cells:
        place, kind = self.schema.get_field_index(name), self.schema.field(name).type
        cells = pyarrow.parquet.read_table(self.path, columns=[f"c{place}"])[0]
        if pyarrow.types.is_dictionary(kind):
            cells = cells.cast(kind.value_type).dictionary_encode()
        elif cells.type != kind:
            cells = cells.cast(kind)
        made = TextCells if self.text else Cells
        return made(name, cells, _Sorted(self.source.files, table=self), self.separator)


class _Sorted(Source):
    """Where sorted rows came from."""

    def __init__(self, files: tuple[tuple[str, int], ...], table: SortedRows):
        super().__init__(files)
        object.__setattr__(self, "table", table)

    def row(self, number: int) -> str:
        table: SortedRows = self.table  # type: ignore[attr-defined]
        return super().row(int(table.rows[number]))


class OnDisk(Column):
    """A column that is read again whenever it is used.

    Args:
        table: the file.
        name: the column.
        items: the rows; None for all rows.
    """

    def __init__(self, table: SortedRows, name: str, items: np.ndarray | None = None):
        self.table, self.name, self.items = table, name, items
        kind = table.schema.field(name).type
        self.spells_numbers = table.text
        self.holds_lists = is_list_type(kind)
        self.is_category = pyarrow.types.is_dictionary(kind)

    def __len__(self) -> int:
        return self.table.count if self.items is None else len(self.items)

    @property
    def values(self) -> np.ndarray:
        return self._of_rows(self._cells.values)

    @property
    def whole(self) -> np.ndarray:
        return self._cells.whole

    @property
    def typed(self) -> np.ndarray:
        return self._of_rows(self._cells.typed)

    @property
    def spelled(self) -> Column:
        found = self._cells.spelled
        return found if self.items is None else found.take(self.items)

    @property
    def missing(self) -> np.ndarray:
        return self._of_rows(self._cells.missing)

    @property
    def identities(self) -> np.ndarray:
        return self._of_rows(self._cells.identities)

    def elements(self, separator: str = "", gaps: bool = False) -> Ragged:
        found = self._cells.elements(separator, gaps)
        return found if self.items is None else found.take(self.items)

    def take(self, items: np.ndarray) -> Column:
        return type(self)(self.table, self.name, self.table.rows_of(self.items, items))

    @property
    def _cells(self) -> Cells:
        return self.table.column(self.name)

    def _of_rows(self, values: np.ndarray) -> np.ndarray:
        return values if self.items is None else values[self.items]


class Ids(OnDisk):
    """The column with the ids of the lists, whose values are ids."""

    def __init__(self, table: SortedRows, name: str, items: np.ndarray | None = None):
        super().__init__(table, name, items)
        self.spells_numbers = self.holds_lists = self.is_category = False

    @property
    def values(self) -> np.ndarray:
        return self._of_rows(self._cells.identities)

    typed = identities = values

    @property
    def whole(self) -> np.ndarray:
        return self._cells.identities

    @property
    def spelled(self) -> Column:
        return self


def _schema(paths: Sequence[Path]) -> pyarrow.Schema:
    """Names and types of the columns of all files, in which integers of several sizes have the largest."""
    found = []
    for path in paths:
        if not path.is_file():
            raise MissingFileError(f"{path}: there is no such file")
        try:
            found.append(_columns_of(path))
        except pyarrow.ArrowInvalid as error:
            raise InputError(f"{path}: cannot be read: {error}") from error
        check_names(found[-1].names, f"{path}: ")
        if found[-1].names != found[0].names:
            only = sorted({*found[0].names} ^ {*found[-1].names})
            raise InputError(f"{paths[0]} and {path} must have the same columns in the same order to be sorted into "
                             f"lists; {', '.join(only) or 'the order'} differs")
    try:
        return pyarrow.unify_schemas(found, promote_options="permissive")
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
        raise InputError(f"{paths[0]} and other files have columns whose types do not fit together: {error}") from error


def _columns_of(path: Path) -> pyarrow.Schema:
    if is_text_file(path):
        with pyarrow.csv.open_csv(*_csv(path)) as reader:
            return reader.schema
    file = pyarrow.parquet.ParquetFile(path)
    empty = as_written(file.schema_arrow.empty_table(), file.metadata.metadata)
    return empty.schema.remove_metadata()


def _csv(path: Path) -> tuple[Any, ...]:
    """Arguments of pyarrow's streaming reader."""
    opened = gzip.open if path.name.endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as lines:
        names, delimiter = header(lines, path)
    options = parsing(names, delimiter)
    return (str(path), pyarrow.csv.ReadOptions(block_size=_BLOCK), options["parse_options"],
            options["convert_options"])


def _batches(paths: Sequence[Path], schema: pyarrow.Schema, counts: list[int]) -> Iterator[pyarrow.RecordBatch]:
    """The rows of all files with their numbers, under names that DuckDB tells apart (it ignores upper case)."""
    row = 0
    for path in paths:
        counts.append(0)
        try:
            reader = pyarrow.csv.open_csv(*_csv(path)) if is_text_file(path) else \
                pyarrow.parquet.ParquetFile(path).iter_batches(_BATCH)
            for batch in reader:
                numbers = pyarrow.array(np.arange(row, row + len(batch)))
                columns = [_plain(batch.column(name), field) for name, field in zip(schema.names, schema, strict=True)]
                yield pyarrow.RecordBatch.from_arrays([*columns, numbers], schema=_renamed(schema))
                row, counts[-1] = row + len(batch), counts[-1] + len(batch)
        except (pyarrow.ArrowInvalid, EOFError) as error:
            raise InputError(f"{path}: cannot be read: {error}") from error
        if not counts[-1]:
            raise InputError(f"{path}: the table is empty: it has {len(schema)} columns and no rows")


def _plain(column: pyarrow.Array, field: pyarrow.Field) -> pyarrow.Array:
    kind = _without_dictionary(field.type)
    return column if column.type == kind else column.cast(kind)


def _without_dictionary(kind: pyarrow.DataType) -> pyarrow.DataType:
    return kind.value_type if pyarrow.types.is_dictionary(kind) else kind


def _renamed(schema: pyarrow.Schema) -> pyarrow.Schema:
    fields = [pyarrow.field(f"c{place}", _without_dictionary(field.type)) for place, field in enumerate(schema)]
    return pyarrow.schema([*fields, pyarrow.field(ROW, pyarrow.int64())])


def _sort(paths: Sequence[Path], schema: pyarrow.Schema, list_id: str | None, work: Path) -> dict[str, Any]:
    """Writes the sorted rows and the sizes of the lists, and returns the number of rows of each file."""
    duckdb = _duckdb()
    work.mkdir(parents=True, exist_ok=True)
    (work / "rows.duckdb").unlink(missing_ok=True)
    counts: list[int] = []
    with duckdb.connect(str(work / "rows.duckdb")) as base:
        base.execute(f"SET memory_limit = '{MEMORY}'; SET preserve_insertion_order = false")
        reader = pyarrow.RecordBatchReader.from_batches(_renamed(schema), _batches(paths, schema, counts))
        base.register("incoming", reader)
        base.execute("CREATE TABLE unsorted AS SELECT * FROM incoming")
        query = f"SELECT * FROM unsorted ORDER BY {ROW}"
        if list_id is not None:
            own = f"c{schema.get_field_index(list_id)}"
            _check_ids(base, own, list_id, schema.field(list_id).type, paths, counts)
            base.execute(f"CREATE TABLE lists AS SELECT {own} AS id, min({ROW}) AS first, count(*) AS size "
                         f"FROM unsorted GROUP BY {own}")
            sizes = base.execute("SELECT size FROM lists ORDER BY first").fetchnumpy()["size"].astype(np.int64)
            with written(work / "sizes.npy") as temporary:
                np.save(temporary, sizes)
            query = (f"SELECT unsorted.* FROM unsorted JOIN lists ON unsorted.{own} = lists.id "
                     f"ORDER BY lists.first, unsorted.{ROW}")
        with written(work / "sorted.parquet") as temporary:
            base.execute(f"COPY ({query}) TO '{str(temporary).replace(chr(39), 2 * chr(39))}' (FORMAT parquet)")
    (work / "rows.duckdb").unlink()
    shutil.rmtree(work / "rows.duckdb.tmp", ignore_errors=True)
    found = pyarrow.parquet.read_metadata(work / "sorted.parquet").num_rows
    if found != sum(counts) or (list_id is not None and found != int(sizes.sum())):
        raise InputError(f"{paths[0]}: {sum(counts)} rows were read, but {found} are sorted: prepare again")
    return {"rows": counts}


def _check_ids(base: Any, own: str, list_id: str, kind: Any, paths: Sequence[Path], counts: Sequence[int]) -> None:
    """Refuses rows without a list."""
    kind = _without_dictionary(kind)
    empty = f" OR {own} = ''" if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) else \
        f" OR isnan({own})" if pyarrow.types.is_floating(kind) else ""
    missing, first = base.execute(f"SELECT count(*), min({ROW}) FROM unsorted WHERE {own} IS NULL{empty}").fetchone()
    if missing:
        source = Source(tuple((str(path), count) for path, count in zip(paths, counts, strict=True)))
        raise InputError(f"the list id {list_id!r} is missing in {missing} of {sum(counts)} rows, first in "
                         f"{source.row(first)}: each row must belong to a list; fill or drop these rows")


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise MissingPackageError("a store of tables needs DuckDB, which sorts the rows: pip install "
                                  "'tfmtl2r[store]'") from error
    return duckdb
