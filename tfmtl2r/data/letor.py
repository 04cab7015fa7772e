"""Reads LETOR/SVMlight files as lists: :func:`read_letor`."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r.data import letor_cache
from tfmtl2r.data.letor_cache import Parsed
from tfmtl2r.data.letor_stream import LetorOptions, Tally, pieces
from tfmtl2r.data.letor_text import LetorError, key_values, queries
from tfmtl2r.data.lists import Lists
from tfmtl2r.data.stored import Source
from tfmtl2r.errors import InputError, MissingFileError

__all__ = ["LetorError", "LetorOptions", "LetorReport", "prepare_letor", "read_letor", "read_letor_with_report"]

COLUMNS = ("features", "label", "qid")
log = logging.getLogger("tfmtl2r")


@dataclasses.dataclass(frozen=True)
class LetorReport:
    """A report about reading a file.

    Args:
        path: the file.
        rows: number of rows that were read.
        skipped: number of malformed rows that were left out (``on_error="skip"``).
        problems: messages with file and line for the first 20 malformed rows.
        num_features: number of features F.
        from_cache: whether the rows came from the cache and the text was not parsed.
        cache_file: the cache file, if there is one.
    """

    path: str
    rows: int
    skipped: int
    problems: tuple[str, ...]
    num_features: int
    from_cache: bool
    cache_file: str | None


def read_letor(
    path: str | Path,
    *,
    group: str | Path | None = None,
    on_error: str = "raise",
    sort: bool = False,
    cache_dir: str | Path | None = None,
    num_features: int | None = None,
    zero_based: bool | None = None,
    comments: bool = False,
    clip: float | None = None,
) -> Lists:
    """Reads a LETOR/SVMlight file: rows ``LABEL qid:QUERY ID:VALUE ... # comment``.

    The columns are ``features`` (float32 ``[N, F]``), ``label`` (float32 ``[N]``) and ``qid`` (int64 ``[N]``, the list
    id). If a query of the file has leading zeros or a plus sign, all ids are text, so that 007 and 7 are two lists.
    Feature id i is at index ``i - 1`` (``i`` if ``zero_based``). A feature that a row lacks is 0. Values are rounded to
    float32.

    Args:
        path: text, ``.gz`` or ``.bz2``.
        group: for rows without qid, a file with the number of rows of each list, one per line (LightGBM's ``.query``).
            The lists then have the ids 0, 1, 2, ...
        on_error: ``"raise"`` raises an error for the first malformed row. ``"skip"`` leaves malformed rows out, and
            logs their number. Problems of the whole file (no rows, a truncated archive, rows of a query that are not
            adjacent) are always errors.
        sort: sort rows so that the rows of a query are adjacent; lists are in the order of their first rows.
        cache_dir: folder for caches of parsed files, named by content and options; a damaged cache is replaced.
        num_features: number of features F; None uses the highest id in the file. Set it if splits must agree.
        zero_based: whether ids count from 0 (True) or from 1 (False). None assumes 1, as in LETOR; a feature id 0 is
            then an error. A sparse file causes a warning, because it could be zero-based. The base is never inferred
            from the smallest id, because this could shift the columns of one split but not of another.
        comments: convert comments like ``#docid = X prob = 0.1`` to columns, with numbers if all values are numbers. A
            key with the name of a column above gets the prefix ``comment_``.
        clip: largest magnitude of a feature; larger values are clipped. It is for files that write missing values as
            the largest number. By default, a number that does not fit into float32 is an error.

    Raises:
        FileNotFoundError: for a missing file.
        LetorError: for malformed text; the message contains file, line, expected and found text, and a remedy.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "train.txt"
    >>> _ = file.write_text("2 qid:7 1:0.5 3:1 # a\\n0 qid:7 2:4\\n1 qid:8 1:1 2:2 3:3\\n")
    >>> lists = read_letor(file, zero_based=False)
    >>> lists.ids.tolist(), lists.sizes.tolist(), lists.columns["features"][0].tolist()
    ([7, 8], [2, 1], [0.5, 0.0, 1.0])
    """
    options = LetorOptions(_text(group), on_error, sort, num_features, zero_based, comments, clip)
    return read_letor_with_report(path, options, cache_dir)[0]


def read_letor_with_report(
    path: str | Path, options: LetorOptions | None = None, cache_dir: str | Path | None = None
) -> tuple[Lists, LetorReport]:
    """Like :func:`read_letor`, but also returns a report.

    Args:
        path: text, ``.gz`` or ``.bz2``.
        options: the other arguments of ``read_letor``.
        cache_dir: folder for caches of parsed files.
    """
    path, options = Path(path), options or LetorOptions()
    if cache_dir is None:
        tally = Tally()
        parsed = _collected(path, options, tally)
        return _lists(parsed, options, path, tally), report_of(path, options, tally, False, None)
    target = letor_cache.cache_file(cache_dir, path, options)
    found = letor_cache.read(target)
    cached = found is not None
    if found is None:
        _parse_into(path, options, target)
        found = letor_cache.read(target)
        if found is None:
            raise OSError(f"{target}: cannot be read back although it has just been written; check the disk")
    parsed, tally = found
    return _lists(parsed, options, path, tally), report_of(path, options, tally, cached, target)


def prepare_letor(path: str | Path, cache_dir: str | Path, options: LetorOptions | None = None) -> Path:
    """Parses a file into the cache, unless it is already there. Memory does not grow with the size of the file.

    Args:
        path: text, ``.gz`` or ``.bz2``.
        cache_dir: folder for caches of parsed files.
        options: the other arguments of ``read_letor``.

    Returns:
        The cache file, which :func:`read_letor` finds automatically.
    """
    path, options = Path(path), options or LetorOptions()
    target = letor_cache.cache_file(cache_dir, path, options)
    if not letor_cache.is_sound(target):
        _parse_into(path, options, target)
    return target


def _parse_into(path: Path, options: LetorOptions, target: Path) -> None:
    tally = Tally()
    letor_cache.write(target, pieces(path, options, tally), tally)
    if letor_cache.cache_file(target.parent, path, options) != target:
        letor_cache.remove(target)
        raise LetorError(f"{path}: the file changed while it was read; read it again when it is complete")


def _collected(path: Path, options: LetorOptions, tally: Tally) -> Parsed:
    parts = list(pieces(path, options, tally))
    features = np.zeros((tally.rows, tally.num_features), np.float32)
    first = 0
    for part in parts:
        rows, width = part.features.shape
        features[first : first + rows, :width] = part.features
        first += rows
    return Parsed(
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.qids for part in parts]),
        features,
        np.concatenate([part.ordinals for part in parts]),
        [comment for part in parts for comment in part.comments],
    )


def _lists(parsed: Parsed, options: LetorOptions, path: Path, tally: Tally) -> Lists:
    order: np.ndarray | slice = slice(None)
    if options.sort:
        _, first, number = np.unique(parsed.qids, return_index=True, return_inverse=True)
        # first[number]: where the query of each row appears first, so that lists keep that order.
        order = np.argsort(first[number], kind="stable")
    qids = parsed.qids[order]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(qids)) + 1])
    qids = queries(qids, tally.codes)
    columns: dict[str, Any] = {"features": parsed.features[order], "label": parsed.labels[order], "qid": qids}
    for name, values in (key_values(parsed.comments) if options.comments else {}).items():
        columns[f"comment_{name}" if name in COLUMNS else name] = values.take(np.arange(len(qids))[order])
    return Lists(columns, np.concatenate([starts, [len(qids)]]), qids[starts], list_id="qid",
                 source_rows=parsed.ordinals[order], source=Source(((str(path), int(parsed.ordinals.max()) + 1),)))


def report_of(path: Path, options: LetorOptions, tally: Tally, cached: bool, target: Path | None) -> LetorReport:
    """Returns the report, and logs warnings, also if the rows came from the cache.

    Args:
        path: the file.
        options: how it was read.
        tally: the statistics of reading.
        cached: whether the rows came from the cache.
        target: the cache file, if there is one.
    """
    if tally.skipped:
        log.warning("%s: left out %d of %d rows, the first because: %s", path, tally.skipped,
                    tally.skipped + tally.rows, tally.problems[0])
    if options.zero_based is None and tally.sparse:
        log.warning("%s: rows are sparse, and feature ids were assumed to count from 1, as in LETOR; confirm this with "
                    "zero_based=False, or set zero_based=True if this file counts from 0", path)
    return LetorReport(str(path), tally.rows, tally.skipped, tuple(tally.problems), tally.num_features, cached,
                       None if target is None else str(target))


def joined_ids(ids: Sequence[np.ndarray], paths: Sequence[str]) -> np.ndarray:
    """The ids of the lists of several files.

    Raises:
        ValueError: for an id that is in two files.
    """
    if len(ids) == 1:
        return ids[0]
    if any(one.dtype == object for one in ids):
        ids = [one.astype(str).astype(object) for one in ids]
    first: dict[Any, str] = {}
    for path, one in zip(paths, ids, strict=True):
        for found in one.tolist():
            if first.setdefault(found, path) != path:
                raise InputError(f"{first[found]} and {path}: both have the query {found!r}; put its rows into one "
                                 "file, or give each query its own id")
    return np.concatenate(ids)


def _text(path: str | Path | None) -> str | None:
    return None if path is None else os.fspath(path)


def expand(paths: Iterable[str | Path]) -> list[Path]:
    """Replaces each folder by its ``.txt``, ``.txt.gz`` and ``.txt.bz2`` files, sorted; files are kept.

    Raises:
        FileNotFoundError: for a path that does not exist, or a folder without such files.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(f for f in path.glob("**/*") if f.name.endswith((".txt", ".txt.gz", ".txt.bz2")))
        if path.is_dir() and not inside:
            raise MissingFileError(f"{path}: the folder has no .txt, .txt.gz or .txt.bz2 file")
        if not path.exists():
            raise MissingFileError(f"{path}: there is no such file or folder")
        files += inside if path.is_dir() else [path]
    return files
