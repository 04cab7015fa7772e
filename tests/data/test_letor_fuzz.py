"""Fuzzed LETOR text: an error with a line number or the right rows, whichever reader gets it."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfmtl2r.data.letor import LetorError, LetorOptions, read_letor_with_report
from tfmtl2r.data.letor_fast import read_block
from tfmtl2r.data.letor_text import Grammar, read_lines

QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(repr),
    st.integers(-9, 10**6).map(str),
    st.sampled_from(["0", "1.", ".5", "+1", "-0", "1e5", "1E-5", "00012.5", "1e-400", "3.4028236e38", "1e30"]),
)
odd = st.sampled_from([
    "nan", "inf", "-Infinity", "", "x", "1_0", "0x1", "1e999", "3.5e38", "--1", "+-1", "-+1", "1e", ".", "1:2", "١",
    "1d5", "1 2", "1\t", "\x0b", "\x00", "e", "qid", "1,5", "1e39",
])  # fmt: skip
odd_qids = st.sampled_from(["007", "+4", "-1", "1.0", "1e2", "", "a", str(2**63), "9" * 40])
odd_ids = st.sampled_from(["0", "01", "-0", "-1", "1.0", "1e1", "", "a", "100001", "9" * 30])
qids = st.one_of(st.integers(1, 3).map(str), odd_qids)
ids = st.one_of(st.integers(1, 8).map(str), odd_ids)


@st.composite
def rows(draw, wild):
    """A row that mostly keeps the rules, or mostly does not."""
    strange = st.integers(0, 99).map(lambda n: n < (25 if wild else 2))
    label = draw(odd if draw(strange) else numbers)
    query = draw(qids) if draw(strange) else str(draw(st.integers(1, 2)))
    chosen = draw(st.lists(ids, max_size=5)) if draw(strange) else sorted(draw(st.sets(st.integers(1, 6), max_size=6)))
    pairs = [f"{i}:{draw(odd if draw(strange) else numbers)}" for i in chosen]
    blank = draw(st.sampled_from(["  ", "\t", " \x0c"])) if draw(strange) else " "
    tail = draw(st.sampled_from([" ", "\r", " # note 1:2", "#", "# é", " \t"])) if draw(strange) else ""
    parts = [label, *([] if draw(strange) else [f"qid:{query}"]), *pairs]
    return blank.join(parts) + tail


@st.composite
def texts(draw):
    lines = draw(st.lists(rows(draw(st.booleans())), max_size=8))
    text = "\n".join(lines) + draw(st.sampled_from(["", "\n", "\n\n"]))
    if draw(st.integers(0, 9)) == 0 and text:  # an edit that knows nothing of the format
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.text(max_size=2)) + text[at + draw(st.integers(0, 2)):]
    return text.encode()


def reference(text: bytes) -> dict[int, tuple[float, int | str, dict[int, float]]] | None:
    """The rows by line, from the rules alone and with none of the readers' code; None if a row breaks one."""
    found = {}
    for number, line in enumerate(text.split(b"\n"), start=1):
        tokens = line.split(b"#")[0].split()
        if not tokens:
            continue
        decimal = rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
        shape = rb"%s qid:[+-]?[0-9]+( [0-9]+:%s)*" % (decimal, decimal)
        if not re.fullmatch(shape, b" ".join(tokens)):
            return None
        pairs = [token.split(b":") for token in tokens[2:]]
        keys = [int(key) for key, _ in pairs]
        values = [float(tokens[0]), *(float(value) for _, value in pairs)]
        qid = int(tokens[1][4:])
        if keys != sorted(set(keys)) or not set(keys) <= set(range(1, 100_001)):
            return None
        with np.errstate(over="ignore"):
            if not np.isfinite(np.array(values, np.float64).astype(np.float32)).all() or not -(2**63) <= qid < 2**63:
                return None
        spelled = tokens[1][4:].decode()  # an id is text where it is no plain integer
        found[number] = (values[0], qid if spelled == str(qid) else spelled, dict(zip(keys, values[1:], strict=True)))
    return found


def check_file(text: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.txt"
        path.write_bytes(text)
        want = reference(text)
        options = LetorOptions(sort=True, zero_based=False)
        # A file of good rows is refused only if it holds none, or none with a feature.
        if want is None or not any(features for _, _, features in want.values()):
            with pytest.raises(LetorError, match=r"rows\.txt:\d+: " if want is None else r"rows\.txt:"):
                read_letor_with_report(path, options)
            return
        lists, report = read_letor_with_report(path, options)
        rows_ = list(want.values())
        assert report.rows == len(rows_)
        matrix = np.zeros((len(rows_), report.num_features), np.float32)
        for row, (_, _, features) in enumerate(rows_):
            for key, value in features.items():
                matrix[row, key - 1] = value
        order = lists.source_rows
        np.testing.assert_array_equal(lists.columns["features"], matrix[order])
        np.testing.assert_array_equal(lists.columns["label"], np.float32([row[0] for row in rows_])[order])
        ids = [row[1] for row in rows_]
        if any(isinstance(one, str) or one == -(2**63) for one in ids):
            ids = [str(one) for one in ids]
        assert lists.columns["qid"].tolist() == [ids[row] for row in order]


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(texts())
def test_right_rows_or_an_error_with_a_line(text):
    check_file(text)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None, suppress_health_check=QUIET)
@given(texts())
def test_right_rows_or_an_error_with_a_line_1500(text):
    check_file(text)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(st.binary(max_size=60))
def test_any_bytes(text):
    check_file(text)


def same_readers(text: bytes, grammar: Grammar) -> None:
    fast = read_block(text, grammar, 5, 9)
    if fast is None:
        return
    slow = read_lines(text, grammar, ("x", 5, 9), skip=False)  # must not raise
    for name, value in vars(slow).items():
        got = getattr(fast, name)
        if isinstance(value, np.ndarray):
            assert got.dtype == value.dtype, name
            np.testing.assert_array_equal(got, value, err_msg=name)
        else:
            assert got == value, name


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(texts(), st.booleans(), st.booleans(), st.booleans())
def test_fast_reader_accepts_nothing_else(text, qid, zero_based, comments):
    same_readers(text, Grammar(qid, 0 if zero_based else 1, comments=comments))


@pytest.mark.slow
@settings(max_examples=1500, deadline=None, suppress_health_check=QUIET)
@given(texts(), st.booleans(), st.booleans(), st.booleans())
def test_fast_reader_accepts_nothing_else_1500(text, qid, zero_based, comments):
    same_readers(text, Grammar(qid, 0 if zero_based else 1, comments=comments))


def test_fast_reader_takes_regular_text():
    text = b"".join(b"%d qid:%d 1:0.5 2:%d # c\n" % (i % 3, i // 5, i) for i in range(50))
    for lines in (text, text.replace(b"\n", b" \r\n"), b"# head\n" + text, text.replace(b" 1:0.5", b"")):
        assert read_block(lines, Grammar(), 1, 0) is not None
        same_readers(lines, Grammar())
    assert read_block(text, Grammar(highest=1), 1, 0) is None
