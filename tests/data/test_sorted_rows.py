"""Rows that DuckDB has sorted into lists on the disk are the lists that are read into memory."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from tfmtl2r.data import Lists, read_lists
from tfmtl2r.data.choose import only_rows
from tfmtl2r.data.sorted_rows import read_sorted
from tfmtl2r.rules import checked_rules

pytest.importorskip("duckdb", reason="DuckDB is in the extra [store]")


def frame(rows=60, start=0):
    rng = np.random.default_rng(start)
    numbers = np.arange(rows)
    return pd.DataFrame({
        "Q": rng.integers(0, 15, rows).astype(str), "q": numbers + start, "x": rng.normal(size=rows).astype(np.float32),
        "counted": pd.array(np.where(numbers % 7 == 0, None, numbers), "Int64"),
        "brand": pd.Categorical(rng.choice(["a", "b"], rows)),
        "text": np.where(numbers % 5 == 0, None, rng.choice(["x, y", "\"z\"", "NA"], rows)),
        "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(numbers * 1001, unit="ms"), "yes": numbers % 2 == 0,
        "ids": [list(rng.integers(0, 9, rng.integers(0, 4))) for _ in range(rows)],
        "vector": list(rng.normal(size=(rows, 2)).astype(np.float32)), "code": np.where(numbers < 9, "07", "1"),
    })


def two_files(folder, ending):
    """The rows of :func:`frame` in two files, whose integers have different sizes in Parquet."""
    paths = [folder / f"{number}.{ending}" for number in range(2)]
    for number, path in enumerate(paths):
        table = frame(start=60 * number)
        if ending == "parquet":
            (table if number else table.astype({"q": "int32"})).to_parquet(path)
        else:
            table.assign(ids=["|".join(map(str, one)) for one in table.ids]).drop(columns="vector").to_csv(
                path, index=False)
    return paths


def assert_same(one: Lists, other: Lists):
    assert list(one.columns) == list(other.columns)
    assert (one.list_id, one.context, one.is_rows) == (other.list_id, other.context, other.is_rows)
    np.testing.assert_array_equal(one.sizes, other.sizes)
    np.testing.assert_array_equal(one.source_rows, other.source_rows)
    if not one.is_rows:
        np.testing.assert_array_equal(one.ids, other.ids)
    assert (one.fingerprint(), one.order()) == (other.fingerprint(), other.order())
    for name in one.columns:
        mine, theirs = one.kept(name), other.kept(name)
        assert (mine.is_category, mine.holds_lists) == (theirs.is_category, theirs.holds_lists), name
        assert mine.spells_numbers == theirs.spells_numbers, name
        if mine.holds_lists:
            np.testing.assert_array_equal(mine.elements().sizes, theirs.elements().sizes)
            np.testing.assert_array_equal(mine.elements().flat.values, theirs.elements().flat.values)
            continue
        for reading in ("values", "typed", "identities", "missing"):
            found, expected = getattr(mine, reading), getattr(theirs, reading)
            assert found.dtype == expected.dtype, (name, reading)
            np.testing.assert_array_equal(found, expected, err_msg=f"{name}: {reading}")
        np.testing.assert_array_equal(mine.spelled.typed, theirs.spelled.typed)


@pytest.mark.parametrize("ending", ["parquet", "csv", "csv.gz"])
@pytest.mark.parametrize("list_id", ["Q", None])
def test_the_lists_of_memory(tmp_path, ending, list_id):
    paths = two_files(tmp_path, ending)
    memory, disk = read_lists(paths, list_id), read_sorted(paths, tmp_path / "work", list_id)
    assert_same(disk, memory)
    some = np.arange(0, memory.num_lists, 3)
    assert_same(disk.select(some), memory.select(some))
    rules = checked_rules({"column": "x", "above": 0})
    assert_same(only_rows(disk, rules), only_rows(memory, rules))
    before = (tmp_path / "work" / "sorted.parquet").stat().st_mtime_ns
    assert_same(read_sorted(paths, tmp_path / "work", list_id), memory)
    assert (tmp_path / "work" / "sorted.parquet").stat().st_mtime_ns == before
    assert disk.place(5) == memory.place(5)


KINDS = {
    "seconds": pyarrow.array([None, *range(1, 8)], pyarrow.duration("s")),
    "nanoseconds": pyarrow.array(range(8), pyarrow.duration("ns")),
    "lists of seconds": pyarrow.array([[1, 2], [], None, *[[3]] * 5], pyarrow.list_(pyarrow.duration("s"))),
    "half": pyarrow.array(np.arange(8).astype(np.float16)),
    "decimal": pyarrow.array([Decimal("1.25")] * 8),
    "wide": pyarrow.array([Decimal("-1.25")] * 8, pyarrow.decimal256(50, 2)),
    "unsigned": pyarrow.array([2**63 + row for row in range(8)], pyarrow.uint64()),
    "bytes": pyarrow.array([b"a\xff"] * 8), "fixed": pyarrow.array([b"ab"] * 8, pyarrow.binary(2)),
    "view": pyarrow.array(["a", None] * 4, pyarrow.string_view()), "nothing": pyarrow.nulls(8),
    "day": pyarrow.array([datetime.date(2024, 2, 29)] * 8, pyarrow.date64()), "yes": pyarrow.array([True, None] * 4),
    "numbered": pyarrow.array([1, 2] * 4).dictionary_encode(),
    "large": pyarrow.array([[1]] * 8, pyarrow.large_list(pyarrow.int64())),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_is_that_of_memory(tmp_path, kind):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"q": [1, 2, 1, 2, 3, 3, 1, 2], "cells": KINDS[kind]}), path)
    memory, disk = (lists.kept("cells") for lists in (
        read_lists([path], "q"), read_sorted([path], tmp_path / "work", "q")))
    assert (memory.holds_lists, memory.is_category) == (disk.holds_lists, disk.is_category)
    if memory.holds_lists:
        np.testing.assert_array_equal(disk.elements().sizes, memory.elements().sizes)
        memory, disk = memory.elements().flat, disk.elements().flat
    assert disk.values.dtype == memory.values.dtype
    np.testing.assert_array_equal(disk.values, memory.values)
    np.testing.assert_array_equal(disk.missing, memory.missing)


def test_errors_name_the_row_and_the_file(tmp_path):
    table = frame()
    table.assign(Q=np.where(np.arange(60) == 7, None, table.Q)).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"the list id 'Q' is missing in 1 of 60 rows, first in row 7 .*a.parquet"):
        read_sorted([tmp_path / "a.parquet"], tmp_path / "work", "Q")
    with pytest.raises(ValueError, match="has no column 'user'"):
        read_sorted([tmp_path / "a.parquet"], tmp_path / "work", "user")
    table.drop(columns="x").to_parquet(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"must have the same columns .*; x differs"):
        read_sorted([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "work", "Q")
    table[["Q", "x"]].to_parquet(tmp_path / "c.parquet")
    disk = read_sorted([tmp_path / "c.parquet"], tmp_path / "work", "Q", context=())
    with pytest.raises(ValueError, match=r"varies within a list: .* in row \d+ .*c.parquet, list "):
        read_sorted([tmp_path / "c.parquet"], tmp_path / "work", "Q", context=("x",))
    assert disk.num_items == 60
