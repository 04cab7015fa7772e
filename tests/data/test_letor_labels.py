"""Labels from columns, normalisation recipes and the report on quality."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tfmtl2r import Dense, Schema
from tfmtl2r._backend import tf
from tfmtl2r.batch import Batch
from tfmtl2r.data import Lists, fit_schema
from tfmtl2r.data.columns import label_values
from tfmtl2r.data.labels import Grade, Invert, LogGrade, QuantileGrade, labels_from_features
from tfmtl2r.data.normalise import RECIPES, normalised
from tfmtl2r.data.quality import count_duplicates, data_report
from tfmtl2r.layers.features import Encoder
from tfmtl2r.losses import get as loss
from tfmtl2r.task import Task


def vectors(*rows, **columns):
    return Lists({"features": np.array(rows, np.float32), **columns})


def test_labels_leave_the_inputs():
    lists = labels_from_features(vectors([1, 20, 30, 40]), {"a": (2, "none"), "b": (4, "log1p")}, leave=(3,))
    assert lists.columns["features"].tolist() == [[1]]
    assert lists.columns["a"].tolist() == [20]
    assert lists.columns["b"].tolist() == [np.float32(np.log1p(40))]
    assert lists.columns["b"].dtype == np.float32


def test_transforms_are_fitted_on_train_only():
    train, test = vectors([0], [1], [2], [3], [4]), vectors([0], [3.5], [100])
    label = labels_from_features(test, {"y": (1, "quantile")}, train=train).columns["y"]
    assert label.tolist() == QuantileGrade().fit(np.arange(5.0))(np.array([0, 3.5, 100])).tolist() == [0, 4, 4]
    assert labels_from_features(train, {"y": (1, "invert")}, train=train).columns["y"].tolist() == [4, 3, 2, 1, 0]
    with pytest.raises(ValueError, match="label 'y' from feature 1: invert: 100 is above the highest value, 4"):
        labels_from_features(test, {"y": (1, "invert")}, train=train)


@pytest.mark.parametrize(("index", "name", "transform", "message"), [
    (0, "y", "none", "features 1 to 2, but a label or leave names feature 0; features are counted from 1"),
    (3, "y", "none", "a label or leave names feature 3"),
    (1, "label", "none", "there is already a column 'label'"),
    (1, "y", "log", "transform must be one of none, log1p, invert, quantile, not 'log'"),
    (1, "y", "quantile", "quantile grades have no edges yet"),
    (1, "y", "invert", "invert has no highest value yet"),
    (2, "y", "log1p", "label 'y' from feature 2: log1p of a negative number: -1"),
    (2, "y", LogGrade(), "log1p of a negative number: -1"),
])  # fmt: skip
def test_label_errors(index, name, transform, message):
    with pytest.raises(ValueError, match=message):
        labels_from_features(vectors([1, -1], label=np.zeros(1)), {name: (index, transform)})


def test_grades_of_the_recipe():
    counts = np.array([0.0, 1, 2, 3, 9, 10, 49, 50, 100, 254])
    np.testing.assert_array_equal(Grade((3, 10, 50, 100))(counts), np.digitize(counts, [3, 10, 50, 100]))
    for step in (1.0, 1.2, 2.0):
        np.testing.assert_array_equal(LogGrade(step)(counts), np.minimum(4, np.ceil(np.log1p(counts) / step)))
    np.testing.assert_array_equal(Invert(255.0)(counts), 255 - counts)
    with pytest.raises(ValueError, match="need positive values"):
        QuantileGrade().fit(np.zeros(3))


def test_raw_counts_are_refused_with_advice():
    lists = labels_from_features(vectors([1, 5], [1, 1e6]), {"clicks": (2, "none")})
    with pytest.raises(ValueError, match=r"1000000.0 in row 1.*grade counts first, for example with transform"):
        label_values(lists, Task("clicks"))
    for name in ("approx_ndcg", {"name": "softmax", "lambda_weight": "dcg"}):
        with pytest.raises(ValueError, match=r"met a label of 1e\+06.*Convert the labels to grades first"):
            loss(name).validate(lists.columns["clicks"])


def encoded(feature, values):
    return Encoder(Schema([feature]))(batch=Batch({feature.name: tf.constant(values, tf.float32)})).numpy()


TRANSFORMS = {
    "none": lambda x: x, "log1p": np.log1p, "signed_log1p": lambda x: np.sign(x) * np.log1p(np.abs(x)),
    "log": lambda x: np.log(x + 0.01), "log_negative": lambda x: np.log(0.01 - x),
}  # fmt: skip


def test_each_component_has_its_transform():
    rng = np.random.default_rng(0)
    x = rng.exponential(9, (200, 5)).astype(np.float32) * [1, 1, 1, 1, -1]
    x[:, 2] -= 5
    train = Lists({"features": x.astype(np.float32), "y": np.zeros(200)})
    feature = fit_schema(train, [Task("y")], [Dense("features", (5,), transform=tuple(TRANSFORMS))]).features[0]
    want = np.stack([f(x[:, i].astype(np.float64)) for i, f in enumerate(TRANSFORMS.values())], axis=1)
    np.testing.assert_allclose(feature.mean, want.mean(0), rtol=1e-6)
    np.testing.assert_allclose(encoded(feature, x), (want - want.mean(0)) / want.std(0), rtol=2e-4, atol=2e-4)
    assert Schema.from_config(json.loads(json.dumps(Schema([feature]).get_config()))).features[0] == feature


def test_quantile_clip_is_fitted_on_train_and_applied_in_the_graph():
    x = np.arange(1001, dtype=np.float32)[:, None] * [1, -2]
    train = Lists({"features": x.astype(np.float32), "y": np.zeros(1001)})
    feature = fit_schema(train, [Task("y")], [Dense("features", (2,), quantiles=(0.1, 0.9))]).features[0]
    assert feature.low == (100, -1800)
    assert feature.high == (900, -200)
    clipped = np.clip(x, feature.low, feature.high)
    np.testing.assert_allclose(feature.mean, clipped.mean(0), rtol=1e-6)
    outside, edge = encoded(feature, [[1e6, -1e6], [-1e6, 1e6]]), encoded(feature, [[900, -1800], [100, -200]])
    np.testing.assert_array_equal(outside, edge)
    again = Schema.from_config(json.loads(json.dumps(Schema([feature]).get_config())))
    assert again.features[0] == feature
    assert fit_schema(train, [Task("y")], again) == again


def test_schemas_saved_before_still_load():
    old = {"type": "Dense", "name": "x", "shape": [], "context": False, "transform": "log1p", "mean": [1.0],
           "variance": [2.0], "clip": 10.0}
    feature = Schema.from_config({"features": [old]}).features[0]
    assert feature.is_fitted
    np.testing.assert_allclose(encoded(feature, [3.0]), [[(np.log1p(3) - 1) / 2**0.5]], rtol=1e-6)


@pytest.mark.parametrize(("options", "message"), [
    ({"transform": ("none",)}, "transform has 1 entries, expected one per component, 2"),
    ({"transform": ("none", "sqrt")}, "transform must be one of .*, not 'sqrt'"),
    ({"quantiles": (0.9, 0.1)}, "quantiles must be two increasing numbers from 0 to 1"),
    ({"low": (0, 2), "high": (1, 1)}, "low is above high in component 1: 2.0, 1.0"),
    ({"low": (0,)}, "low has 1 numbers, expected 2"),
    ({"quantiles": (0.1, 0.9), "low": (0, 0)}, "give both low and high or neither"),
])  # fmt: skip
def test_dense_errors(options, message):
    with pytest.raises(ValueError, match=message):
        Dense("features", (2,), **options)


def test_logarithms_of_the_wrong_sign_are_refused():
    lists = vectors([1, -1], [-2, 3], y=np.zeros(2))
    for transform, message in [(("log", "none"), "'features' is negative under log: -2.0 in row 1"),
                               (("none", "log_negative"), "'features' is positive under log_negative: 3.0 in row 1"),
                               (("none", "log1p"), "'features' is negative under log1p: -1.0 in row 0")]:
        with pytest.raises(ValueError, match=message):
            fit_schema(lists, [Task("y")], [Dense("features", (2,), transform=transform)])


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_give_mean_0_and_variance_1(recipe):
    rng = np.random.default_rng(0)
    x = rng.gamma(2.0, size=(300, 136)) * np.where(np.isin(np.arange(136), [110, 115, 124]), -1, 1)
    x[:, 3] -= 1
    train = Lists({"features": x.astype(np.float32), "y": np.zeros(300)})
    feature = fit_schema(train, [Task("y")], [normalised(train, recipe)]).features[0]
    out = encoded(feature, x)
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-4)
    # Ranks are normal scores of 300 values, which are not standardised again.
    np.testing.assert_allclose(out.std(0), 1, atol=3e-3 if recipe == "rank_gauss" else 1e-4)
    if recipe == "allrank":
        assert [feature.transform[i] for i in (0, 3, 5, 110, 112, 115, 124)] == [
            "log", "none", "none", "log_negative", "none", "log_negative", "log_negative"]


def test_recipe_errors():
    with pytest.raises(ValueError, match="normalise must be one of zscore"):
        normalised(vectors([1.0]), "minmax")
    with pytest.raises(ValueError, match="expected a vector per item"):
        normalised(Lists({"features": np.zeros(2)}))


def test_quality_report():
    rng = np.random.default_rng(0)
    count = rng.poisson(3, 200).astype(np.float32)
    label = LogGrade()(count).astype(np.float32)
    noise = rng.normal(size=(2, 200))
    x = np.stack([noise[0], count, np.full(200, 7.0), label, -2 * label + 1, label + noise[1] / 2], 1)
    x[1] = x[0]
    label[:2] = label[0]
    x[:2, [1, 3, 4]] = [count[0], label[0], 1 - 2 * label[0]]
    offsets = np.arange(0, 201, 20)
    lists = Lists({"features": x.astype(np.float32), "label": label}, offsets=offsets)
    report = data_report(lists)
    assert report.constant == ("features[3]",)
    assert {(leak.feature, leak.how) for leak in report.leaks} == {
        ("features[2]", "determines"), ("features[4]", "equal"), ("features[5]", "correlation")}
    assert report.duplicates == count_duplicates(lists) == 1
    assert (report.items, report.num_lists, report.lengths["median"]) == (200, 10, 20)
    assert sum(report.labels["label"].values()) == 200


def test_quality_of_a_frame_with_missing_labels_and_text():
    lists = Lists({"price": np.array([1.0, 2.0, np.nan, 4.0]), "brand": np.array(["a", "b", "a", "b"], object),
                   "click": np.array([0.0, 0.0, np.nan, 1.0])}, offsets=np.array([0, 2, 4]))
    report = data_report(lists, ["click"])
    assert report.labels["click"] == {"0": 2, "1": 1}
    assert report.missing_labels == {"click": 1}
    assert report.empty_lists == {"click": 1}
    assert (report.constant, report.duplicates, report.leaks) == ((), 0, ())
    rows = Lists({"x": np.arange(30.0), "y": np.arange(30.0) ** 3})
    report = data_report(rows, ["y"])
    assert report.num_lists is None
    assert report.labels["y"]["max"] == 29**3
    assert [leak.how for leak in report.leaks] == ["determines"]
    with pytest.raises(ValueError, match="no column 'z'"):
        data_report(rows, ["z"])


def test_one_relevant_item_is_no_leak():
    lists = Lists({"x": np.arange(50.0), "y": (np.arange(50) > 47).astype(float)})
    assert data_report(lists, ["y"]).leaks == ()


@pytest.mark.parametrize(("make", "found"), [
    (lambda y, rng: np.where(rng.random(len(y)) < 0.004, 1 - y, y), True),  # a label with a little noise
    (lambda y, rng: np.where(y > 0, "was clicked", "was shown").astype(object), True),
    (lambda y, rng: np.where(y > 0, rng.choice([3, 8], len(y)), 5), True),  # no monotonic function
    (lambda y, rng: y + rng.normal(0, 0.05, len(y)), True), (lambda y, rng: y + rng.normal(0, 1, len(y)), False),
    (lambda y, rng: rng.choice(["a", "b"], len(y)).astype(object), False),
    (lambda y, rng: np.arange(len(y)).astype(str).astype(object), False),  # every row has a value of its own
])  # fmt: skip
def test_what_explains_a_label_is_suspected(make, found):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 2000).astype(np.float64)
    report = data_report(Lists({"x": make(y, rng), "y": y}), ["y"], ["x"])
    assert [(leak.feature, leak.label) for leak in report.leaks] == [("x", "y")] * found
