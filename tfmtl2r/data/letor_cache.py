"""A cache of parsed LETOR files in Parquet, which are written once and checked on every read.

There is one file per content and options. It is written under another name and renamed when it is complete, so that an
interrupted parse leaves no readable file. A small file beside it contains a checksum of all bytes. If the checksum does
not match, a warning is logged and the text is parsed again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from tfmtl2r.data.letor_stream import LetorOptions, Piece, Tally
from tfmtl2r.errors import MissingFileError
from tfmtl2r.writing import write_text, written

VERSION = 2
ROW_GROUP = 1 << 22
"""Bytes of features that are collected before a row group is written."""
_KEY = b"tfmtl2r.letor"
SCHEMA = pyarrow.schema({
    "label": pyarrow.float32(), "qid": pyarrow.int64(), "ordinal": pyarrow.int64(), "comment": pyarrow.string(),
    # The bytes of a row's float32 vector. Reading bytes is as fast as a copy; reading lists of floats is slower.
    "features": pyarrow.binary(),
})
log = logging.getLogger("tfmtl2r")


@dataclasses.dataclass
class Parsed:
    """All rows of a file: labels ``float32[N]``, qids ``int64[N]``, features ``float32[N, F]``, ordinals ``int64[N]``.

    ``comments`` contains N texts, or is empty.
    """

    labels: np.ndarray
    qids: np.ndarray
    features: np.ndarray
    ordinals: np.ndarray
    comments: list[str]


def cache_file(folder: str | Path, path: Path, options: LetorOptions) -> Path:
    """The path of a cache file. Its name depends on the contents of the file and the group file, and on the options."""
    described = dataclasses.asdict(options) | {"version": VERSION, "group": None}
    if options.group is not None:
        described["group"] = content_hash(Path(options.group))
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode() + content_hash(path).encode())
    return Path(folder) / f"letor-{digest.hexdigest()[:32]}.parquet"


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    if not path.is_file():
        raise MissingFileError(f"{path}: there is no such file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(target: Path, parts: Iterable[Piece], tally: Tally) -> None:
    """Writes a stream of rows. Memory does not grow with the size of the file.

    Args:
        target: the final path, which appears when the file is complete.
        parts: the rows; ``tally`` is complete when the stream has ended.
        tally: statistics, stored in the footer of the file.
    """
    with written(target) as temporary:
        with pyarrow.parquet.ParquetWriter(
            temporary, SCHEMA, use_dictionary=False, compression="lz4", write_statistics=False
        ) as writer:
            for table in _row_groups(parts):
                writer.write_table(table)
            writer.add_key_value_metadata({_KEY: json.dumps(dataclasses.asdict(tally))})
        # The rows are renamed last: a checksum without rows is ignored, but rows without a checksum count as damaged.
        write_text(checksum_file(target), content_hash(temporary))


def checksum_file(path: Path) -> Path:
    """The path of the checksum of a cache file."""
    return path.with_name(path.name + ".sha256")


def is_sound(path: Path) -> bool:
    """Whether a cache file exists and is undamaged. A damaged file is logged."""
    if not path.is_file():
        return False
    checksum = checksum_file(path)
    sound = checksum.is_file() and checksum.read_text(errors="replace").strip() == content_hash(path)
    if not sound:
        log.warning("%s: the cache file is damaged (its checksum does not match); the text is parsed again", path)
    return sound


def remove(path: Path) -> None:
    """Deletes a cache file and its checksum."""
    path.unlink(missing_ok=True)
    checksum_file(path).unlink(missing_ok=True)


def read(path: Path) -> tuple[Parsed, Tally] | None:
    """Reads a cache file.

    Returns:
        The rows and their statistics; None if there is no cache file, or (with a warning) if it is damaged.
    """
    if not is_sound(path):
        return None
    with pyarrow.parquet.ParquetFile(path) as file:
        tally = tally_of(path)
        return _read(file, tally), tally


def tally_of(path: Path) -> Tally:
    """The statistics of a cache file."""
    return Tally(**json.loads(pyarrow.parquet.read_metadata(path).metadata[_KEY]))


def numbers_of(path: Path) -> dict[str, np.ndarray]:
    """The columns ``label``, ``qid`` and ``ordinal`` of a cache file."""
    table = pyarrow.parquet.read_table(path, columns=["label", "qid", "ordinal"])
    return {name: table[name].to_numpy() for name in table.column_names}


def features_of(path: Path) -> Iterator[np.ndarray]:
    """The features of a cache file, ``float32[n, D]``, some rows after the other."""
    width = tally_of(path).num_features
    for chunk in _chunks(path, "features"):
        found = np.zeros((len(chunk), width), np.float32)
        _fill(found, chunk)
        yield found


def comments_of(path: Path) -> Iterator[pyarrow.StringArray]:
    """The comments of a cache file, some rows after the other; missing where comments were not read."""
    yield from _chunks(path, "comment")


def _chunks(path: Path, column: str) -> Iterator[pyarrow.Array]:
    with pyarrow.parquet.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            yield from file.read_row_group(number, columns=[column])[column].chunks


def _row_groups(parts: Iterable[Piece]) -> Iterable[pyarrow.Table]:
    kept: list[pyarrow.Table] = []
    size = 0
    for piece in parts:
        kept.append(_table(piece))
        size += piece.features.nbytes
        if size >= ROW_GROUP:
            yield pyarrow.concat_tables(kept).combine_chunks()
            kept, size = [], 0
    if kept:
        yield pyarrow.concat_tables(kept).combine_chunks()


def _table(piece: Piece) -> pyarrow.Table:
    rows, width = piece.features.shape
    offsets = np.arange(rows + 1, dtype=np.int32) * (4 * width)
    content = np.ascontiguousarray(piece.features, "<f4")
    features = pyarrow.BinaryArray.from_buffers(
        pyarrow.binary(), rows, [None, pyarrow.py_buffer(offsets), pyarrow.py_buffer(content)]
    )
    comments = pyarrow.array(piece.comments or pyarrow.nulls(rows), pyarrow.string())
    columns: list[Any] = [piece.labels, piece.qids, piece.ordinals]
    return pyarrow.Table.from_arrays([*map(pyarrow.array, columns), comments, features], schema=SCHEMA)


def _read(file: pyarrow.parquet.ParquetFile, tally: Tally) -> Parsed:
    features = np.zeros((tally.rows, tally.num_features), np.float32)
    groups, first = [], 0
    for number in range(file.num_row_groups):
        table = file.read_row_group(number)
        groups.append(table.drop_columns(["features"]))
        for chunk in table["features"].chunks:
            _fill(features[first : first + len(chunk)], chunk)
            first += len(chunk)
    rest = pyarrow.concat_tables(groups)
    labels, qids, ordinals = (rest[name].to_numpy() for name in ("label", "qid", "ordinal"))
    comments = [] if rest["comment"].null_count else rest["comment"].to_pylist()
    return Parsed(labels, qids, features, ordinals, comments)


def _fill(target: np.ndarray, chunk: pyarrow.BinaryArray) -> None:
    """Copies rows of bytes into a matrix. Rows are shorter if they were written before the full width was known."""
    offsets = np.frombuffer(chunk.buffers()[1], np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
    content = np.frombuffer(chunk.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]].view("<f4")
    widths = np.diff(offsets) // 4
    if (widths == widths[0]).all():
        target[:, : widths[0]] = content.reshape(len(chunk), widths[0])
        return
    rows = np.repeat(np.arange(len(chunk)), widths)
    target[rows, np.arange(len(content)) - np.repeat(np.cumsum(widths) - widths, widths)] = content
