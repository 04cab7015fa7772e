"""A fast parser of LETOR text: Arrow's CSV reader parses regular chunks.

Label and query are removed from each line. Each remaining pair ``ID:VALUE`` becomes a CSV row with the delimiter ``:``.
Arrow requires two numbers per row, and so checks the structure. For anything irregular (tabs, double blanks, a bad
number, a wrong id) the result is None, and :func:`tfmtl2r.data.letor_text.read_lines` parses the chunk.
"""

from __future__ import annotations

import numpy as np
import pyarrow
import pyarrow.csv

from tfmtl2r.data.letor_text import Block, Grammar, comment_text, has_codes
from tfmtl2r.errors import InputError

_IN_NUMBERS = b"0123456789.+-eE\n"
_IN_INTEGERS = b"0123456789+-\n"
_PARSE = pyarrow.csv.ParseOptions(delimiter=":", quote_char=False, ignore_empty_lines=False)
_CONVERT = pyarrow.csv.ConvertOptions(
    # Values are read as float64, as in Python, so that both parsers round in the same way.
    column_types={"id": pyarrow.int32(), "value": pyarrow.float64()}, null_values=[], check_utf8=False,
)


def read_block(text: bytes, grammar: Grammar, first_line: int, first_row: int) -> Block | None:
    """Parses whole lines if they are regular.

    Args:
        text: the lines.
        grammar: the rules for rows.
        first_line: number of the first line, counted from 1.
        first_row: number of rows before the first line.

    Returns:
        The same block as ``read_lines``, or None if a line is irregular.

    >>> block = read_block(b"2 qid:7 1:0.5 3:1\\n", Grammar(), 1, 0)
    >>> block.labels.tolist(), block.qids.tolist(), block.ids.tolist(), block.values.tolist()
    ([2.0], [7], [1, 3], [0.5, 1.0])
    >>> read_block(b"2 qid:7 1:nan\\n", Grammar(), 1, 0) is None
    True
    """
    try:
        raw, lines, comments = _rows(text, grammar, first_line)
        if grammar.qid:
            parts = [row.partition(b" qid:") for row in raw]
            tails = [tail.partition(b" ") for _, _, tail in parts]
            qids = _qids([tail[0] for tail in tails])
        else:
            parts = tails = [row.partition(b" ") for row in raw]
            qids = np.zeros(0, np.int64)
        labels = _labels([part[0] for part in parts])
        counts = np.array([tail[2].count(b":") for tail in tails], np.int64)
        pairs = _pairs([tail[2] for tail in tails if tail[2]], int(counts.sum()))
    except (ValueError, OverflowError):  # Arrow's errors are ValueErrors, too
        return None
    ids, values = pairs
    if grammar.clip is not None:
        values = np.clip(values, -grammar.clip, grammar.clip)
    if not (np.isfinite(labels).all() and np.isfinite(values).all() and _increasing(ids, counts, grammar)):
        return None
    ordinals = np.arange(first_row, first_row + len(raw))
    return Block(labels, qids, counts, ids, values, lines, ordinals, len(raw), comments, [])


def _rows(text: bytes, grammar: Grammar, first_line: int) -> tuple[list[bytes], np.ndarray, list[str]]:
    """Non-blank lines without comments and trailing blanks, their numbers, and the comments."""
    raw = text.split(b"\n")
    tails: list[bytes] = []
    if b"#" in text:
        parted = [line.partition(b"#") for line in raw]
        raw, tails = [part[0] for part in parted], [part[2] for part in parted] if grammar.comments else []
    raw = [line.rstrip(b" \r") for line in raw]
    numbers = np.arange(first_line, first_line + len(raw))
    if b"" in raw:
        kept = np.flatnonzero([bool(line) for line in raw])
        raw, numbers = [raw[i] for i in kept], numbers[kept]
        tails = [tails[i] for i in kept] if tails else tails
    if not grammar.comments:
        return raw, numbers, []
    return raw, numbers, [comment_text(tail) for tail in tails] if tails else [""] * len(raw)


def _labels(texts: list[bytes]) -> np.ndarray:
    if b"\n".join(texts).translate(None, _IN_NUMBERS):
        raise InputError("irregular")
    with np.errstate(over="ignore"):
        return np.array([float(text) for text in texts], np.float64).astype(np.float32)


def _qids(texts: list[bytes]) -> np.ndarray:
    joined = b"\n".join(texts)
    if joined.translate(None, _IN_INTEGERS) or has_codes(joined):
        raise InputError("irregular")
    return np.array([int(text) for text in texts], np.int64)


def _pairs(texts: list[bytes], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids ``int32`` and values ``float32`` of all pairs."""
    if not texts:
        return np.zeros(0, np.int32), np.zeros(0, np.float32)
    rows = b"\n".join(texts).replace(b" ", b"\n")
    # Arrow would accept an id of -0 and repeated signs, but Python would not.
    if rows.translate(None, _IN_NUMBERS + b":") or rows[:1] == b"-" or b"\n-" in rows or b"+-" in rows:
        raise InputError("irregular")
    table = pyarrow.csv.read_csv(
        pyarrow.BufferReader(rows),
        read_options=pyarrow.csv.ReadOptions(
            use_threads=False, block_size=max(len(rows), 1 << 20), column_names=["id", "value"]
        ),
        parse_options=_PARSE, convert_options=_CONVERT,
    )
    if table.num_rows != count:
        raise InputError("irregular")
    with np.errstate(over="ignore"):
        return table["id"].to_numpy(), table["value"].to_numpy().astype(np.float32)


def _increasing(ids: np.ndarray, counts: np.ndarray, grammar: Grammar) -> bool:
    """Whether ids are in range and increase within each row."""
    if not len(ids):
        return True
    if ids.min() < grammar.lowest or ids.max() > grammar.highest:
        return False
    later = np.ones(len(ids), bool)
    later[1:] = ids[1:] > ids[:-1]
    starts = np.cumsum(counts) - counts
    later[starts[counts > 0]] = True
    return bool(later.all())
