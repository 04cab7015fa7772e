"""Parses LETOR text line by line, and reports lines that break the rules.

A row is ``LABEL qid:QUERY ID:VALUE ID:VALUE ... # comment``. Numbers are decimal and feature ids increase. ``qid`` is
left out if a group file contains the lengths of lists. Blank lines and lines with only a comment are no rows.
:mod:`tfmtl2r.data.letor_fast` parses the same rows many times faster, and leaves irregular chunks to this module.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow

from tfmtl2r.data.cells import TextCells
from tfmtl2r.data.encoding import not_utf8
from tfmtl2r.data.stored import NO_FILE
from tfmtl2r.errors import InputError

MAX_FEATURES = 100_000
"""Larger feature ids are errors unless ``num_features`` allows them, because rows become dense vectors."""
FLOAT32_LIMIT = (2 - 2**-24) * 2.0**127
"""Numbers of at least this magnitude become infinite as float32."""
_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_INTEGER = re.compile(rb"[+-]?\d+")
_KEY_VALUE = re.compile(r"([A-Za-z_]\w*)\s*=\s*(\S+)")
_SPELLED = re.compile(rb"^([+-]?0\d|\+|-0$)", re.MULTILINE)
_CODES = -(2**63)
"""The number of the first query of a file that is no plain integer; the next such queries have the next numbers."""
_QUOTED = 40


@dataclasses.dataclass(frozen=True)
class Grammar:
    """The rules for rows.

    Args:
        qid: whether rows contain ``qid:QUERY``.
        lowest: the lowest feature id, 0 or 1.
        highest: the highest feature id.
        stated: whether ``highest`` comes from ``num_features``, for the error message.
        comments: whether to keep the text after ``#``.
        clip: largest magnitude of a feature; larger values are clipped. None does not clip.
        codes: the queries so far that are spelled unlike plain integers, such as 007, each with its position.
    """

    qid: bool = True
    lowest: int = 1
    highest: int = MAX_FEATURES
    stated: bool = False
    comments: bool = False
    clip: float | None = None
    codes: dict[str, int] = dataclasses.field(default_factory=dict, compare=False)


@dataclasses.dataclass
class Block:
    """Consecutive rows; their features are one flat sequence of pairs.

    Args:
        labels: ``float32[n]``.
        qids: ``int64[n]``, see :func:`queries`; empty if rows have no qid.
        counts: ``int64[n]``, number of pairs per row.
        ids: ``int32[pairs]``, as in the text.
        values: ``float32[pairs]``.
        lines: ``int64[n]``, the line of each row, counted from 1.
        ordinals: ``int64[n]``, the number of each row in the file; skipped rows count.
        rows: number of rows, including skipped rows.
        comments: text after ``#`` per row; empty if comments are not read.
        problems: one message per skipped row.
    """

    labels: np.ndarray
    qids: np.ndarray
    counts: np.ndarray
    ids: np.ndarray
    values: np.ndarray
    lines: np.ndarray
    ordinals: np.ndarray
    rows: int
    comments: list[str]
    problems: list[str]


class LetorError(InputError):
    """The text is not valid LETOR; the message contains file, line, expected and found text, and a remedy."""


class ZeroIdError(LetorError):
    """A row has the feature id 0, although ids were to count from 1."""


def read_lines(text: bytes, grammar: Grammar, place: tuple[str, int, int], skip: bool) -> Block:
    """Parses whole lines one by one.

    Args:
        text: the lines.
        grammar: the rules for rows.
        place: file name, number of the first line (counted from 1), number of rows before it.
        skip: leave out rows that break a rule, with a message in ``problems``, instead of raising an error.

    Raises:
        LetorError: for the first row that breaks a rule, unless ``skip`` is set.

    >>> block = read_lines(b"2 qid:7 1:0.5 3:1\\n", Grammar(), ("a.txt", 1, 0), skip=False)
    >>> block.labels.tolist(), block.qids.tolist(), block.ids.tolist(), block.values.tolist()
    ([2.0], [7], [1, 3], [0.5, 1.0])
    """
    path, line, row = place
    labels: list[float] = []
    qids: list[int] = []
    counts: list[int] = []
    ids: list[int] = []
    values: list[float] = []
    places: list[tuple[int, int]] = []
    comments: list[str] = []
    problems: list[str] = []
    rows = _numbered(text, line)
    for ordinal, (number, tokens, comment) in enumerate(rows, start=row):
        try:
            label, qid, row_ids, row_values = _row(tokens, grammar)
            said = comment_text(comment) if grammar.comments else ""
        except LetorError as error:
            message = f"{path}:{number}: {error}"
            if not skip:
                raise type(error)(message) from None
            problems.append(message)
            continue
        labels.append(label)
        counts.append(len(row_ids))
        places.append((number, ordinal))
        ids += row_ids
        values += row_values
        if qid is not None:
            qids.append(qid)
        if grammar.comments:
            comments.append(said)
    lines, ordinals = np.array(places, np.int64).reshape(-1, 2).T
    return Block(
        np.array(labels, np.float32), np.array(qids, np.int64), np.array(counts, np.int64), np.array(ids, np.int32),
        np.array(values, np.float32), lines, ordinals, len(rows), comments, problems,
    )


def _numbered(text: bytes, line: int) -> list[tuple[int, list[bytes], bytes]]:
    """Line number, tokens and comment of each row. Blank lines and lines with only a comment are no rows."""
    parted = [raw.partition(b"#") for raw in text.split(b"\n")]
    rows = [(number, body.split(), comment) for number, (body, _, comment) in enumerate(parted, start=line)]
    return [row for row in rows if row[1]]


def comment_text(raw: bytes) -> str:
    """The text after ``#`` without surrounding blanks.

    Raises:
        LetorError: if the text is not UTF-8.
    """
    if wrong := not_utf8(raw):
        raise LetorError(wrong.replace("line 1", "the comment"))
    return raw.strip().decode()


def has_codes(qids: bytes) -> bool:
    """Whether one of the queries, one per line, is spelled unlike a plain integer: with leading zeros or a plus sign.

    >>> has_codes(b"7\\n0\\n-10"), has_codes(b"7\\n007")
    (False, True)
    """
    return _SPELLED.search(qids) is not None


def queries(qids: np.ndarray, codes: Mapping[str, int]) -> np.ndarray:
    """The ids of queries: the integers ``int64[n]``, or text if the file contains codes such as 007.

    >>> queries(np.array([7, _CODES]), {"007": 0}).tolist()
    ['7', '007']
    """
    if not codes:
        return qids
    spelled = {_CODES + place: text for text, place in codes.items()}
    return np.array([spelled.get(qid, str(qid)) for qid in qids.tolist()], object)


def check_adjacent(
    block: Block, seen: dict[int, int], last: int | None, path: str, codes: Mapping[str, int]
) -> int | None:
    """Checks that the rows of each query are adjacent.

    Args:
        block: the next rows of the file.
        seen: query -> line of its first row, for all earlier queries; updated.
        last: the query of the previous row.
        path: the file, for the message.
        codes: see :func:`queries`.

    Returns:
        The query of the last row.

    Raises:
        LetorError: when a query appears again after another query.
    """
    if not len(block.qids):
        return last
    starts = np.concatenate([[0], np.flatnonzero(np.diff(block.qids)) + 1])
    for qid, line in zip(block.qids[starts].tolist(), block.lines[starts].tolist(), strict=True):
        if qid in seen and qid != last:
            [query] = queries(np.array([qid]), codes)
            raise LetorError(
                f"{path}:{line}: query {query} comes again after other queries; its first row is line {seen[qid]}. "
                "Expected the rows of a query to be adjacent: bring them together with sort=True (--sort)"
            )
        seen.setdefault(qid, line)
        last = qid
    return last


def key_values(texts: Iterable[str]) -> dict[str, TextCells]:
    """Converts comments like ``docid = GX008 prob = 0.08`` to columns of text, whose cells may spell numbers.

    >>> columns = key_values(["docid = a prob = 0.5", "docid = b"])
    >>> {name: column.values.tolist() for name, column in columns.items()}
    {'docid': ['a', 'b'], 'prob': [0.5, nan]}
    """
    rows = [in_comment(text) for text in texts]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: TextCells(name, pyarrow.chunked_array([[row.get(name, "") for row in rows]]), NO_FILE)
            for name in names}


def in_comment(text: str) -> dict[str, str]:
    """The keys and values in a comment.

    >>> in_comment("docid = GX008 prob = 0.08")
    {'docid': 'GX008', 'prob': '0.08'}
    """
    return dict(_KEY_VALUE.findall(text))


def _row(tokens: list[bytes], grammar: Grammar) -> tuple[float, int | None, list[int], list[float]]:
    label = _number(tokens[0], "a label")
    qid, start = None, 1
    has_qid = len(tokens) > 1 and tokens[1].startswith(b"qid:")
    if grammar.qid:
        if not has_qid:
            raise LetorError(
                f"expected qid:QUERY behind the label, got {_show(tokens[1]) if len(tokens) > 1 else 'the line end'}; "
                "for a file without queries give a group file (group=, --group) with the rows of each list"
            )
        qid, start = _qid(tokens[1][4:], grammar.codes), 2
    elif has_qid:
        raise LetorError(f"got {_show(tokens[1])}, but a group file was given: rows then carry no qid; leave it out")
    ids: list[int] = []
    values: list[float] = []
    for token in tokens[start:]:
        text, colon, value = token.partition(b":")
        if not colon or not text.isdigit():
            raise LetorError(f"expected ID:VALUE, got {_show(token)}")
        digits = text.lstrip(b"0") or b"0"
        found = int(digits) if len(digits) < 19 else 10**18
        ids.append(_feature_id(found, ids[-1] if ids else None, grammar))
        values.append(_number(value, f"the value of feature {ids[-1]}", grammar.clip))
    return label, qid, ids, values


def _feature_id(found: int, before: int | None, grammar: Grammar) -> int:
    if found < grammar.lowest:
        raise ZeroIdError("feature id 0, but LETOR counts from 1; if this file counts from 0, set zero_based=True "
                         "(--zero-based) for it and for all of its splits")
    if found > grammar.highest:
        width = grammar.highest + 1 - grammar.lowest
        advice = f"expected {width} features (num_features)" if grammar.stated else (
            f"expected at most {grammar.highest}, since rows become dense vectors; give num_features if this is meant")
        raise LetorError(f"feature id {found}; {advice}")
    if before is not None and found <= before:
        what = "comes twice" if found == before else f"comes after {before}"
        raise LetorError(f"feature id {found} {what}; expected increasing ids in a row")
    return found


def _qid(text: bytes, codes: dict[str, int]) -> int:
    if _INTEGER.fullmatch(text):
        # Leading zeros are removed first, because int() refuses thousands of digits.
        digits = text.lstrip(b"+-").lstrip(b"0") or b"0"
        value = int(digits) if len(digits) < 20 else 2**64
        value = -value if text.startswith(b"-") else value
        if has_codes(text) or value == _CODES:
            return _CODES + codes.setdefault(text.decode(), len(codes))
        if _CODES < value < 2**63:
            return value
    raise LetorError(f"expected a 64-bit integer behind qid:, got {_show(text)}")


def _number(text: bytes, what: str, clip: float | None = None) -> float:
    if _NUMBER.fullmatch(text):
        value = float(text)
        if clip is not None:
            return min(max(value, -clip), clip)
        if abs(value) < FLOAT32_LIMIT:
            return value
        raise LetorError(f"{what} is too large for float32: {_show(text)}; scale it down")
    if text.lower().lstrip(b"+-") in (b"nan", b"inf", b"infinity"):
        raise LetorError(f"expected {what} that is a finite number, got {_show(text)}; leave out a missing feature")
    raise LetorError(f"expected {what} that is a number, got {_show(text)}")


def _show(text: bytes) -> str:
    shown = text[:_QUOTED].decode(errors="backslashreplace")
    return repr(shown + ("..." if len(text) > _QUOTED else ""))
