"""Reads and writes TFRecord files of ``ExampleListWithContext``, TF-Ranking's format with one record per list.

Files of plain ``tf.train.Example`` records, one per item, are read, too.

>>> import tempfile
>>> from tfmtl2r import Dense
>>> lists = Lists({"price": np.array([3.0, 1.0, 2.0], np.float32), "click": np.array([0, 1, 0])}, np.array([0, 2, 3]))
>>> path = Path(tempfile.mkdtemp()) / "train.tfrecord.gz"
>>> write_elwc(lists, path)
>>> read_elwc(path, [Dense("price")], labels=["click"]).columns["price"].tolist()
[3.0, 1.0, 2.0]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tfmtl2r._backend import tf
from tfmtl2r._keras2 import ranking
from tfmtl2r.data.cells import Cells
from tfmtl2r.data.elwc_fields import ABSENT, Field, Search
from tfmtl2r.data.elwc_records import ElwcError, compression, first_line, holds_examples, message_of, records
from tfmtl2r.data.lists import Lists
from tfmtl2r.data.ragged import Ragged
from tfmtl2r.data.stored import Column, Source, refuse_inexact
from tfmtl2r.errors import InputError
from tfmtl2r.features.base import Feature
from tfmtl2r.schema import Schema
from tfmtl2r.task import Task
from tfmtl2r.writing import written

BATCH = 128
"""Number of records that are parsed together, padded to the longest list among them."""
SIZE = "__list_size__"
_LARGEST = np.iinfo(np.int64).max


def write_elwc(lists: Lists, path: str | Path, *, list_id: str = "list_id") -> None:
    """Writes one record per list; the file appears when it is complete.

    Floats are written as 32-bit floats (NaN is kept), integers and booleans as 64-bit integers, times as seconds since
    1970 (-1 if missing), text as UTF-8 (``""`` is kept), and ``[N, D]`` as D values per example. Context columns are
    written to the context, together with the ids of the lists as text. All other columns, including labels, are written
    to the examples. Source rows are not written.

    Args:
        lists: lists, not plain rows.
        path: the file; compressed if it ends in ``.gz``.
        list_id: name of the ids in the context. A column with this name must be the list id itself.

    Raises:
        ValueError: for plain rows, a ``list_id`` that is another column, or a column that is neither numbers nor text.
    """
    if lists.is_rows or lists.offsets is None or lists.ids is None:
        raise InputError("plain rows have no lists and cannot become ExampleListWithContext: give a list id")
    if list_id in lists.columns and list_id != lists.list_id:
        raise InputError(f"list_id={list_id!r} is a column that is not the list id: choose another name for the ids")
    columns = {name: _written(name, column) for name, column in lists.stored.columns.items() if name != lists.list_id}
    kinds = {name: _kind_of_column(name, values) for name, values in columns.items()}
    path = Path(path)
    with written(path) as temporary, tf.io.TFRecordWriter(str(temporary), options=compression(path)) as writer:
        for number, name in enumerate(lists.ids.tolist()):
            start, end = lists.offsets[number : number + 2]
            writer.write(_record(columns, kinds, lists.context, (start, end), (list_id, str(name))))


def read_elwc(
    paths: str | Path | Sequence[str | Path],
    features: Schema | Iterable[str | Feature] | None = None,
    labels: Iterable[str | Task] = (),
    *,
    list_id: str | None = None,
    integer_ids: bool = False,
) -> Lists:
    """Reads files of records through TF-Ranking's parser, without its padding.

    A record is an ``ExampleListWithContext``, one list, or in all files a plain ``tf.train.Example``, one item. Items
    of plain examples become lists by ``list_id``, and plain rows without it.

    A feature that an example lacks becomes NaN for a float, -1 for an integer category, and ``""`` for text. A missing
    integer that is not a category, and a missing label, become NaN. If a feature is given only by name, its type, width
    and place (example or context) come from the first record that contains it.

    Args:
        paths: one file or several, read in order; compressed if they end in ``.gz``.
        features: a schema, or names and features; None reads all features in the first 100 records.
        labels: label columns, or tasks with these labels.
        list_id: name of the context feature (the feature, for plain examples) with the ids of the lists; None numbers
            the lists.
        integer_ids: convert ids that were written as text to integers.

    Returns:
        Lists with these columns: floats as float32, integers as int64 (their values are float64 if some are missing,
        but as ids they are exact).

    Raises:
        FileNotFoundError: for a missing file.
        ElwcError: when a file has no records, a record is damaged, is not an ``ExampleListWithContext`` or has no
            examples, no record has a feature, a feature has another type or width than expected, a list id is missing,
            or two records have one list id.
    """
    files = [Path(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    if not files:
        raise InputError("paths is empty: give at least one file")
    fields = found_fields(files, features, labels, list_id)
    sizes, parts = [], []
    for parsed in parsed_batches(files, fields):
        sizes.append(parsed.pop(SIZE))
        parts.append(parsed)
    lengths = np.concatenate(sizes).astype(np.int64)
    columns = {f.name: column_of(f, [part[f.name] for part in parts], lengths, files) for f in fields}
    return lists_of(columns, lengths, fields, list_id, integer_ids, files)


def found_fields(
    files: list[Path], features: Schema | Iterable[str | Feature] | None, labels: Iterable[str | Task],
    list_id: str | None,
) -> list[Field]:
    """The features to read, as :func:`read_elwc` finds them."""
    named = features.features if isinstance(features, Schema) else None if features is None else tuple(features)
    wanted: dict[str, Feature | None] = {}
    for one in named or ():
        wanted |= {one: None} if isinstance(one, str) else dict.fromkeys(one.columns, one)
    wanted |= dict.fromkeys(task.label if isinstance(task, Task) else task for task in labels)
    wanted |= {list_id: None} if list_id is not None else {}
    return Search(files, dict(wanted), everything=named is None).fields()


def parsed_batches(files: list[Path], fields: list[Field]) -> Iterator[dict[str, Any]]:
    """The parsed values of some records after the other; see :func:`_parse`."""
    for batch in _batches(files):
        yield _parse(batch, fields)


def lists_of(
    columns: dict[str, Any], lengths: np.ndarray, fields: Sequence[Field], list_id: str | None, integer_ids: bool,
    files: list[Path],
) -> Lists:
    """The lists of parsed records.

    Args:
        columns: the columns, with one value per item.
        lengths: the number of items of each record.
        fields: the features.
        list_id, integer_ids: as for :func:`read_elwc`.
        files: the files.

    Raises:
        ElwcError: for missing ids, or records with the same id.
    """
    if holds_examples(files):
        return _of_items(columns, list_id, integer_ids, files)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = None if list_id is None else _ids(columns, list_id, integer_ids, lengths, files)
    if ids is not None and (again := pd.Series(ids).duplicated().to_numpy()).any():
        second = int(again.argmax())
        raise ElwcError(f"{files[0]} and on: the list id {list_id!r} is {ids[second]!s} in the records "
                        f"{ids.tolist().index(ids[second])} and {second} (counted from 0): a record is a list with "
                        "its own id; leave list_id out, so that the records are numbered")
    context = tuple(f.name for f in fields if f.context)
    return Lists(columns, offsets, ids, context=context, list_id=list_id)


def _of_items(columns: dict[str, Any], list_id: str | None, integers: bool, files: list[Path]) -> Lists:
    """Plain rows, or lists of the rows with the same id."""
    if list_id is None:
        return Lists(columns)
    rows = next(len(column) for column in columns.values())
    ids = _ids(columns, list_id, integers, np.ones(rows, np.int64), files)
    codes, found = pd.factorize(ids)
    order = np.argsort(codes, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(codes))])
    return Lists(Lists(columns).stored.take(order), offsets, np.asarray(found), list_id=list_id, source_rows=order)


def _batches(files: list[Path]) -> Iterator[list[tuple[Path, int, bytes]]]:
    batch: list[tuple[Path, int, bytes]] = []
    for path, number, record in records(files):
        message_of(record, path, number)
        batch.append((path, number, record))
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _parse(batch: list[tuple[Path, int, bytes]], fields: list[Field]) -> dict[str, Any]:
    """Values of the items of some records, one list after the other, and the sizes of the lists."""
    context = {f.name: f.spec for f in fields if f.context}
    examples = {f.name: f.spec for f in fields if not f.context}
    # The parser requires at least one feature of the examples, even if only the context is read.
    examples = examples or {SIZE + "unused": tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0])}
    options = {"context_feature_spec": context or None, "example_feature_spec": examples, "size_feature_name": SIZE}
    try:
        parsed = ranking().data.parse_from_example_list([record for _, _, record in batch], **options)
    except tf.errors.InvalidArgumentError as error:
        if len(batch) > 1:  # parse one by one to find the wrong record
            for one in batch:
                _parse([one], fields)
        path, number, _ = batch[0]
        expected = ", ".join(f"{f.name}: {(f.shape[0] or 'any number') if f.shape else 1} x {f.kind}" for f in fields)
        raise ElwcError(f"{path}: record {number} (counted from 0) differs from what was expected ({expected}): "
                        f"{first_line(error)}") from error
    sizes = parsed[SIZE].numpy()
    out = {SIZE: sizes}
    for field in fields:
        if field.is_list:
            out[field.name] = _lists(parsed[field.name], sizes, field.context)
            continue
        values = parsed[field.name].numpy()
        if not field.context:
            values = values[np.arange(values.shape[1]) < sizes[:, None]]
        out[field.name] = values if field.shape else values[:, 0]
    return out


def _lists(parsed: Any, sizes: np.ndarray, context: bool) -> tuple[np.ndarray, np.ndarray]:
    """The elements of the lists of all items (or of all contexts), and the lengths of the lists."""
    shape = parsed.dense_shape.numpy()[:-1]
    places = np.ravel_multi_index(tuple(parsed.indices.numpy()[:, :-1].T), tuple(shape))
    lengths = np.bincount(places, minlength=int(np.prod(shape))).reshape(shape)
    return parsed.values.numpy(), lengths if context else lengths[np.arange(shape[1]) < sizes[:, None]]


def column_of(field: Field, parts: list[Any], sizes: np.ndarray, files: list[Path]) -> Any:
    """Converts the values of all records to a column with one value per item, and replaces missing values."""
    if field.is_list:
        elements, lengths = (np.concatenate(found) for found in zip(*parts, strict=True))
        cells = Ragged(_stored(_values(field, elements, files)), lengths, field.name, Source())
        return cells.take(np.repeat(np.arange(len(sizes)), sizes)) if field.context else cells
    values = _values(field, np.concatenate(parts), files)
    if not field.context:
        return values
    return _stored(values).take(np.repeat(np.arange(len(sizes)), sizes))


def _stored(values: Any) -> Column:
    return values if isinstance(values, Column) else Column(values)


def _values(field: Field, values: np.ndarray, files: list[Path]) -> Any:
    """The values, or a column of integers of which some are missing: as floats they would lose digits."""
    if field.kind == "bytes":
        try:
            return np.array([value.decode() for value in values.tolist()], object)
        except UnicodeDecodeError as error:
            raise ElwcError(f"{files[0]} and on: feature {field.name!r} is no UTF-8 text: {error}") from error
    absent = (values == ABSENT) & (field.kind == "int64")
    if not absent.any():
        return values
    if field.missing is None and values.ndim == 1:
        return Cells(field.name, pd.Series(pd.arrays.IntegerArray(values, absent)), Source())
    return np.where(absent, np.nan if field.missing is None else field.missing, values)


def _ids(columns: dict[str, Any], name: str, integers: bool, sizes: np.ndarray, files: list[Path]) -> np.ndarray:
    """The id of each record's list, which is not missing. With ``integers``, the column is converted to integers."""
    column = columns[name] if isinstance(columns[name], Column) else Column(columns[name])
    first = np.cumsum(sizes) - sizes
    if column.holds_lists or column.identities.ndim > 1:
        raise ElwcError(f"{files[0]} and on: the list id {name!r} has several values in a record: it must have one")
    if (missing := column.missing[first]).any():
        raise ElwcError(f"{files[0]} and on: the list id {name!r} is missing in {int(missing.sum())} of {len(first)} "
                        f"records, first in record {int(missing.argmax())} (counted from 0)")
    refuse_inexact(column.identities, f"{files[0]} and on: the list id {name!r}", Source())
    if integers and column.identities.dtype.kind == "O":
        try:
            texts = column.identities
            columns[name] = texts.astype(np.int64)
            if (odd := columns[name].astype(str) != texts.astype(str)).any():
                raise ValueError(f"{texts[odd][0]!r} would become {columns[name][odd][0]}")
        except (ValueError, OverflowError) as error:
            raise ElwcError(f"{files[0]} and on: list id {name!r} is no integer: {error}; leave out integer_ids"
                            ) from error
        return columns[name][first]
    return column.identities[first]


def _written(name: str, column: Column) -> Any:
    """The values of a column; of a column of lists, the list of each row. A missing integer is an empty list."""
    if not column.holds_lists:
        values = column.values
        if values.dtype.kind == "M":
            return np.where(np.isnat(values), -1, values.astype("datetime64[s]").astype(np.int64))
        if values.dtype.kind != "f" or values.ndim > 1 or not np.isnan(values).any():
            return values
        whole = column.identities if column.is_category else column.typed
        if column.typed.dtype.kind == "O" and not column.is_category:  # integers that may not fit into 64 bits
            whole = np.array([int(cell) if cell else 0 for cell in column.typed.tolist()], object)
            whole = whole.astype(np.int64) if max(whole) <= _LARGEST else whole.astype(np.uint64)
        known = ~np.isnan(values)
        return values if whole.dtype.kind not in "iu" else _Cells(whole, np.split(whole[known], np.cumsum(known)[:-1]))
    cells = column.elements()
    values = cells.flat.identities if cells.flat.values.dtype.kind in "OU" else cells.flat.values
    return _Cells(values, np.split(values, np.cumsum(cells.sizes)[:-1]))


@dataclasses.dataclass(frozen=True)
class _Cells:
    """Lists of values, one per row: ``elements`` of all rows, and the ``rows``."""

    elements: np.ndarray
    rows: list[np.ndarray]


def _kind_of_column(name: str, values: Any) -> str:
    values = values.elements if isinstance(values, _Cells) else values
    kinds = {"f": "float_list", "i": "int64_list", "u": "int64_list", "b": "int64_list"}
    kinds |= {"O": "bytes_list", "U": "bytes_list"} if values.ndim == 1 else {}
    if values.dtype.kind not in kinds or values.ndim > 2:
        raise InputError(f"column {name!r} has the type {values.dtype} {values.shape[1:]}, which a TFRecord cannot "
                         "store: convert it to a number, a vector or text, or leave it out")
    if values.dtype.kind == "u" and len(values) and values.max() > _LARGEST:
        raise InputError(f"column {name!r} holds {values.max()}, which is too large for the 64-bit integers of a "
                         "TFRecord: make it text, or leave it out")
    return kinds[values.dtype.kind]


def _record(
    columns: dict[str, Any], kinds: dict[str, str], context: tuple[str, ...], span: tuple[int, int],
    named: tuple[str, str],
) -> bytes:
    from tensorflow_serving.apis import input_pb2

    message = input_pb2.ExampleListWithContext()
    message.context.features.feature[named[0]].bytes_list.value.append(named[1].encode())
    examples = [message.examples.add() for _ in range(*span)]
    for name, kind in kinds.items():
        column = columns[name]
        rows = (column.rows if isinstance(column, _Cells) else column)[slice(*span)]
        targets = [message.context] if name in context else examples
        for target, row in zip(targets, rows, strict=False):
            cells = np.ravel(row).tolist()
            cells = [str(cell).encode() for cell in cells] if kind == "bytes_list" else cells
            if cells:
                getattr(target.features.feature[name], kind).value.extend(cells)
    return message.SerializeToString()
