"""Parquet and CSV files as one stream of rows of the same columns, for what sorts them into lists."""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet

from tfmtl2r.data.damage import readable
from tfmtl2r.data.delimiters import header, parsing
from tfmtl2r.data.frame import as_written, check_names, is_text_file
from tfmtl2r.data.ragged import is_list_type
from tfmtl2r.data.stored import Source
from tfmtl2r.errors import InputError, MissingFileError

ROW = "row"
"""The column with the number of each row, beside the columns of the files, which are named c0, c1, ..."""
_BATCH = 1 << 16
_BLOCK = 1 << 24


@dataclasses.dataclass(frozen=True)
class TableFiles:
    """Files that are one table.

    Args:
        paths: the files.
        schema: names and types of the columns in all files.
    """

    paths: tuple[Path, ...]
    schema: pyarrow.Schema

    @classmethod
    def of(cls, paths: Sequence[Path]) -> TableFiles:
        """Reads the columns of all files.

        Raises:
            ValueError: for a file that cannot be read, or files with different columns.
            FileNotFoundError: for a missing file.
        """
        return cls(tuple(paths), _schema(paths))

    @property
    def plain(self) -> pyarrow.Schema:
        """The schema under names that differ for tools that ignore upper case, with types that they have."""
        return pyarrow.schema([pyarrow.field(f"c{place}", plain_type(field.type))
                               for place, field in enumerate(self.schema)])

    @property
    def numbered(self) -> pyarrow.Schema:
        """The schema of sorted rows: the plain columns and the number of each row."""
        return self.plain.append(pyarrow.field(ROW, pyarrow.int64()))

    def own(self, name: str) -> str:
        """The plain name of a column."""
        return f"c{self.schema.get_field_index(name)}"

    def batches(self, path: Path, groups: Sequence[int] | None = None) -> Iterator[pyarrow.RecordBatch]:
        """The plain rows of one of the files.

        Args:
            path: the file.
            groups: the row groups of a Parquet file; None for all.

        Raises:
            InputError: for a malformed file.
        """
        with readable(path):
            reader = pyarrow.csv.open_csv(*_csv(path)) if is_text_file(path) else \
                pyarrow.parquet.ParquetFile(path).iter_batches(_BATCH, row_groups=groups)
            for batch in reader:
                columns = [_plain(batch.column(name), field)
                           for name, field in zip(self.schema.names, self.plain, strict=True)]
                yield pyarrow.RecordBatch.from_arrays(columns, schema=self.plain)

    def rows(self, counts: list[int]) -> Iterator[pyarrow.RecordBatch]:
        """The rows of all files, one after the other, with their numbers.

        Args:
            counts: gets the number of rows of each file.

        Raises:
            InputError: for a malformed file, or one without rows.
        """
        row = 0
        for path in self.paths:
            counts.append(0)
            for batch in self.batches(path):
                numbers = pyarrow.array(np.arange(row, row + len(batch)))
                yield pyarrow.RecordBatch.from_arrays([*batch.columns, numbers], schema=self.numbered)
                row, counts[-1] = row + len(batch), counts[-1] + len(batch)
            self.check_counts(counts)

    def source(self, counts: Sequence[int]) -> Source:
        """Where the rows came from, by the number of rows of each file."""
        return Source(tuple((str(path), rows) for path, rows in zip(self.paths, counts, strict=True)))

    def check_counts(self, counts: Sequence[int]) -> None:
        """Refuses a file without rows."""
        for path, count in zip(self.paths, counts, strict=False):
            if not count:
                raise InputError(f"{path}: the table is empty: it has {len(self.schema)} columns and no rows")

    def check_ids(self, list_id: str, counts: Sequence[int], missing: int, first: int) -> None:
        """Refuses rows without a list.

        Args:
            list_id: the column with the ids of the lists.
            counts: number of rows of each file.
            missing: number of rows without an id.
            first: the first of them.
        """
        if missing:
            raise InputError(f"the list id {list_id!r} is missing in {missing} of {sum(counts)} rows, first in "
                             f"{self.source(counts).row(first)}: each row must belong to a list; fill or drop these "
                             "rows")


def plain_type(kind: pyarrow.DataType) -> pyarrow.DataType:
    """A type that DuckDB and Ray have, in which all values of a type keep their meaning when they are cast back.

    >>> plain_type(pyarrow.list_(pyarrow.duration("s"))), plain_type(pyarrow.large_string())
    (ListType(list<item: int64>), DataType(large_string))
    """
    types = pyarrow.types
    if types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if is_list_type(kind):
        inner = plain_type(kind.value_type)
        return kind if inner == kind.value_type else pyarrow.list_(inner)
    others = ((types.is_duration, pyarrow.int64()), (types.is_float16, pyarrow.float32()),
              (types.is_decimal256, pyarrow.string()))
    return next((other for test, other in others if test(kind)), kind)


def _schema(paths: Sequence[Path]) -> pyarrow.Schema:
    """Names and types of the columns of all files, in which integers of several sizes have the largest."""
    found = []
    for path in paths:
        if not path.is_file():
            raise MissingFileError(f"{path}: there is no such file")
        with readable(path):
            found.append(_columns_of(path))
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


def _plain(column: pyarrow.Array, field: pyarrow.Field) -> pyarrow.Array:
    return column if column.type == field.type else column.cast(field.type)
