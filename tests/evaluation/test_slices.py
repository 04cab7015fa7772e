"""Metrics of parts of a split: what a slice is, and that its metrics are those of its lists or items alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from tfmtl2r import Category, Schema, Task
from tfmtl2r.data import from_frame, read_lists
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation import evaluate
from tfmtl2r.evaluation.slices import sliced, slicing
from tfmtl2r.report.tables import slice_tables

TASKS = [Task("click", kind="binary", metrics=("ndcg@5", "auc")), Task("dwell", kind="regression")]


def log(lists=60, seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 7, lists)
    rows = int(sizes.sum())
    return pd.DataFrame({
        "q": np.repeat(np.arange(lists), sizes), "device": np.repeat(rng.choice(["tv", "web", ""], lists), sizes),
        "age": np.repeat(rng.normal(40, 9, lists), sizes), "video": rng.integers(0, 30, rows),
        "price": np.where(rng.random(rows) < 0.1, np.nan, rng.random(rows)), "few": rng.integers(0, 3, rows),
        "maybe": pd.array(np.where(rng.random(rows) < 0.2, None, rng.integers(0, 3, rows)), "Int64"),
        "when": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 10**6, rows), "s"),
        "watched": [list(range(rng.integers(0, 3))) for _ in range(rows)], "vector": list(rng.random((rows, 2))),
        "click": rng.integers(0, 2, rows), "dwell": rng.random(rows),
    })  # fmt: skip


FRAME = log()
LISTS = from_frame(FRAME, "q")


@pytest.mark.parametrize(("by", "of", "count"), [
    ("device", "lists", 3), ("age", "lists", 4), ("video", "items", 4), ("price", "items", 5), ("few", "items", 3),
    ("maybe", "items", 4), ("when", "items", 4), ("watched", "items", 3), ("list_length", "lists", 6),
    ("new:video", "items", 2), ("new:device", "lists", 2),
])  # fmt: skip
def test_slices_divide_the_items(by, of, count):
    """Every item is in exactly one slice, and slices of lists never divide a list."""
    found = slicing(LISTS, by, train=from_frame(FRAME[FRAME["video"] < 20], "q"))
    assert (found.of, len(found.slices)) == (of, count)
    assert np.sum(list(found.slices.values()), axis=0).tolist() == [1] * LISTS.num_items
    if of == "lists":
        for items in found.slices.values():
            assert all(len(set(part)) == 1 for part in np.split(items, LISTS.offsets[1:-1]))


def test_the_names_of_slices():
    names = {by: list(slicing(LISTS, by).slices) for by in ("device", "few", "maybe", "list_length", "price")}
    assert sorted(names["device"]) == ["(missing)", "tv", "web"]
    assert names["few"] == ["0", "1", "2"]
    assert names["maybe"] == ["0", "1", "2", "(missing)"]
    assert names["list_length"] == ["1", "2", "3", "4", "5", "6"]
    assert names["price"][-1] == "(missing)"
    assert names["price"][0].startswith(f"{FRAME['price'].min():.6g} to ")
    known = slicing(LISTS, "video", schema=Schema([Category("video", dtype="int64")]))
    assert len(known.slices) == 11
    assert list(known.slices)[-1] == "(20 other values)"
    seen = slicing(LISTS, "new:video", train=from_frame(FRAME[FRAME["video"] < 20], "q")).slices
    np.testing.assert_array_equal(seen["new"], LISTS.column("video") >= 20)
    fewer = slicing(from_frame(FRAME[["few", "click"]]), "few")
    assert fewer.of == "rows"


SLICES = {
    "floats that differ in the eighth digit": ([1000000.25, 1000000.5, 1000001, 5.0], ["5", "1000000.25", "1000000.5",
                                                                                      "1000001"]),
    "seconds since 1970": (1.7e9 + np.arange(40.0), [f"17000000{part}0 to 17000000{part}9" for part in range(4)]),
    "many near floats": (np.float32(1) + np.arange(12, dtype=np.float32) * np.float32(2**-23), 4),
    "times in one second": (np.array(["2026-01-01T00:00:00.1", "2026-01-01T00:00:00.2"], "datetime64[ms]"), 2),
    "text like our own names": (
        [*"abcdefghi", *"abcdefgh", "(1 other values)", "(1 other values)", "(missing)", "(missing)", ""],
        ["'(1 other values)'", "'(missing)'", *"abcdefgh", "(1 other values)", "(missing)"]),
    "the text of a missing value": (["None", "nan", "NaN", None], ["NaN", "None", "nan", "(missing)"]),
    "categories of integers": (pd.Categorical([1, 2, None]), ["1", "2", "(missing)"]),
    "ties at the lowest value": ([0.0] * 90 + list(range(1, 11)) + [20], ["0", "1 to 20"]),
    "ties in the middle": ([*range(-30, 0), *[0] * 50, *range(1, 21)], ["-30 to -6", "-5 to -1", "0", "1 to 20"]),
    "ties at the highest value": ([*range(10), *[99] * 90], ["0 to 9", "99"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", SLICES)
def test_no_two_slices_have_one_name(kind):
    values, wanted = SLICES[kind]
    found = slicing(from_frame(pd.DataFrame({"x": values, "y": 0})), "x").slices
    assert np.sum(list(found.values()), axis=0).tolist() == [1] * len(values)
    assert len(found) == wanted if isinstance(wanted, int) else list(found) == wanted


IDS = {
    "doubles, since one is missing": ([1, 2, 3], [1.0, 3.0, None, 9.0]),
    "integers after doubles": ([1.0, 3.0, None], pd.array([1, 3, None, 9], "Int64")),
    "text": (["a", "c", ""], ["a", "c", None, "d"]),
    "categories": (pd.Categorical([1, 3, None]), [1, 3, None, 9]),
    "times in another unit": (pd.to_datetime(["2026-01-01", "2026-01-02"]).astype("datetime64[s]"),
                              pd.to_datetime(["2026-01-01", "2026-01-02", None, "2026-01-03"])),
}  # fmt: skip


@pytest.mark.parametrize("kind", IDS)
def test_new_ids_are_those_of_no_row_in_training(kind, tmp_path):
    """The type of a column does not matter, which follows from missing cells; and a missing id is neither."""
    train, test = (pd.DataFrame({"u": values, "y": 0}) for values in IDS[kind])
    splits = [[from_frame(train), from_frame(test)]]
    for part, frame in (("train", train), ("test", test)):
        frame.to_csv(tmp_path / f"{part}.csv", index=False)
    splits.append([read_lists([tmp_path / f"{part}.csv"]) for part in ("train", "test")])
    for known, lists in splits:
        slices = slicing(lists, "new:u", train=known).slices
        assert {name: np.flatnonzero(rows).tolist() for name, rows in slices.items()} == \
            {"seen in train": [0, 1], "(missing)": [2], "new": [3]}


def test_metrics_of_a_slice_are_those_of_its_items_alone():
    rng = np.random.default_rng(1)
    scores = {"click": rng.normal(size=LISTS.num_items), "dwell": rng.random(LISTS.num_items)}
    found = sliced(scores, LISTS, TASKS, [slicing(LISTS, "device"), slicing(LISTS, "few")])
    assert [found[by]["of"] for by in ("device", "few")] == ["lists", "items"]
    for by, rule in (("device", "tv"), ("few", "1")):
        rows = FRAME[by].astype(str) == rule
        alone = from_frame(FRAME[rows].reset_index(drop=True), "q")
        wanted = evaluate({task: values[rows] for task, values in scores.items()}, alone, TASKS)
        part = found[by]["slices"][rule]
        assert (part["num_lists"], part["items"]) == (alone.num_lists, alone.num_items)
        for task, row in wanted.items():
            for metric, one in row.items():
                assert part["results"][task][metric]["value"] == pytest.approx(one.value, nan_ok=True), (task, metric)
                assert part["results"][task][metric]["num_lists"] == one.num_lists
    whole = evaluate(scores, LISTS, TASKS)["click"]["ndcg@5"]
    parts = [part["results"]["click"]["ndcg@5"] for part in found["device"]["slices"].values()]
    assert sum(part["num_lists"] for part in parts) == whole.num_lists
    assert np.average([part["value"] for part in parts], weights=[part["num_lists"] for part in parts]) == \
        pytest.approx(whole.value)  # fmt: skip


@pytest.mark.parametrize(("by", "message"), [
    ("devise", "no column 'devise'; did you mean 'device'"), ("matrix", "contains vectors"),
    ("new:video", "needs the training split"), ("new:watched", "contains lists"),
])  # fmt: skip
def test_what_cannot_be_sliced(by, message):
    lists = LISTS.with_column("matrix", np.zeros((LISTS.num_items, 2)))
    with pytest.raises(InputError, match=message):
        slicing(lists, by, train=LISTS if by == "new:watched" else None)
    with pytest.raises(InputError, match="plain rows, which have no list_length"):
        slicing(from_frame(FRAME), "list_length")


@pytest.mark.parametrize("tasks", [1, 3, 9])
def test_every_table_fits_a_terminal(tasks):
    metrics = {"ndcg@10": {"value": 0.5, "num_lists": 3, "direction": "max"},
               "mse": {"value": 123456.789, "num_lists": 3, "direction": "min"}}
    results = {f"a rather long name of task {i}": metrics for i in range(tasks)}
    found = {"of": "items", "slices": {"[red] an uncommonly long value of a column": {
        "num_lists": 123456, "items": 9, "results": results}, "[few]": {
        "num_lists": 2, "items": 9, "results": results}}}  # fmt: skip
    shown = slice_tables(found, "a column with a long name")
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for table in shown:
        console.print(table)
    text = console.export_text()
    console.file.close()
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("0.5000") == 2 * tasks
    assert " ".join(text.split()).count("at most 2 lists, too few for a number that means anything: [few]") == 1
    assert "[red] an uncommonly" in text
