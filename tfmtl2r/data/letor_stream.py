"""Reads LETOR files as a stream of rows: decompresses, cuts chunks at line ends, and makes dense vectors."""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r.data.encoding import BOM, UTF16, is_utf16
from tfmtl2r.data.letor_fast import read_block
from tfmtl2r.data.letor_text import FLOAT32_LIMIT, MAX_FEATURES, Block, Grammar, LetorError, check_adjacent, read_lines
from tfmtl2r.errors import InputError, MissingFileError

CHUNK = 1 << 19
LONGEST_LINE = 1 << 26
PIECE = 1 << 24
"""Maximum number of bytes of dense features in a piece."""
SHOWN = 20


@dataclasses.dataclass(frozen=True)
class LetorOptions:
    """Options for reading a LETOR file; see :func:`tfmtl2r.data.letor.read_letor`.

    Raises:
        ValueError: for an unknown ``on_error``, a number of features below 1, or a clip that is not above 0.
    """

    group: str | None = None
    on_error: str = "raise"
    sort: bool = False
    num_features: int | None = None
    zero_based: bool | None = None
    comments: bool = False
    clip: float | None = None

    def __post_init__(self) -> None:
        if self.on_error not in ("raise", "skip"):
            raise InputError(f"on_error must be 'raise' or 'skip', not {self.on_error!r}")
        if self.num_features is not None and self.num_features < 1:
            raise InputError(f"num_features must be at least 1, not {self.num_features}")
        if self.clip is not None and not 0 < self.clip < FLOAT32_LIMIT:
            raise InputError(f"clip must lie above 0 and fit into float32, not {self.clip}")

    @property
    def grammar(self) -> Grammar:
        """The rules for rows that follow from these options."""
        lowest = 0 if self.zero_based else 1
        highest = (MAX_FEATURES if self.num_features is None else self.num_features) - 1 + lowest
        return Grammar(self.group is None, lowest, highest, self.num_features is not None, self.comments, self.clip)


@dataclasses.dataclass
class Piece:
    """Some rows with dense features.

    Args:
        labels: ``float32[n]``.
        qids: ``int64[n]``.
        features: ``float32[n, D]``; D is the number of features found in the file so far.
        ordinals: ``int64[n]``, the number of each row in the file.
        comments: one text per row; empty if comments are not read.
    """

    labels: np.ndarray
    qids: np.ndarray
    features: np.ndarray
    ordinals: np.ndarray
    comments: list[str]


@dataclasses.dataclass
class Tally:
    """Statistics of reading a file, which are complete when the stream has ended.

    Args:
        rows: number of rows that were kept.
        skipped: number of rows that were left out.
        problems: messages for the first 20 rows that were left out.
        num_features: length of the feature vectors.
        sparse: whether a row lacks the first feature.
        codes: the queries that are no plain integers; see :func:`tfmtl2r.data.letor_text.queries`.
    """

    rows: int = 0
    skipped: int = 0
    problems: list[str] = dataclasses.field(default_factory=list)
    num_features: int = 0
    sparse: bool = False
    codes: dict[str, int] = dataclasses.field(default_factory=dict)


def pieces(path: Path, options: LetorOptions, tally: Tally) -> Iterator[Piece]:
    """Yields the rows of a file, in order, a few megabytes at a time.

    Args:
        path: text, ``.gz`` or ``.bz2``.
        options: options for reading the file.
        tally: statistics, updated while reading.

    Raises:
        FileNotFoundError: for a missing file.
        LetorError: for any problem in the file.
    """
    grammar = options.grammar
    tally.codes = grammar.codes
    ends = group_ends(Path(options.group)) if options.group is not None else None
    seen: dict[int, int] = {}
    last: int | None = None
    rows = 0
    for line, text in _chunks(path):
        block = read_block(text, grammar, line, rows)
        if block is None:
            block = read_lines(text, grammar, (str(path), line, rows), options.on_error == "skip")
        rows += block.rows
        if ends is not None:
            block.qids = np.searchsorted(ends, block.ordinals, side="right")
        elif not options.sort:
            last = check_adjacent(block, seen, last, str(path), grammar.codes)
        _count(block, grammar, tally)
        yield from _dense(block, grammar, options, tally)
    _finish(path, options, tally, rows, ends)


def group_ends(path: Path) -> np.ndarray:
    """Reads a group file (LightGBM's ``.query``, one number of rows per line), and returns cumulative list lengths.

    Raises:
        LetorError: when a line is not a whole number above 0, or the file is empty.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: there is no such group file")
    sizes = []
    for number, line in enumerate(path.read_text("utf-8-sig", errors="replace").splitlines(), start=1):
        if line.strip():
            if not (line.strip().isascii() and line.strip().isdigit() and 0 < int(line.strip()[:18]) < 10**15):
                raise LetorError(f"{path}:{number}: expected the number of rows of a list, such as 12, "
                                 f"got {line.strip()[:40]!r}")
            sizes.append(int(line.strip()[:18]))
    if not sizes:
        raise LetorError(f"{path}: the group file is empty; expected the number of rows of each list, one per line")
    return np.cumsum(np.array(sizes, np.int64))


def _chunks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields chunks of whole lines, each with the number of its first line, counted from 1."""
    if not path.is_file():
        raise MissingFileError(f"{path}: there is no such file")
    line, kept, is_first = 1, b"", True
    with _opened(path) as file:
        while True:
            read = _read(file, path, line + kept.count(b"\n"))
            if not read:
                break
            if is_first and is_utf16(read):
                raise LetorError(f"{path}:1: {UTF16}")
            kept += read.removeprefix(BOM) if is_first else read
            is_first = False
            cut = kept.rfind(b"\n") + 1
            if cut:
                yield line, kept[:cut]
                line += kept.count(b"\n", 0, cut)
                kept = kept[cut:]
            elif len(kept) > LONGEST_LINE:
                raise LetorError(f"{path}:{line}: the line is longer than {LONGEST_LINE >> 20} MB; expected LETOR "
                                 "text, one row per line")
    if kept:
        yield line, kept


def _opened(path: Path) -> Any:
    if path.suffix == ".gz":
        return gzip.open(path)
    return bz2.open(path) if path.suffix == ".bz2" else path.open("rb")


def _read(file: Any, path: Path, line: int) -> bytes:
    try:
        return file.read(CHUNK)
    except (EOFError, OSError, zlib.error) as error:
        raise LetorError(
            f"{path}:{line}: the file cannot be read beyond this line: {error}. Expected a complete "
            f"{path.suffix or 'text'} file; it is damaged or cut short: get or copy it again"
        ) from error


def _count(block: Block, grammar: Grammar, tally: Tally) -> None:
    tally.rows += len(block.labels)
    tally.skipped += len(block.problems)
    tally.problems += block.problems[: SHOWN - len(tally.problems)]
    if len(block.ids):
        tally.num_features = max(tally.num_features, int(block.ids.max()) + 1 - grammar.lowest)
    starts = (np.cumsum(block.counts) - block.counts)[block.counts > 0]
    tally.sparse |= len(starts) < len(block.counts) or bool((block.ids[starts] > grammar.lowest).any())


def _dense(block: Block, grammar: Grammar, options: LetorOptions, tally: Tally) -> Iterator[Piece]:
    """Yields rows as vectors of the width known so far, at most :data:`PIECE` bytes at a time."""
    width = options.num_features or tally.num_features
    tally.num_features = width
    ends = np.cumsum(block.counts)
    step = max(1, PIECE // max(4 * width, 1))
    for first in range(0, len(block.labels), step):
        rows = slice(first, first + step)
        counts = block.counts[rows]
        pairs = slice(int(ends[first] - counts[0]), int(ends[rows][-1]))
        values, columns = block.values[pairs], block.ids[pairs] - grammar.lowest
        if (counts == width).all():  # ids are increasing and in range, so each row is complete and in order
            features = values.reshape(len(counts), width)
        else:
            features = np.zeros((len(counts), width), np.float32)
            features[np.repeat(np.arange(len(counts)), counts), columns] = values
        yield Piece(block.labels[rows], block.qids[rows], features, block.ordinals[rows], block.comments[rows])


def _finish(path: Path, options: LetorOptions, tally: Tally, rows: int, ends: np.ndarray | None) -> None:
    """Checks that are only possible at the end of the file."""
    if not rows:
        raise LetorError(f"{path}:1: the file has no rows; expected lines such as 2 qid:1 1:0.5 2:3")
    if ends is not None and ends[-1] != rows:
        raise LetorError(f"{path}: has {rows} rows, but the lists of {options.group} add up to {ends[-1]}; "
                         "they must belong together")
    if not tally.rows:
        raise LetorError(f"{path}: all {rows} rows are malformed, the first because: {tally.problems[0]}")
    if not tally.num_features:
        raise LetorError(f"{path}: no row has a feature; expected ID:VALUE behind the label, or give num_features")
