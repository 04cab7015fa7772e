"""LETOR files that do not fit into memory: their lists, with features and comments in files.

Each file is parsed as :func:`tfmtl2r.data.letor.prepare_letor` does. Labels and queries are in memory, 12 bytes for
each row. The lists, their order and all values are those of :func:`tfmtl2r.data.read_letor`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from tfmtl2r.data import letor_cache
from tfmtl2r.data.letor import COLUMNS, joined_ids, prepare_letor, report_of
from tfmtl2r.data.letor_stream import LetorOptions, Tally
from tfmtl2r.data.letor_text import in_comment, queries
from tfmtl2r.data.lists import Lists
from tfmtl2r.data.sorted_rows import OnDisk, SortedRows
from tfmtl2r.data.stored import Source
from tfmtl2r.data.table_files import ROW
from tfmtl2r.data.vectors import VectorFile, Vectors, write_vectors
from tfmtl2r.writing import remove_parts, write_json, written


def read_letor_on_disk(paths: Sequence[Path], work: Path, width: int | None = None, zero_based: bool = False) -> Lists:
    """Reads LETOR files as one table, with comments. What an earlier call has written stays.

    Args:
        paths: the files.
        work: a folder that belongs to these files alone.
        width: number of features, if it is known.
        zero_based: whether feature ids count from 0.

    Raises:
        FileNotFoundError: for a missing file.
        LetorError: as for :func:`tfmtl2r.data.read_letor`.
        ValueError: for a query that is in two files.
    """
    work = work / ("zero_based" if zero_based else "one_based")
    options = LetorOptions(num_features=width, zero_based=zero_based, comments=True)
    caches = work / "parsed.json"
    if not caches.is_file():
        remove_parts(work)
        write_json(caches, [prepare_letor(path, work, options).name for path in paths])
    found = [work / name for name in json.loads(caches.read_text())]
    tallies = [letor_cache.tally_of(cache) for cache in found]
    for path, tally in zip(paths, tallies, strict=True):
        report_of(path, options, tally, True, None)
    whole = work / "features.bin"
    if not (work / "whole.json").is_file():
        most = max(tally.num_features for tally in tallies)
        write_vectors(whole, (part for cache in found for part in letor_cache.features_of(cache)), most)
        names = list(dict.fromkeys(name for cache in found for row in _comments(cache) for name in row))
        _write_comments(work / "comments.parquet", found, names)
        write_json(work / "whole.json", names)
    names = json.loads((work / "whole.json").read_text())
    return _lists(paths, found, tallies, work, Vectors(VectorFile(whole)), names)


def _lists(
    paths: Sequence[Path], caches: Sequence[Path], tallies: Sequence[Tally], work: Path, features: Vectors,
    names: Sequence[str],
) -> Lists:
    source = Source(tuple((str(path), tally.rows + tally.skipped) for path, tally in zip(paths, tallies, strict=True)))
    parsed = [letor_cache.numbers_of(cache) for cache in caches]
    labels, rows = (np.concatenate([one[name] for one in parsed]) for name in ("label", "ordinal"))
    starts = [np.concatenate([[0], np.flatnonzero(np.diff(one["qid"])) + 1]) for one in parsed]
    ids = [queries(one["qid"][first], tally.codes)
           for one, first, tally in zip(parsed, starts, tallies, strict=True)]
    counts = [len(one["qid"]) for one in parsed]
    before = np.cumsum([0, *counts])
    offsets = np.concatenate([*(first + start for first, start in zip(starts, before[:-1], strict=True)), before[-1:]])
    rows += np.repeat(np.cumsum([0, *(count for _, count in source.files)])[:-1], counts)
    found = joined_ids(ids, [str(path) for path in paths])
    columns: dict[str, Any] = {"features": features, "label": labels, "qid": np.repeat(found, np.diff(offsets))}
    table = SortedRows(work / "comments.parquet", pyarrow.schema({name: pyarrow.string() for name in names}), source,
                       "", True)
    for name in names:
        columns[f"comment_{name}" if name in COLUMNS else name] = OnDisk(table, name)
    return Lists(columns, offsets, found, list_id="qid", source_rows=rows, source=source)


def _comments(cache: Path) -> Iterator[dict[str, str]]:
    """The keys and values in the comment of each row; nothing for a part of the rows without comments."""
    for texts in letor_cache.comments_of(cache):
        if pyarrow.compute.any(pyarrow.compute.not_equal(texts, "")).as_py():
            yield from map(in_comment, texts.to_pylist())


def _write_comments(path: Path, caches: Sequence[Path], names: Sequence[str]) -> None:
    """Writes the comments as a table that :class:`tfmtl2r.data.sorted_rows.SortedRows` reads."""
    schema = pyarrow.schema([*((f"c{place}", pyarrow.string()) for place in range(len(names))), (ROW, pyarrow.int64())])
    row = 0
    with written(path) as temporary, pyarrow.parquet.ParquetWriter(temporary, schema) as writer:
        for cache in caches:
            for texts in letor_cache.comments_of(cache):
                rows = [in_comment(text) for text in texts.to_pylist()] if names else []
                columns = [pyarrow.array([one.get(name, "") for one in rows], pyarrow.string()) for name in names]
                numbers = pyarrow.array(np.arange(row, row := row + len(texts)))
                writer.write_table(pyarrow.Table.from_arrays([*columns, numbers], schema=schema))
