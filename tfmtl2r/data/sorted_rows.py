"""Tables that do not fit into memory: the rows are sorted into lists in a file, whose columns are read one at a time.

DuckDB sorts the rows on this machine, or Ray Data on the machines of a cluster. The lists, their order and all values
are those of :func:`tfmtl2r.data.read_lists`. A column that is read needs memory for itself, and the last one that was
read is kept.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from tfmtl2r.data.cells import Cells, TextCells
from tfmtl2r.data.frame import are_text_files, left_out
from tfmtl2r.data.lists import Lists, missing_column
from tfmtl2r.data.ragged import Ragged, is_list_type
from tfmtl2r.data.stored import Column, Source
from tfmtl2r.data.table_files import ROW, TableFiles
from tfmtl2r.errors import InputError
from tfmtl2r.writing import remove_parts, write_json, written

_SORTED = "sorted.parquet"


def read_sorted(
    paths: Sequence[Path], work: Path, list_id: str | None = None, context: Sequence[str] = (), separator: str = "",
    on: str = "local",
) -> Lists:
    """Groups the rows of Parquet or CSV files into lists, in a file. Rows that are sorted already stay.

    Args:
        paths: the files; all must have the same columns.
        work: a folder for the sorted rows and DuckDB's temporary files. It belongs to these files alone.
        list_id, context, separator: as for :func:`tfmtl2r.data.read_lists`.
        on: what sorts: "local" for DuckDB, "ray" for Ray Data on a cluster whose machines have the files at the same
            paths. The result is the same.

    Raises:
        ValueError: as for :func:`tfmtl2r.data.read_lists`; also for files with different columns.
        ImportError: without DuckDB or Ray.
        WorkerError: if the cluster cannot sort the rows.
    """
    text = are_text_files(paths)
    files = TableFiles.of(paths)
    schema = files.schema
    for name in [*([] if list_id is None else [list_id]), *context]:
        if name not in schema.names:
            raise InputError(f"{paths[0]}: {missing_column(name, schema.names)}")
    done = work / "sorted.json"
    if not done.is_file():
        remove_parts(work)
        write_json(done, {"rows": _sort(files, list_id, work, on)})
    source = files.source(json.loads(done.read_text())["rows"])
    table = SortedRows(work / _SORTED, schema, source, separator, text)
    columns: dict[str, Any] = {name: OnDisk(table, name) for name in schema.names
                               if name in (list_id, *context) or not left_out(name, source)}
    if list_id is None:
        return Lists(columns, context=tuple(context), source=source)
    columns[list_id] = Ids(table, list_id)
    sizes = np.load(work / "sizes.npy")
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return Lists(columns, offsets, columns[list_id].values[offsets[:-1]], tuple(context), list_id, table.rows, source)


def _sort(files: TableFiles, list_id: str | None, work: Path, on: str) -> list[int]:
    """Writes the sorted rows and the sizes of the lists, and returns the number of rows of each file."""
    if on == "ray":
        from tfmtl2r.data.sorted_by_ray import sort
    else:
        from tfmtl2r.data.sorted_by_duckdb import sort
    work.mkdir(parents=True, exist_ok=True)
    with written(work / _SORTED) as temporary:
        counts, sizes = sort(files, list_id, temporary)
    found = pyarrow.parquet.read_metadata(work / _SORTED).num_rows
    if found != sum(counts) or (sizes is not None and found != int(sizes.sum())):
        raise InputError(f"{files.paths[0]}: {sum(counts)} rows were read, but {found} are sorted: prepare again")
    if sizes is not None:
        with written(work / "sizes.npy") as temporary:
            np.save(temporary, sizes)
    return counts


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
