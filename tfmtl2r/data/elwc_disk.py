"""TFRecord files that do not fit into memory: their columns are written into files, from which each is read alone.

The lists, their order and all values are those of :func:`tfmtl2r.data.read_elwc`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from tfmtl2r.data.elwc import SIZE, column_of, found_fields, lists_of, parsed_batches
from tfmtl2r.data.elwc_fields import ABSENT, Field
from tfmtl2r.data.lists import Lists
from tfmtl2r.data.sorted_rows import ColumnFiles, OnDisk
from tfmtl2r.data.stored import Column
from tfmtl2r.data.vectors import VectorFile, Vectors, write_vectors
from tfmtl2r.writing import remove_parts, write_json, written

_GROUP = 1 << 24
"""Bytes of parsed records that are collected before they are written."""
_TYPES = {"float": pyarrow.float32(), "int64": pyarrow.int64(), "bytes": pyarrow.large_binary()}


def read_elwc_on_disk(
    paths: Sequence[Path], work: Path, labels: Iterable[str] = (), list_id: str | None = None
) -> Lists:
    """Reads files of records. What an earlier call has written stays.

    Args:
        paths: the files.
        work: a folder that belongs to these files alone.
        labels, list_id: as for :func:`tfmtl2r.data.read_elwc`.

    Raises:
        FileNotFoundError: for a missing file.
        ElwcError: as for :func:`tfmtl2r.data.read_elwc`.
    """
    fields = found_fields([*paths], None, labels, list_id)
    done = work / "records.json"
    if not done.is_file():
        remove_parts(work)
        _write(paths, fields, work)
        for number, field in enumerate(fields):
            if _is_vector(field):
                _write_vectors(work, number, field)
        write_json(done, [field.name for field in fields])
    records = Records(work, fields, paths)
    columns: dict[str, Any] = {}
    for number, field in enumerate(fields):
        if _is_vector(field):
            vectors = Vectors(VectorFile(work / f"{number}.bin"))
            columns[field.name] = vectors.take(records.list_of_item) if field.context else vectors
        else:
            columns[field.name] = OfRecords(records, field)
    return lists_of(columns, records.sizes, fields, list_id, False, [*paths])


def _write_vectors(work: Path, number: int, field: Field) -> None:
    parts, dtype = _read(work, number, field), "float32" if field.kind == "float" else "int64"
    if field.kind == "int64" and any((part == ABSENT).any() for part in _read(work, number, field)):
        parts, dtype = (np.where(part == ABSENT, np.nan, part) for part in parts), "float64"
    write_vectors(work / f"{number}.bin", parts, _width(field), dtype)


class Records(ColumnFiles):
    """The columns of parsed records, which :class:`tfmtl2r.data.sorted_rows.OnDisk` reads.

    Args:
        work: the folder with the parsed records.
        fields: their features.
        paths: the files, for messages.
    """

    def __init__(self, work: Path, fields: Sequence[Field], paths: Sequence[Path]):
        super().__init__()
        self.work, self.paths = work, [*paths]
        self.fields = {field.name: (number, field) for number, field in enumerate(fields)}
        self.sizes = pyarrow.parquet.read_table(_file(work, True), columns=[SIZE])[SIZE].to_numpy()
        self.count = int(self.sizes.sum())

    @property
    def list_of_item(self) -> np.ndarray:
        """``int64[N]``, the number of the record of each item."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    def _column(self, name: str) -> Column:
        number, field = self.fields[name]
        made = column_of(field, [*_read(self.work, number, field)], self.sizes, self.paths)
        return made if isinstance(made, Column) else Column(made)


class OfRecords(OnDisk):
    """A feature of records that is read again whenever it is used."""

    spells_numbers = is_category = False

    def __init__(self, table: Any, field: Any, items: np.ndarray | None = None):
        self.table, self.field, self.name, self.items = table, field, field.name, items
        self.holds_lists = field.is_list

    def take(self, items: np.ndarray) -> Column:
        return OfRecords(self.table, self.field, self.table.rows_of(self.items, items))


def _write(paths: Sequence[Path], fields: Sequence[Field], work: Path) -> None:
    """Writes two tables: one row for each item, and one row for each record."""
    groups = [_Groups(fields, context) for context in (False, True)]
    with written(_file(work, False)) as items, written(_file(work, True)) as lists, \
            pyarrow.parquet.ParquetWriter(items, groups[0].schema, use_dictionary=False) as one, \
            pyarrow.parquet.ParquetWriter(lists, groups[1].schema, use_dictionary=False) as other:
        for parsed in parsed_batches([*paths], [*fields]):
            for group, writer in zip(groups, (one, other), strict=True):
                group.add(parsed)
                if group.size > _GROUP:
                    writer.write_table(group.taken())
        for group, writer in zip(groups, (one, other), strict=True):
            if group.size:
                writer.write_table(group.taken())


class _Groups:
    """Parsed records as a table, of which some megabytes are kept."""

    def __init__(self, fields: Sequence[Field], context: bool):
        self.fields = [field for field in fields if field.context == context]
        names = [(f"c{number}", _arrow_type(field)) for number, field in enumerate(fields) if field.context == context]
        # A table needs a column: each record has its size, and a row of an item without features has nothing.
        self.schema = pyarrow.schema([(SIZE, pyarrow.int64() if context else pyarrow.null()), *names])
        self.context = context
        self.kept: list[pyarrow.Table] = []
        self.size = 0

    def add(self, parsed: dict[str, Any]) -> None:
        sizes = np.asarray(parsed[SIZE], np.int64)
        first = pyarrow.array(sizes) if self.context else pyarrow.nulls(int(sizes.sum()))
        columns = [_arrow(field, parsed[field.name]) for field in self.fields]
        self.kept.append(pyarrow.Table.from_arrays([first, *columns], schema=self.schema))
        self.size += self.kept[-1].nbytes + 1  # a table of items without features has no bytes

    def taken(self) -> pyarrow.Table:
        """The kept records, which are then forgotten."""
        found, self.kept, self.size = pyarrow.concat_tables(self.kept).combine_chunks(), [], 0
        return found


def _read(work: Path, number: int, field: Field) -> Iterator[Any]:
    """The parsed values of a feature as :func:`tfmtl2r.data.elwc.parsed_batches` yields them."""
    with pyarrow.parquet.ParquetFile(_file(work, field.context)) as file:
        for group in range(file.num_row_groups):
            for chunk in file.read_row_group(group, columns=[f"c{number}"]).column(0).chunks:
                yield _numpy(field, chunk)


def _numpy(field: Field, chunk: Any) -> Any:
    if field.is_list:
        flat = pyarrow.compute.list_flatten(chunk)
        return _plain(field, flat), pyarrow.compute.list_value_length(chunk).to_numpy(zero_copy_only=False)
    if not _is_vector(field):
        return _plain(field, chunk)
    width, dtype = _width(field), np.dtype("<f4" if field.kind == "float" else "<i8")
    start = chunk.offset * width
    values = np.frombuffer(chunk.buffers()[1], dtype)[start : start + len(chunk) * width]
    return values.reshape(-1, width)


def _plain(field: Field, values: Any) -> np.ndarray:
    found = values.to_numpy(zero_copy_only=False)
    return found.astype(object) if field.kind == "bytes" else found


def _arrow(field: Field, values: Any) -> Any:
    kind = _TYPES[field.kind]
    if field.is_list:
        elements, lengths = values
        offsets = pyarrow.array(np.concatenate([[0], np.cumsum(lengths)]), pyarrow.int32())
        return pyarrow.ListArray.from_arrays(offsets, pyarrow.array(elements, kind))
    if not _is_vector(field):
        return pyarrow.array(values, kind)
    content = np.ascontiguousarray(values, "<f4" if field.kind == "float" else "<i8")
    buffers = [None, pyarrow.py_buffer(content)]
    return pyarrow.FixedSizeBinaryArray.from_buffers(_arrow_type(field), len(content), buffers)


def _arrow_type(field: Field) -> Any:
    if field.is_list:
        return pyarrow.list_(_TYPES[field.kind])
    return pyarrow.binary(_width(field) * (4 if field.kind == "float" else 8)) if _is_vector(field) else \
        _TYPES[field.kind]


def _is_vector(field: Field) -> bool:
    return bool(field.shape) and not field.is_list


def _width(field: Field) -> int:
    return int(np.prod([size or 1 for size in field.shape]))


def _file(work: Path, context: bool) -> Path:
    return work / ("lists.parquet" if context else "items.parquet")
