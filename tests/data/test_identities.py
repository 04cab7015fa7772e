"""An identity is not a quantity: list ids and categories of every type are told apart exactly, or refused in words.

The kind is infinite, so the tests draw ids: whatever holds them, a table has as many lists as there are different ids.
"""

from __future__ import annotations

import datetime
import time
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmtl2r import Category, Task
from tfmtl2r.data import (
    feature_values,
    fit_schema,
    from_frame,
    out_of_fold_rates,
    read_elwc,
    read_letor,
    read_table,
    write_elwc,
)
from tfmtl2r.data.columns import Columns
from tfmtl2r.datasets.table import Table
from tfmtl2r.features.base import Values

NEXT = 72048431380967004
"""An integer that equals its successors as a float64."""
WIDE = 9304843138096700412345
"""An integer of more than 64 bits."""
WHOLE = st.integers(-(2**63), 2**63 - 1)


def holders():
    """Ways to hold integers of 64 bits in a column."""
    return {
        "int64": lambda ids: np.array(ids, np.int64),
        "Int64": lambda ids: pd.array(ids, "Int64"),
        "objects": lambda ids: pd.Series(ids, dtype=object),
        "Decimal": lambda ids: [Decimal(i) for i in ids],
        "category": lambda ids: pd.Categorical(ids),
        "category of Decimal": lambda ids: pd.Categorical([Decimal(i) for i in ids]),
        "text": lambda ids: [f"0{i}" for i in ids],
        "bytes": lambda ids: [i.to_bytes(9, signed=True) for i in ids],
        "UUID": lambda ids: [uuid.UUID(int=i + 2**63) for i in ids],
        "times": lambda ids: np.array(ids, np.int64).view("datetime64[ns]"),
        "arrow": lambda ids: pd.array(ids, dtype=pd.ArrowDtype(pyarrow.int64())),
        "arrow decimal": lambda ids: pd.array([Decimal(i) for i in ids], pd.ArrowDtype(pyarrow.decimal128(38, 0))),
    }


@pytest.mark.parametrize("holder", holders())
@settings(max_examples=10, deadline=None)
@given(st.lists(st.one_of(WHOLE, st.integers(NEXT, NEXT + 3)), min_size=1, max_size=8))
def test_a_table_has_as_many_lists_as_different_ids(holder, ids):
    ids = [NEXT, NEXT + 1, *(i if i > -(2**63) else 0 for i in ids)]  # -2**63 is numpy's NaT
    frame = pd.DataFrame({"q": holders()[holder](ids), "y": range(len(ids))})
    lists = from_frame(frame, "q")
    groups = {i: [row for row, other in enumerate(ids) if other == i] for i in dict.fromkeys(ids)}
    assert [rows.tolist() for rows in np.split(lists.columns["y"], lists.offsets[1:-1])] == list(groups.values())


@pytest.mark.parametrize("cells", [
    np.array([2**64 - 1, 2**64 - 2], np.uint64), pd.array([2**64 - 1, 2**64 - 2], "UInt64"),
    pd.Series([WIDE, WIDE + 1], dtype=object), [Decimal(WIDE), Decimal(WIDE + 1)],
    [Decimal("0.1"), Decimal("0.1000000000000000000000000000000001")], [b"\xff", b"\xfe"],
    [datetime.date(1, 1, 1), datetime.date(9999, 1, 1)], [datetime.time(1), datetime.time(2)],
    pd.period_range("2024-01", periods=2, freq="M"), pd.to_timedelta([1, 2]), [True, False], ["a", "a "],
])
def test_other_ids_are_exact_too(cells):
    assert from_frame(pd.DataFrame({"q": cells}), "q").num_lists == 2
    category = fit_schema(from_frame(pd.DataFrame({"c": cells, "y": [0, 1]})), [Task("y")], [Category("c")]).features[0]
    assert len(set(category.vocabulary)) == 2


def test_equal_decimals_are_one_id():
    ids = [Decimal("1.50"), Decimal("1.5"), Decimal("1E+1"), Decimal(10)]
    assert from_frame(pd.DataFrame({"q": ids}), "q").num_lists == 2


@pytest.mark.parametrize(("cells", "message"), [
    ([1.0, 2.0**53], r"'q' holds 9007199254740992.0 in row 1 .*store the ids as integers or as text"),
    (pd.array([1.0, -(2.0**60)], "Float64"), "in row 1"),
    (np.array([1, 2**24], np.float32), r"holds 16777216.0 in row 1 .* a float32 no longer"),
    (pd.Series([NEXT, 1.5], dtype=object), "in row 0"),
    ([1.0, np.inf], "holds inf in row 1"),
    ([Decimal(1), Decimal("Infinity")], "'Infinity'.*in row 1"),
    ([[1], [2]], "holds sequences, which are no ids"),
    ([{"a": 1}, {"a": 2}], "holds dict cells"),
    ([1, "1"], r"mixes types: 1 \(int\) and '1' \(str\) in row 1"),
])
def test_ids_that_are_not_exact_are_refused(cells, message):
    with pytest.raises(ValueError, match=message):
        from_frame(pd.DataFrame({"q": cells}), "q")


def test_decimals_of_a_parquet_file_are_ids(tmp_path):
    ids = [Decimal(10**18 + i // 3) for i in range(600)]
    column = pyarrow.array(ids, pyarrow.decimal128(38, 0))
    pyarrow.parquet.write_table(pyarrow.table({"q": column, "x": np.arange(600.0), "y": np.arange(600) % 2}),
                                tmp_path / "t.parquet")
    data = Table(str(tmp_path / "t.parquet"), list_id="q", goals=[Task("y")])
    assert sum(data.lists(split).num_lists for split in data.splits) == 200


def test_ids_and_declared_categories_of_a_text_file_are_text(tmp_path):
    cells = ["007", "7", "08", "8", f"{WIDE}", f"{WIDE + 1}", "NA", "1.0"]
    digits = ["01234", "1234", "5", "6", "7", "8", "9", "10"]
    rows = "\n".join(f"{one},{two},{i},0" for i, (one, two) in enumerate(zip(cells, digits, strict=True)))
    (tmp_path / "train.csv").write_text(f"q,zip,code,y\n{rows}\n")
    for split in ("vali", "test"):
        (tmp_path / f"{split}.csv").write_text("q,zip,code,y\n1,A0,2,1\n")
    entries = [{"name": "zip", "kind": "category"}, {"name": "code", "kind": "category"}]
    data = Table(str(tmp_path), list_id="q", goals=[Task("y")], columns=entries)
    train, schema = data.lists("train"), data.schema()
    assert train.ids.tolist() == cells
    assert set(schema.features[0].vocabulary) == set(digits)
    assert set(schema.features[1].vocabulary) == {str(i) for i in range(8)}
    assert feature_values(data.lists("test"), schema.features[1])["code"].tolist() == ["2"]
    # Without a declaration too: leading zeros and long integers are no quantities.
    undeclared = read_table(tmp_path / "train.csv", columns=["q", "zip"])
    assert (undeclared["zip"].tolist(), undeclared["q"].tolist()[:6]) == (digits, cells[:6])


def test_codes_in_the_comments_of_letor_are_text(tmp_path):
    (tmp_path / "a.txt").write_text(
        f"1 qid:1 1:1 # docid = 007 url = {WIDE} p = 1\n1 qid:1 1:1 # docid = 7 url = 1 p = .5\n")
    columns = read_letor(tmp_path / "a.txt", comments=True, zero_based=False).columns
    assert columns["docid"].tolist() == ["007", "7"]
    assert columns["url"].tolist() == [str(WIDE), "1"]
    assert columns["p"].tolist() == [1, 0.5]


def test_times_are_the_same_category_in_every_unit():
    days = pd.to_datetime(["2024-01-01T00:00:00.0", None, "2024-01-02T10:30:00.5"])
    for unit in ("ms", "us", "ns"):
        lists = from_frame(pd.DataFrame({"c": days.as_unit(unit), "y": range(3)}))
        assert feature_values(lists, Category("c"))["c"].tolist() == ["2024-01-01", "", "2024-01-02T10:30:00.5"]


@pytest.mark.parametrize("tab", [" ", "\t"])  # regular lines, and lines that the fast parser leaves to the other
def test_queries_of_letor_are_text_where_they_are_no_plain_integers(tab, tmp_path):
    queries = ["7", "007", "007", "+7", "-0", "0", f"{-2**63}"]
    lines = [f"1{tab}qid:{qid} 1:{place}\n" for place, qid in enumerate(queries)]
    (tmp_path / "a.txt").write_text("".join(lines))
    for folder in (None, tmp_path, tmp_path):
        lists = read_letor(tmp_path / "a.txt", zero_based=False, cache_dir=folder)
        assert lists.ids.tolist() == ["7", "007", "+7", "-0", "0", f"{-2**63}"]
        assert lists.sizes.tolist() == [1, 2, 1, 1, 1, 1]
    (tmp_path / "b.txt").write_text("".join(lines[i] for i in (1, 0, 2)))
    with pytest.raises(ValueError, match=r"b\.txt:3: query 007 comes again"):
        read_letor(tmp_path / "b.txt", zero_based=False)
    assert read_letor(tmp_path / "b.txt", zero_based=False, sort=True).sizes.tolist() == [2, 1]


def test_comments_of_letor_that_are_not_utf8_are_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"1 qid:1 1:1 # docid = a\n1 qid:1 1:1 # docid = \xe8\n")
    with pytest.raises(ValueError, match=r"a\.txt:2: the file is not UTF-8: the comment has the byte 0xe8\."):
        read_letor(tmp_path / "a.txt", comments=True, zero_based=False)
    skipped = read_letor(tmp_path / "a.txt", comments=True, zero_based=False, on_error="skip")
    assert skipped.columns["docid"].tolist() == ["a"]
    assert read_letor(tmp_path / "a.txt", zero_based=False).num_items == 2  # nobody reads the comments


def test_integer_categories_with_a_missing_value_are_exact():
    lists = from_frame(pd.DataFrame({"c": pd.array([NEXT, NEXT + 1, None], "Int64"), "y": [0, 1, 0]}))
    category = fit_schema(lists, [Task("y")]).features[0]
    assert category == Category("c", vocabulary=(NEXT, NEXT + 1), dtype="int64")
    assert feature_values(lists, category)["c"].tolist() == [NEXT, NEXT + 1, -1]


def test_an_integer_that_does_not_fit_is_refused():
    category = Category("c", vocabulary=(1, 2), dtype="int64")
    large = from_frame(pd.DataFrame({"c": np.array([1, 2**63], np.uint64)}))
    with pytest.raises(ValueError, match=r"too large for int64: 9223372036854775808 in row 1"):
        feature_values(large, category)


def test_keys_of_rates_are_exact():
    train = pd.DataFrame({"user": [NEXT, NEXT + 1], "day": [1, 2], "click": [1, 0]})
    rows = pd.DataFrame({"user": np.array([NEXT, NEXT + 1], np.uint64), "day": [3, 3]})
    rates, _ = out_of_fold_rates(train, rows, "user", ["click"], fold="day", prior=1.0)
    assert rates[:, 0].tolist() == [0.75, 0.25]
    floats = pd.DataFrame({"user": [float(NEXT)], "day": [3]})
    with pytest.raises(ValueError, match="no longer tells neighbouring ids apart"):
        out_of_fold_rates(train, floats, "user", ["click"], fold="day", prior=1.0)


def test_ids_of_records_that_would_become_equal_are_refused(tmp_path):
    write_elwc(from_frame(pd.DataFrame({"q": ["7", "007"], "x": [0.5, 1.5]}), "q"), tmp_path / "a.tfrecord")
    assert read_elwc(tmp_path / "a.tfrecord", ["x"], list_id="list_id").ids.tolist() == ["7", "007"]
    with pytest.raises(ValueError, match="'007' would become 7; leave out integer_ids"):
        read_elwc(tmp_path / "a.tfrecord", ["x"], list_id="list_id", integer_ids=True)


def test_equal_dates_of_several_units_are_one_key_of_a_rate_and_missing_keys_are_one():
    """A fold that is not recognised would let a row's own label into its rate."""
    days = pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-03"])
    keys = pd.array([7, 7, 7, None], dtype="Int64")
    train = pd.DataFrame({"key": keys, "day": days.astype("datetime64[ns]"), "y": [1.0, 0.0, 0.0, 1.0]})
    alike = out_of_fold_rates(train, train, key="key", fold="day", labels=["y"])
    for unit in ("s", "us"):
        for other in (keys, np.array([7, 7, 7, np.nan])):
            rows = train.assign(day=days.astype(f"datetime64[{unit}]"), key=other)
            found = out_of_fold_rates(train, rows, key="key", fold="day", labels=["y"])
            np.testing.assert_array_equal(found, alike)
    assert alike[1][:, 0].tolist() == [2, 2, 2, 0]  # the missing key is no key of its own number


@pytest.mark.parametrize("cells", [
    pd.to_datetime(["2024-01-01", "2024-01-02"]), pd.to_timedelta(["1D", "2D"]), [datetime.date(2024, 1, 1)] * 2,
])
def test_dates_are_no_integers(cells):
    lists = from_frame(pd.DataFrame({"c": cells}))
    with pytest.raises(ValueError, match="feature 'c'"):
        Columns(lists, False).values("c", Values("int64", ()))


TYPES = {  # a column with few different values, and another one of the same type, by which a split may be surprised
    "unsigned": (np.array([1, 2], np.uint64), np.array([2**63, 1], np.uint64), ["9223372036854775808", "1"]),
    "small unsigned": (np.array([1, 2], np.uint8), np.array([255, 1], np.uint8), [255, 1]),
    "nullable unsigned": (pd.array([1, 2], "UInt64"), pd.array([2**63, None], "UInt64"), ["9223372036854775808", ""]),
    "nullable": (pd.array([1, None], "Int64"), pd.array([NEXT, NEXT + 1], "Int64"), [NEXT, NEXT + 1]),
    "Decimal": ([Decimal(1), Decimal(2)], [Decimal("1.50"), Decimal("1E+1")], ["1.5", "10"]),
    "arrow decimal": (pd.array([Decimal(1), None], pd.ArrowDtype(pyarrow.decimal128(20, 2))),
                      pd.array([Decimal("1.50"), Decimal(2)], pd.ArrowDtype(pyarrow.decimal128(20, 2))), ["1.5", "2"]),
    "category of floats": (pd.Categorical([1.0, None]), pd.Categorical([2.5, 1.0]), ["2.5", "1"]),
    "category": (pd.Categorical([1, 2]), pd.Categorical([NEXT, None]), [NEXT, -1]),
}


@pytest.mark.parametrize("kind", TYPES)
def test_the_type_of_a_column_decides_and_not_what_it_happens_to_hold(kind):
    """Train and test in either order; a column of pandas' category may be integers in one split and floats in another.
    """
    one, two, expected = TYPES[kind]
    lists = [from_frame(pd.DataFrame({"c": cells, "y": [0, 1]})) for cells in (one, two)]
    first, second = (fit_schema(each, [Task("y")], [Category("c")]).features[0] for each in lists)
    assert first.dtype == second.dtype == ("string" if isinstance(expected[0], str) else "int64")
    assert feature_values(lists[1], first)["c"].tolist() == expected
    feature_values(lists[0], second)


def test_categories_are_integers_without_and_floats_with_a_missing_value():
    """pandas makes a category of floats of integers of which one is missing."""
    frames = [pd.DataFrame({"c": pd.Series(cells).astype("category"), "y": [0, 1]}) for cells in ([1, 2], [2, None])]
    whole, gap = (from_frame(frame) for frame in frames)
    for train, vocabulary, found in ((whole, (1, 2), [[1, 2], [2, -1]]), (gap, ("2",), [["1", "2"], ["2", ""]])):
        feature = fit_schema(train, [Task("y")]).features[0]
        assert feature.vocabulary == vocabulary
        assert [feature_values(lists, feature)["c"].tolist() for lists in (whole, gap)] == found


def test_records_keep_the_digits_of_integers_with_a_missing_one(tmp_path):
    cells = pd.array([NEXT, None, NEXT + 1, -1], "Int64")
    lists = from_frame(pd.DataFrame({"q": [1, 1, 2, 2], "c": cells, "d": pd.Categorical(cells)}), "q")
    write_elwc(lists, tmp_path / "a.tfrecord")
    features = [Category(name, vocabulary=(1,), dtype="int64") for name in "cd"]
    found = read_elwc(tmp_path / "a.tfrecord", features)
    assert [found.columns[name].tolist() for name in "cd"] == [[NEXT, -1, NEXT + 1, -1]] * 2


def test_a_million_nullable_integers_are_no_loop():
    cells = pd.Series(pd.array(np.arange(1_000_000) % 1000, "Int64")).mask(np.arange(1_000_000) == 7)
    start = time.perf_counter()
    assert from_frame(pd.DataFrame({"q": cells.fillna(0), "c": cells}), "q").identities("c").dtype == np.int64
    assert time.perf_counter() - start < 2  # a loop takes several seconds
