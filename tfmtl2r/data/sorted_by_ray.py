"""Sorts the rows of tables into lists with Ray Data, on the machines of a Ray cluster (:mod:`tfmtl2r.cluster`).

Each machine reads pieces of the files. Rows are brought together by a hash of their lists, get the number of the first
row of their list, and are sorted by it. This machine reads only sorted blocks, one after the other, and writes them.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from tfmtl2r import cluster
from tfmtl2r.data.frame import is_text_file
from tfmtl2r.data.table_files import ROW, TableFiles
from tfmtl2r.errors import InputError, WorkerError

_PIECE = 1 << 26
"""Bytes of a piece of the files, and of the rows that are grouped at a time."""
_EXPANSION = 8
"""How much larger the rows of compressed text may be than the file."""
_FILE = 40
"""Bits of a row's number within its file. The number of the file is above them."""
_PART, _FIRST, _ERROR = "part", "first", "error"


def sort(files: TableFiles, list_id: str | None, to: Path) -> tuple[list[int], np.ndarray | None]:
    """Writes the rows of files, as :func:`tfmtl2r.data.sorted_by_duckdb.sort` does.

    Args:
        files: the files, which all machines of the cluster have at the same paths.
        list_id: the column with the ids of the lists; None keeps the order of the rows.
        to: the file to write.

    Returns:
        The number of rows of each file, and of each list.

    Raises:
        ValueError: for a malformed or empty file, or rows without an id.
        ImportError: without Ray.
        WorkerError: if the cluster fails.
    """
    with cluster.joined(), _data() as data, _failures_in_one_line():
        pieces = [piece for number, path in enumerate(files.paths) for piece in _pieces(number, path.absolute())]
        parts = max(1, sum(piece["bytes"] for piece in pieces) // _PIECE)
        own = None if list_id is None else files.own(list_id)
        numbered = data.from_items(pieces, override_num_blocks=len(pieces)).map_batches(
            functools.partial(_read, files, own, parts), batch_size=1, batch_format="numpy").materialize()
        counts = _counts(files, list_id, numbered)
        rows = numbered.drop_columns([_ERROR])
        if own is not None:
            rows = rows.groupby(_PART, num_partitions=parts).map_groups(
                functools.partial(_with_first, own), batch_format="pyarrow")
        ordered = rows.drop_columns([_PART]).sort([ROW] if own is None else [_FIRST, ROW])
        blocks = ordered.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
        sizes = write(blocks, files, counts, to)
    return counts, None if own is None else sizes


def write(blocks: Iterable[pyarrow.Table], files: TableFiles, counts: Sequence[int], to: Path) -> np.ndarray:
    """Writes sorted blocks of rows, one at a time.

    Args:
        blocks: the blocks. Without lists, each row is a list.
        files: the files of the rows.
        counts: the number of rows of each file.
        to: the file to write.

    Returns:
        The number of rows of each list.

    Raises:
        WorkerError: for blocks that are not in order.
    """
    starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    sizes: list[np.ndarray] = [np.zeros(0, np.int64)]
    last = (-1, -1)
    with pyarrow.parquet.ParquetWriter(to, files.numbered) as writer:
        for block in blocks:
            if not len(block):
                continue
            rows = block[ROW].to_numpy()
            firsts = block[_FIRST].to_numpy() if _FIRST in block.column_names else rows
            before = np.concatenate([[last[0]], firsts[:-1]]), np.concatenate([[last[1]], rows[:-1]])
            if not ((before[0] < firsts) | ((before[0] == firsts) & (before[1] < rows))).all():
                raise WorkerError("the Ray cluster has returned rows that are not sorted: prepare again")
            begins = np.flatnonzero(before[0] != firsts)
            ends = np.append(begins, len(rows))
            sizes[-1][-1:] += ends[0]  # the rest of the list before
            if len(begins):
                sizes.append(np.diff(ends))
            last = int(firsts[-1]), int(rows[-1])
            numbers = pyarrow.array(starts[rows >> _FILE] + (rows & ((1 << _FILE) - 1)))
            columns = [block[name] for name in files.plain.names]
            writer.write_table(pyarrow.Table.from_arrays([*columns, numbers], schema=files.numbered))
    return np.concatenate(sizes)


def _pieces(number: int, path: Path) -> Iterator[dict[str, Any]]:
    """Parts of a file that are read independently of each other: row groups of a Parquet file, or a file of text."""
    if is_text_file(path):
        size = path.stat().st_size * (_EXPANSION if path.suffix == ".gz" else 1)
        yield {"path": str(path), "row": number << _FILE, "groups": "", "bytes": size}
        return
    about = pyarrow.parquet.read_metadata(path)
    groups: list[int] = []
    size, row, first = 0, 0, 0
    for group in range(about.num_row_groups):
        groups.append(group)
        size, row = size + about.row_group(group).total_byte_size, row + about.row_group(group).num_rows
        if size >= _PIECE or group == about.num_row_groups - 1:
            yield {"path": str(path), "row": (number << _FILE) + first, "groups": " ".join(map(str, groups)),
                   "bytes": size}
            groups, size, first = [], 0, row


def _read(files: TableFiles, own: str | None, parts: int, piece: Mapping[str, np.ndarray]) -> Iterator[pyarrow.Table]:
    """The rows of a piece, with their numbers and the hash of their lists; for a file that cannot be read, one row with
    the reason, since Ray would show an error in many lines."""
    row, groups = int(piece["row"][0]), str(piece["groups"][0])
    path = Path(str(piece["path"][0]))
    schema = pyarrow.schema([*files.numbered, (_PART, pyarrow.int64()), (_ERROR, pyarrow.string())])
    try:
        for batch in files.batches(path, [*map(int, groups.split())] if groups else None):
            numbers = pyarrow.array(np.arange(row, row + len(batch)))
            part = np.zeros(len(batch), np.int64) if own is None else _hash(batch.column(own)) % parts
            yield pyarrow.Table.from_arrays([*batch.columns, numbers, pyarrow.array(part),
                                             pyarrow.nulls(len(batch), pyarrow.string())], schema=schema)
            row += len(batch)
    except (InputError, OSError) as error:
        reason = str(error) if isinstance(error, InputError) else \
            f"{path}: a machine of the Ray cluster cannot read it ({error}); all of them must have it at this path"
        yield pyarrow.Table.from_pylist([{ROW: row, _PART: 0, _ERROR: reason}], schema=schema)


def _hash(ids: pyarrow.Array) -> np.ndarray:
    """A number for each id, the same on all machines."""
    import pandas as pd

    values = _comparable(ids).to_pandas()
    if values.dtype == object:  # text, with None where it is missing, and everything without a type in pandas
        values = values.astype(str)
    found = pd.util.hash_array(np.asarray(values))
    return (found >> np.uint64(1)).astype(np.int64)


def _comparable(ids: pyarrow.Array) -> pyarrow.Array:
    """The ids, in which equal numbers have equal bits: -0.0 becomes 0.0. Lists, which are no ids, become text until
    they are refused."""
    if pyarrow.types.is_nested(ids.type):
        return pyarrow.array([str(one) for one in ids.to_pylist()], pyarrow.string())
    return pyarrow.compute.add(ids, pyarrow.scalar(0.0, ids.type)) if pyarrow.types.is_floating(ids.type) else ids


def _with_first(own: str, rows: pyarrow.Table) -> pyarrow.Table:
    """Whole lists, with the number of the first row of each row's list."""
    ids = _comparable(rows[own].combine_chunks()).dictionary_encode()
    numbers, codes = rows[ROW].to_numpy(), ids.indices.to_numpy()
    first = np.full(len(ids.dictionary), np.iinfo(np.int64).max)
    np.minimum.at(first, codes, numbers)
    return rows.append_column(_FIRST, pyarrow.array(first[codes]))


def _counts(files: TableFiles, list_id: str | None, numbered: Any) -> list[int]:
    """The number of rows of each file, after a check of all rows."""
    own = None if list_id is None else files.own(list_id)
    found = numbered.map_batches(functools.partial(_about, own), batch_size=None, batch_format="pyarrow").take_all()
    if errors := sorted((one["file"], one["error"]) for one in found if one["error"]):
        raise InputError(errors[0][1])
    counts = [sum(one["rows"] for one in found if one["file"] == number) for number in range(len(files.paths))]
    files.check_counts(counts)
    starts = np.concatenate([[0], np.cumsum(counts)])
    firsts = [int(starts[one["file"]]) + one["first"] for one in found if one["missing"]]
    if list_id is not None:
        files.check_ids(list_id, counts, sum(one["missing"] for one in found), min(firsts, default=0))
    return counts


def _about(own: str | None, rows: pyarrow.Table) -> pyarrow.Table:
    """What is counted in some rows, for each file: rows, those without an id, and the first of them."""
    numbers = rows[ROW].to_numpy()
    error = next((text for text in rows[_ERROR].unique().to_pylist() if text), "")
    missing = np.zeros(len(rows), bool) if own is None else _missing(rows[own])
    found = []
    for file in np.unique(numbers >> _FILE).tolist():
        mine = numbers >> _FILE == file
        without = numbers[mine & missing] & ((1 << _FILE) - 1)
        found.append({"file": file, "rows": int(mine.sum()), "missing": len(without), "error": error,
                      "first": int(without.min()) if len(without) else 0})
    return pyarrow.Table.from_pylist(found, schema=pyarrow.schema(
        {"file": pyarrow.int64(), "rows": pyarrow.int64(), "missing": pyarrow.int64(), "error": pyarrow.string(),
         "first": pyarrow.int64()}))


def _missing(ids: pyarrow.ChunkedArray) -> np.ndarray:
    """Which ids are missing: null, empty text, or no number."""
    found = pyarrow.compute.is_null(ids, nan_is_null=pyarrow.types.is_floating(ids.type))
    if pyarrow.types.is_string(ids.type) or pyarrow.types.is_large_string(ids.type):
        found = pyarrow.compute.or_(found, pyarrow.compute.fill_null(pyarrow.compute.equal(ids, ""), True))
    return np.asarray(found.to_numpy(zero_copy_only=False) if isinstance(found, pyarrow.Array) else found.to_numpy())


@contextlib.contextmanager
def _data() -> Iterator[Any]:
    """Ray Data, with blocks in the order of the rows, and without its own lines about each step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it warns of settings that it has itself
        import ray.data

        context, log = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
        before = (context.execution_options.preserve_order, context.enable_progress_bars, log.level)
        context.execution_options.preserve_order, context.enable_progress_bars = True, False
        log.setLevel(logging.CRITICAL)
        try:
            yield ray.data
        finally:
            context.execution_options.preserve_order, context.enable_progress_bars = before[:2]
            log.setLevel(before[2])


@contextlib.contextmanager
def _failures_in_one_line() -> Iterator[None]:
    """Raises the failures of the cluster, but not those of this program, as errors in one line."""
    from ray.exceptions import RayError, RayTaskError

    try:
        yield
    except RayTaskError:
        raise
    except RayError as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise WorkerError(f"the Ray cluster could not sort the rows: {reason[0]}") from error
