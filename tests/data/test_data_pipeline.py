from __future__ import annotations

import logging
from itertools import count

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmtl2r import Category, Dense, Schema
from tfmtl2r._backend import tf
from tfmtl2r.data import Lists, batches, cut_report, fit_schema, from_frame
from tfmtl2r.layers.features import Lookup
from tfmtl2r.task import Task

TASKS = (Task("click", label="is_click", kind="binary"), Task("dwell", kind="regression"), Task("grade"))


def frame(lists=40, seed=0):
    random = np.random.default_rng(seed)
    q = np.repeat(np.arange(lists), random.integers(1, 9, lists))
    n = len(q)
    return pd.DataFrame({
        "q": q,
        "row": np.arange(n, dtype=np.float64),
        "brand": random.choice(["a", "b", "c", None], n),
        "code": random.integers(0, 5, n),
        "vector": list(random.normal(size=(n, 3))),
        "age": np.repeat(random.normal(size=lists), np.bincount(q)),
        "city": np.repeat(random.choice(["x", "y"], lists), np.bincount(q)),
        "is_click": random.integers(0, 2, n),
        "dwell": np.where(random.random(n) < 0.3, np.nan, random.random(n)),
        "grade": random.integers(-1, 5, n),
        "weight": random.random(n),
        "list_weight": np.repeat(random.random(lists), np.bincount(q)),
    }).sample(frac=1, random_state=seed)


@pytest.fixture(scope="module")
def table():
    return frame()


@pytest.fixture(scope="module")
def lists(table):
    return from_frame(table, "q", context=["age", "city", "list_weight"])


@pytest.fixture(scope="module")
def schema(lists):
    return fit_schema(lists, TASKS, [Dense("row"), "*"], exclude=["weight", "list_weight"])


def by_list(dataset):
    """Rows of each list as the pipeline gives them: {first row number: (rows, clicks)}, and all row numbers."""
    found = []
    for x, y in dataset:
        for i, size in enumerate(x["list_size"].numpy()):
            found.append((x["row"][i, :size].numpy().astype(int).tolist(), y["click"][i, :size].numpy().tolist()))
    return found


def order_of(dataset):
    return [rows[0] for rows, _ in by_list(dataset)]


def test_batches_are_a_brute_force_grouping(table, lists, schema):
    expected: dict = {}
    for row in table.to_dict("records"):
        expected.setdefault(row["q"], []).append(row)
    expected = list(expected.values())
    lookup = Lookup(schema)
    seen = 0
    for x, y, w in batches(lists, TASKS, schema, batch_size=7, weights={"click": "weight", "grade": "list_weight"}):
        group = expected[seen : seen + len(x["list_size"])]
        seen += len(group)
        length = max(len(rows) for rows in group)
        assert x["list_size"].numpy().tolist() == [len(rows) for rows in group]
        assert x["row"].shape == (len(group), length)
        assert x["vector"].shape == (len(group), length, 3)
        assert x["age"].shape == x["city"].shape == w["grade"].shape == (len(group),)
        for i, rows in enumerate(group):
            size = len(rows)
            raw = {name: [row[name] for row in rows] for name in schema.names}
            raw["brand"] = ["" if brand is None or brand != brand else brand for brand in raw["brand"]]
            dtypes = {"code": tf.int64}
            ids = lookup({name: tf.constant(value, dtypes.get(name)) for name, value in raw.items()})
            for name in schema.names:
                got, want = x[name][i].numpy(), ids[name].numpy()
                if name in ("age", "city"):
                    assert got == want[0]
                else:
                    np.testing.assert_array_equal(got[:size], want)
                    assert not got[size:].any()
            for task in TASKS:
                np.testing.assert_array_equal(
                    y[task.name][i, :size].numpy(), np.array([row[task.label] for row in rows], np.float32))
                assert np.isnan(y[task.name][i, size:]).all()
            np.testing.assert_array_equal(w["click"][i, :size], np.array([row["weight"] for row in rows], np.float32))
            assert not w["click"][i, size:].numpy().any()
            assert w["grade"][i] == np.float32(rows[0]["list_weight"])
    assert seen == len(expected)


def test_element_spec_is_dynamic_and_traces_once(lists, schema):
    dataset = batches(lists, TASKS, schema, batch_size=7, buckets="auto", shuffle=True)
    x, y = dataset.element_spec
    assert x["row"] == tf.TensorSpec([None, None], tf.float32)
    assert x["brand"] == tf.TensorSpec([None, None], tf.int32)
    assert x["vector"] == tf.TensorSpec([None, None, 3], tf.float32)
    assert x["city"] == x["list_size"] == tf.TensorSpec([None], tf.int32)
    assert set(y.values()) == {tf.TensorSpec([None, None], tf.float32)}
    traces = []

    @tf.function(input_signature=[dataset.element_spec])
    def step(batch):
        traces.append(1)
        return tf.reduce_sum(batch[0]["row"])

    for batch in dataset:
        step(batch)
    assert len(traces) == 1


def test_no_tasks_gives_features_only(lists, schema):
    x = next(iter(batches(lists, (), schema)))
    assert list(x) == [*schema.names, "list_size"]


def test_without_shuffle_lists_keep_their_order(lists, schema):
    starts = lists.columns["row"][lists.offsets[:-1]].astype(int).tolist()
    dataset = batches(lists, TASKS, schema, batch_size=7)
    assert order_of(dataset) == order_of(dataset) == starts


def test_shuffle_is_seeded_and_different_in_each_epoch(lists, schema):
    one = batches(lists, TASKS, schema, batch_size=7, shuffle=True, seed=3, epoch=count().__next__)
    first, second = order_of(one), order_of(one)
    assert sorted(first) == sorted(second) == sorted(lists.columns["row"][lists.offsets[:-1]].astype(int).tolist())
    assert first != second
    again = batches(lists, TASKS, schema, batch_size=7, shuffle=True, seed=3, epoch=count().__next__)
    assert [order_of(again), order_of(again)] == [first, second]
    assert order_of(batches(lists, TASKS, schema, batch_size=7, shuffle=True, seed=4)) != first


@pytest.mark.parametrize("options", [{"shuffle": True}, {"list_limit": 3, "truncate": "random", "buckets": (4,)}])
def test_resumption(lists, schema, options):
    straight = batches(lists, TASKS, schema, batch_size=7, epoch=count().__next__, **options)
    epochs = [by_list(straight) for _ in range(3)]
    assert epochs[1] != epochs[2]
    assert by_list(batches(lists, TASKS, schema, batch_size=7, epoch=2, **options)) == epochs[2]
    fixed = batches(lists, TASKS, schema, batch_size=7, epoch=1, **options)
    assert by_list(fixed) == by_list(fixed) == epochs[1]
    rest = by_list(fixed.from_step(4))
    assert rest == by_list(fixed.skip(4)) == epochs[1][-len(rest):]
    assert len(fixed.from_step(4)) == len(fixed) - 4


def test_the_global_seed_does_not_matter(lists, schema):
    orders = []
    for seed in (1, 2):
        tf.random.set_seed(seed)
        orders.append(order_of(batches(lists, TASKS, schema, shuffle=True, seed=0)))
    assert orders[0] == orders[1]


@pytest.mark.parametrize("buckets", ["auto", (2, 4), (100,), (3, 3)])
@pytest.mark.parametrize("shuffle", [False, True])
def test_buckets_cover_every_list_once(lists, schema, buckets, shuffle):
    dataset = batches(lists, TASKS, schema, batch_size=5, buckets=buckets, shuffle=shuffle)
    assert sorted(order_of(dataset)) == sorted(lists.columns["row"][lists.offsets[:-1]].astype(int).tolist())
    assert len(list(dataset)) == dataset.cardinality().numpy()


def test_buckets_hold_lists_of_similar_length(lists, schema):
    for x, _ in batches(lists, TASKS, schema, batch_size=4, buckets=(2, 4), shuffle=True):
        assert len({np.searchsorted((2, 4), size) for size in x["list_size"].numpy()}) == 1


def test_drop_remainder(lists, schema):
    dataset = batches(lists, TASKS, schema, batch_size=7, drop_remainder=True)
    assert {len(x["list_size"]) for x, _ in dataset} == {7}
    assert dataset.cardinality().numpy() == 40 // 7


def test_plain_rows(table, schema):
    rows = from_frame(table)
    dataset = batches(rows, TASKS, schema, batch_size=16, weights={"dwell": "weight"})
    assert dataset.element_spec[0]["row"] == dataset.element_spec[1]["click"] == tf.TensorSpec([None], tf.float32)
    x, y, w = next(iter(dataset))
    assert "list_size" not in x
    assert x["vector"].shape == (16, 3)
    np.testing.assert_array_equal(x["row"], table["row"].to_numpy(np.float32)[:16])
    np.testing.assert_array_equal(x["age"], table["age"].to_numpy(np.float32)[:16])
    np.testing.assert_array_equal(y["dwell"], table["dwell"].to_numpy(np.float32)[:16])
    np.testing.assert_array_equal(w["dwell"], table["weight"].to_numpy(np.float32)[:16])


def test_unseen_values_become_id_0(lists, schema):
    other = lists.with_column("brand", np.full(lists.num_items, "new", object)).with_column(
        "code", np.full(lists.num_items, np.nan))
    x, _ = next(iter(batches(other, TASKS, schema)))
    assert not x["brand"].numpy().any()
    assert not x["code"].numpy().any()


item_labels = st.tuples(st.sampled_from([0, 0, 0, 1, -1]), st.sampled_from([0, 0, 0, 2, np.nan]))
ragged = st.lists(st.lists(item_labels, min_size=1, max_size=9), min_size=1, max_size=6)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(ragged, st.integers(2, 6), st.sampled_from(["first", "random"]))
def test_truncation_invariants(content, limit, truncate):
    content = [*content, [(0, 0)]]  # binary labels -1 and 1 without a 0 are refused
    rows = [item for items in content for item in items]
    lists = Lists({
        "row": np.arange(len(rows)), "is_click": np.array([r[0] for r in rows]), "grade": np.array([r[1] for r in rows])
    }, offsets=np.cumsum([0, *map(len, content)]))  # fmt: skip
    tasks = (TASKS[0], TASKS[2])
    dataset = batches(lists, tasks, Schema([Dense("row")]), list_limit=limit, truncate=truncate, batch_size=4)
    kept = [rows for rows, _ in by_list(dataset)]
    assert len(kept) == lists.num_lists
    for start, end, items in zip(lists.offsets, lists.offsets[1:], kept, strict=False):
        assert items == sorted(set(items))
        assert all(start <= item < end for item in items)
        assert len(items) == min(limit, end - start)
        protected = []
        for task in tasks:
            relevant = [item for item in range(start, end) if lists.columns[task.label][item] > 0]
            assert not relevant or set(relevant) & set(items)
            protected += relevant[:1]
        if truncate == "first":
            rest = [item for item in range(start, end) if item not in protected]
            assert items == sorted([*set(protected), *rest][:limit])
    cut = cut_report(lists, limit)
    assert cut["items"] - cut["items_cut"] == sum(map(len, kept))
    assert cut["lists_cut"] == sum(len(items) > limit for items in content)


def test_the_first_relevant_item_takes_the_last_place():
    lists = Lists({"row": np.arange(6), "is_click": np.array([0, 0, 0, 0, 1, 1])}, offsets=np.array([0, 6]))
    dataset = batches(lists, TASKS[:1], Schema([Dense("row")]), list_limit=3)
    assert by_list(dataset) == [([0, 1, 4], [0, 0, 1])]


def test_random_truncation_is_uniform_over_items_and_epochs():
    lists = Lists({"row": np.arange(400) % 8, "is_click": np.zeros(400)}, offsets=np.arange(0, 401, 8))
    dataset = batches(lists, TASKS[:1], Schema([Dense("row")]), list_limit=4, truncate="random", batch_size=50,
                      epoch=count().__next__)
    counts = np.zeros(8)
    epochs = [by_list(dataset) for _ in range(8)]
    for epoch in epochs:
        for rows, _ in epoch:
            counts[rows] += 1
    # 400 draws with probability 1/2: a standard deviation of 10.
    np.testing.assert_allclose(counts, 200, atol=45)
    assert epochs[0] != epochs[1]


def test_random_truncation_does_not_depend_on_the_batch_size(lists, schema):
    options = {"list_limit": 3, "truncate": "random"}
    few, many = (by_list(batches(lists, TASKS, schema, batch_size=size, **options)) for size in (3, 11))
    assert few == many


def test_cuts_are_reported(lists, schema, caplog):
    cut = cut_report(lists, 3)
    with caplog.at_level(logging.INFO, "tfmtl2r"):
        batches(lists, TASKS, schema, list_limit=3)
    assert f"cuts {cut['items_cut']} of {lists.num_items} items, from {cut['lists_cut']} of 40 lists" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"truncate": "last"}, "truncate must be 'first' or 'random', not 'last'"),
        ({"list_limit": 1}, r"list_limit=1 cannot keep a relevant item for each of 2 tasks \(click, grade\)"),
        ({"buckets": "quarters"}, "buckets must be 'auto' or list lengths"),
        ({"buckets": (0,)}, "list lengths of at least 1"),
        ({"weights": {"clik": "weight"}}, "'clik', which is not a task; did you mean 'click'"),
        ({"weights": {"click": "wait"}}, r"task 'click': the table has no column 'wait'"),
        ({"weights": {"click": "dwell"}}, "weight column 'dwell': nan in row .* expected a finite number >= 0"),
        ({"weights": {"click": "grade"}}, "weight column 'grade': -1.0 in row .*, list "),
        ({"batch_size": 100, "drop_remainder": True}, "drop_remainder leaves no batch"),
    ],
)
def test_option_errors(lists, schema, options, message):
    with pytest.raises(ValueError, match=message):
        batches(lists, TASKS, schema, **options)


@pytest.mark.parametrize("options", [{"list_limit": 5}, {"buckets": "auto"}])
def test_plain_rows_have_no_lists_to_cut(table, schema, options):
    with pytest.raises(ValueError, match="plain rows have no lists to cut"):
        batches(from_frame(table), TASKS, schema, **options)


@pytest.mark.parametrize(
    ("labels", "kind", "message"),
    [
        (["0", "yes"], "binary", r"task 'y': label column 'y': expected numbers, got text, such as 'yes' in row 1"),
        ([0, np.inf], "regression", r"'y' is infinite: inf in row 1 \(counted from 0\), list 'b' \(1 in all\)"),
        ([0, 2], "binary", "must be 0 or 1: 2.0 in row 1.*list 'b'"),
        ([0, 0.5], "binary", "must be 0 or 1: 0.5"),
        ([0, 400], "graded", "'y' is too large: 400.0 in row 1.*grade counts first"),
    ],
)
def test_label_errors(labels, kind, message):
    table = pd.DataFrame({"q": ["a", "b"], "x": [1.0, 2.0], "y": labels})
    with pytest.raises(ValueError, match=message):
        batches(from_frame(table, "q"), [Task("y", kind=kind)], Schema([Dense("x")]))


def test_missing_columns(lists):
    with pytest.raises(ValueError, match=r"task 'c': the table has no column 'is_clik'; did you mean 'is_click'"):
        batches(lists, [Task("c", label="is_clik")], Schema([Dense("row")]))
    with pytest.raises(ValueError, match=r"no column 'rwo'; did you mean 'row'"):
        batches(lists, TASKS, Schema([Dense("rwo")]))


def test_feature_errors_of_another_split(lists):
    bad = lists.with_column("row", -lists.columns["row"])
    with pytest.raises(ValueError, match="'row' is negative under log1p"):
        batches(bad, TASKS, Schema([Dense("row", transform="log1p")]))
    with pytest.raises(ValueError, match="'code': expected text, got int64 numbers"):
        batches(lists, TASKS, Schema([Category("code", vocabulary=("1",))]))
    with pytest.raises(ValueError, match="'brand' is a context column"):
        batches(lists, TASKS, Schema([Category("brand", vocabulary=("a",), context=True)]))


def test_lookup_in_chunks(lists, schema, monkeypatch):
    whole = next(iter(batches(lists, TASKS, schema)))[0]
    monkeypatch.setattr("tfmtl2r.data.sources.LOOKUP_ROWS", 7)
    chunked = next(iter(batches(lists, TASKS, schema)))[0]
    for name, values in whole.items():
        np.testing.assert_array_equal(values, chunked[name])
