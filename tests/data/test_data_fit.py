from __future__ import annotations

import json
import logging

import numpy as np
import pandas as pd
import pytest

from tfmtl2r import Category, Dense, Schema
from tfmtl2r.data import Lists, fit_schema, from_frame
from tfmtl2r.data.fit import declared
from tfmtl2r.layers.features import Lookup
from tfmtl2r.task import Task

CLICK = Task("click", label="is_click", kind="binary")


@pytest.fixture
def train():
    frame = pd.DataFrame({
        "q": [1, 1, 2, 2],
        "price": [1.0, 3.0, np.nan, 8.0],
        "brand": ["b", "a", "b", None],
        "code": [7, 7, -1, 3],
        "views": [0, 10, 100, 1000],
        "age": [20.0, 20.0, 40.0, 40.0],
        "is_click": [0, 1, 0, 1],
        "dwell": [0.0, 1.0, 2.0, 3.0],
    })
    frame["vector"] = [[1.0, 5.0], [3.0, 5.5], [1.0, 6.0], [3.0, 6.5]]
    return from_frame(frame, "q", context=["age"])


def features(schema):
    return {feature.name: feature for feature in schema.features}


def test_inference(train):
    schema = fit_schema(train, [CLICK], exclude=["dwell"])
    assert schema.names == ("price", "brand", "code", "views", "age", "vector")
    found = features(schema)
    assert found["price"].mean == (4.0,)
    assert found["price"].variance == (np.var([1.0, 3.0, 8.0]),)
    assert found["brand"] == Category("brand", vocabulary=("b", "a"))
    assert found["code"] == Category("code", vocabulary=(7, 3), dtype="int64")
    assert found["age"] == Dense("age", context=True, mean=(30.0,), variance=(100.0,))
    assert found["vector"] == Dense("vector", shape=(2,), mean=(2.0, 5.75), variance=(1.0, 0.3125))


def test_many_integers_are_dense():
    lists = Lists({"few": np.arange(200) % 64, "many": np.arange(200) % 65, "y": np.zeros(200)})
    schema = fit_schema(lists, [Task("y")])
    assert isinstance(features(schema)["few"], Category)
    assert isinstance(features(schema)["many"], Dense)


def test_vocabulary_by_frequency_then_value_and_min_count():
    lists = Lists({"s": np.array(list("ccbbaad"), object), "y": np.zeros(7)})
    assert fit_schema(lists, [Task("y")]).features[0].vocabulary == ("a", "b", "c", "d")
    assert fit_schema(lists, [Task("y")], min_count=2).features[0].vocabulary == ("a", "b", "c")


def test_explicit_features_win(train):
    given = [Dense("views", transform="log1p"), Category("brand", buckets=5),
             Dense("price", mean=(1.0,), variance=(2.0,)), Category("code", vocabulary=(3,), dtype="int64")]
    schema = fit_schema(train, [CLICK], given)
    assert schema.names == ("views", "brand", "price", "code")
    assert schema.features[0].mean == (np.log1p([0, 10, 100, 1000]).mean(),)
    assert schema.features[1:] == tuple(given[1:])
    assert fit_schema(train, [CLICK], Schema(given)) == schema


def test_star_stands_for_the_rest(train):
    schema = fit_schema(train, [CLICK], ["vector", "*", Dense("price", transform="signed_log1p")], exclude=["dwell"])
    assert schema.names == ("vector", "brand", "code", "views", "age", "price")
    known = np.array([1.0, 3.0, 8.0])
    assert schema.features[-1].mean[0] == pytest.approx(np.log1p(known).mean())


def test_the_column_decides_between_text_and_integers(train):
    assert fit_schema(train, [CLICK], [Category("views")]).features[0].dtype == "int64"
    assert fit_schema(train, [CLICK], [Category("brand")]).features[0].dtype == "string"


def test_json_round_trip_and_lookup(train):
    schema = fit_schema(train, [CLICK], exclude=["dwell"])
    again = Schema.from_config(json.loads(json.dumps(schema.get_config())))
    assert again == schema
    Lookup(again)


def test_statistics_in_float64():
    values = 1e8 + np.arange(1000) % 2
    schema = fit_schema(Lists({"x": values.astype(np.float64), "y": np.zeros(1000)}), [Task("y")], [Dense("x")])
    assert schema.features[0].mean == (1e8 + 0.5,)
    assert schema.features[0].variance == pytest.approx((0.25,))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full(4, 2.5), "'x' is constant (2.5)"),
        (np.full(4, np.nan), "'x' has no value"),
        (np.array(["a"] * 4, object), "'x' is constant ('a')"),
        (np.array([""] * 4, object), "'x' has no known value"),
        (np.array([1e9, 1e9 + 1, 1e9, 1e9 + 1]), "'x' varies by 0.5 around 1e+09"),
    ],
)
def test_useless_columns_are_reported(values, message, caplog):
    with caplog.at_level(logging.WARNING, "tfmtl2r"):
        schema = fit_schema(Lists({"x": values, "y": np.zeros(4)}), [Task("y")])
    assert message in caplog.text
    Lookup(schema)


@pytest.mark.parametrize(
    ("given", "exclude", "message"),
    [
        (["is_click"], (), "'is_click' is the label of task 'click': such a column leaves the inputs"),
        ([Dense("is_click")], (), "'is_click' is the label of task 'click'"),
        (["prise"], (), r"no column 'prise'; did you mean 'price'\?"),
        (None, ["dwel"], r"no column 'dwel'; did you mean 'dwell'\?"),
        ([Dense("brand")], (), "expected numbers, got text, such as 'b' in row 0"),
        ([Dense("vector")], (), r"shape is \(\), but the column has \(2,\)"),
        ([Dense("vector", shape=(3,))], (), r"shape is \(3,\), but the column has \(2,\)"),
        ([Category("vector")], (), r"shape is \(\), but the column has \(2,\)"),
        ([Category("brand", dtype="int64")], (), "expected numbers, got text"),
        ([Category("code", vocabulary=("a",))], (), "the vocabulary is text, but the column contains numbers"),
        ([Dense("price", context=True)], (), r"'price' is a context column.*list 1"),
        (["price", Dense("price")], (), "two features are called 'price'"),
    ],
)
def test_errors(train, given, exclude, message):
    with pytest.raises(ValueError, match=message):
        fit_schema(train, [CLICK], given, exclude)


def test_column_errors():
    lists = Lists({"x": np.array([1.0, -2.0]), "f": np.array([1.0, 1.5]), "y": np.zeros(2),
                   "t": np.array(["2024-01-01", "2024-01-02"], "datetime64[D]"), "big": np.array([1.0, 1e300])})
    with pytest.raises(ValueError, match=r"'x' is negative under log1p: -2.0 in row 1.*signed_log1p"):
        fit_schema(lists, [Task("y")], [Dense("x", transform="log1p")])
    with pytest.raises(ValueError, match=r"'f' is not an integer: 1\.5 in row 1"):
        fit_schema(lists, [Task("y")], [Category("f")])
    with pytest.raises(ValueError, match="'t' holds datetime64"):
        fit_schema(lists, [Task("y")], ["t"])
    with pytest.raises(ValueError, match=r"'big' is too large for float32: 1e\+300 in row 1"):
        fit_schema(lists, [Task("y")], ["big"])
    with pytest.raises(ValueError, match="min_count must be at least 1"):
        fit_schema(lists, [Task("y")], min_count=0)


@pytest.mark.parametrize(("name", "kind", "options", "expected"), [
    ("price", None, {"transform": "log1p"}, Dense("price", transform="log1p")),
    ("price", "dense", {"transform": "zscore"}, Dense("price")),
    ("vector", "dense", {}, Dense("vector", shape=(2,))),
    ("code", None, {"transform": "log1p"}, Dense("code", transform="log1p")),
    ("code", None, {"width": 3}, Category("code", dim=3, dtype="int64")),
    ("price", None, {"hash_buckets": 7}, Category("price", buckets=7, dtype="int64")),
    ("brand", "category", {"vocabulary": ("a", "b")}, Category("brand", vocabulary=("a", "b"))),
])
def test_entries_of_an_experiment_file(train, name, kind, options, expected):
    assert declared(train, name, False, kind, options) == expected


@pytest.mark.parametrize(("name", "kind", "options", "message"), [
    ("price", "dense", {"width": 3}, "'price': width is not for a feature of kind 'dense', which reads transform"),
    ("brand", None, {"width": 3, "transform": "log1p"}, "'brand': transform is not for a feature of kind 'category'"),
])
def test_entries_with_keys_of_another_kind(train, name, kind, options, message):
    with pytest.raises(ValueError, match=message):
        declared(train, name, False, kind, options)
