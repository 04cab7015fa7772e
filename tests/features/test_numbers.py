"""Inputs made of numbers, fitted on train only: copies by transforms, ranks, copies within the list, steps, noise."""

import json
import logging

import numpy as np
import pytest

import tfmtl2r
from tfmtl2r import Category, Dense, Schema, Task
from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import Batch
from tfmtl2r.data import Lists, batches, fit_schema
from tfmtl2r.data.normalise import normalised
from tfmtl2r.experiment import Experiment
from tfmtl2r.features._transforms import _MOST_POINTS, in_float32
from tfmtl2r.layers import randomness
from tfmtl2r.layers.features import Encoder
from tfmtl2r.layers.numbers import within_list
from tfmtl2r.settings.files import assign

TASKS = [Task("y")]


def fitted(feature, values, *others, lists=True):
    """The feature, fitted on lists of two items; ``others`` are further features with the same values."""
    values = np.asarray(values)
    columns = {one.name: values for one in (feature, *others)} | {"y": np.arange(len(values)) % 2}
    offsets = np.append(np.arange(0, len(values), 2), len(values)) if lists else None
    return fit_schema(Lists(columns, offsets), TASKS, [feature, *others])


def encoded(schema, values, valid=None, training=False):
    """The encoded items of lists ``[B, L, ...]``, padded."""
    values = np.asarray(values, np.float32)
    valid = tf.ones(values.shape[:2], tf.bool) if valid is None else tf.constant(valid)
    batch = Batch(dict.fromkeys(schema.names, tf.constant(values)),
                  list_size=tf.reduce_sum(tf.cast(valid, tf.int32), 1), valid=valid)
    encoder = Encoder(schema)
    rows = encoder(batch=batch, training=training)
    assert rows.shape[1] == encoder.width == sum(f.width for f in schema.features)
    return batch.padded(rows).numpy()


def test_golden_values_of_ranks():
    schema = fitted(Dense("x", transform="rank_gauss"), [1.0, 2.0, 2.0, 5.0])
    want = [-1.150349, -1.150349, 0, 0.674490, 1.150349, 1.150349, 0]
    np.testing.assert_allclose(encoded(schema, [[0, 1, 2, 3, 5, 9, np.nan]])[0, :, 0], want, atol=1e-6)
    at_train = encoded(fitted(Dense("x", transform="rank_gauss"), [1.0, 2.0, 2.0, 3.0, 10.0]), [[1, 2, 3, 10]])
    np.testing.assert_allclose(at_train[0, :, 0], [-1.281551566, -0.253347103, 0.524400513, 1.281551566], atol=1e-6)
    assert not encoded(fitted(Dense("x", transform="rank_gauss"), [3.0, 3.0]), [[3.0, 4.0, -1.0]]).any()


def test_ranks_of_many_columns_are_those_of_a_naive_search():
    rng = np.random.default_rng(0)
    digits = 10.0 ** np.arange(4)
    train = (np.round(rng.exponential(3, (300, 4)) * digits) / digits).astype(np.float32)
    train[:7, 2] = np.nan
    found = encoded(fitted(Dense("x", (4,), transform="rank_gauss"), train), (x := rng.exponential(4, (3, 50, 4))))
    for column in range(4):
        known = np.sort(train[np.isfinite(train[:, column]), column])
        values = x[..., column].astype(np.float32)
        left, right = np.searchsorted(known, values), np.searchsorted(known, values, side="right")
        share = np.clip((left + right) / 2 / len(known), 0.5 / len(known), 1 - 0.5 / len(known))
        np.testing.assert_allclose(found[..., column], tf.math.ndtri(share), atol=1e-5)


def test_ranks_of_a_long_column_keep_few_points_and_stay_near():
    train = np.random.default_rng(1).normal(size=20_000)
    schema = fitted(Dense("x", transform="rank_gauss"), train)
    assert len(schema.features[0].points[0]) == _MOST_POINTS
    x = np.linspace(-2.5, 2.5, 101)
    np.testing.assert_allclose(encoded(schema, [x])[0, :, 0], x, atol=0.1)


def test_copies_lie_side_by_side_for_each_feature():
    train, x = [[1.0, -8.0], [2.0, 0.0], [2.0, 4.0], [5.0, 4.0]], [[[2.0, 4.0], [3.0, -9.0]]]
    feature = Dense("x", (2,), transform="signed_log1p", copies=("rank_gauss", "none"), missing=True)
    together = encoded(fitted(feature, train, Dense("z", (2,))), x)
    alone = [encoded(fitted(Dense("x", (2,), transform=name), train), x)
             for name in ("signed_log1p", "rank_gauss", "none")]
    np.testing.assert_allclose(together, np.concatenate([*alone, np.zeros((1, 2, 1)), alone[-1]], -1), atol=1e-6)


def test_statistics_are_of_train_and_in_the_schema():
    """They survive JSON, and a second fit on other data changes nothing."""
    feature = Dense("x", transform="quantile_clip", copies=("rank_gauss",), within_list=True, steps=3, noise=0.1,
                    missing=True)
    train = np.random.default_rng(2).gamma(2, size=100)
    schema = fitted(feature, train)
    again = Schema.from_config(json.loads(json.dumps(schema.get_config())))
    assert again == schema
    refitted = fit_schema(Lists({"x": train * 9, "y": np.arange(100) % 2}, np.arange(0, 101, 2)), TASKS, again)
    assert refitted == schema
    low, high = np.quantile(train, [0.001, 0.999])
    assert (schema.features[0].low[0], schema.features[0].high[0]) == (low, high)
    bounded = np.clip(train, low, high)
    value = encoded(schema, [[1e9, 1.0]])[0, :, 0]
    np.testing.assert_allclose(value, (np.clip([1e9, 1.0], low, high) - bounded.mean()) / bounded.std(), rtol=1e-5)


class TestWithinList:
    def test_golden_values_in_padded_lists(self):
        """Neither padding nor missing values enter; constant lists, and lists of one, become 0."""
        schema = fitted(Dense("x", within_list=True), [0.0, 4.0, 1.0, 9.0])
        x = [[1, 2, 6, 7e5], [7, 7, 7, np.nan], [5, np.nan, 1, 1], [1, np.nan, 2, 6]]
        valid = [[1, 1, 1, 0], [1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
        within = encoded(schema, x, np.array(valid, bool))[..., 1]
        golden = [-0.925820, -0.462910, 1.388730]
        np.testing.assert_allclose(within[0], [*golden, 0], atol=1e-6)
        assert not within[1:3].any()
        np.testing.assert_allclose(within[3], [golden[0], 0, *golden[1:]], atol=1e-6)

    @pytest.mark.parametrize("values", [[1e6, 1e6 + 0.0625], [0.1, 0.1], [-3e-9, -3e-9]])
    def test_rounding_noise_is_a_constant(self, values):
        x = tf.constant([[value] for value in values])
        assert not within_list(x, tf.ones_like(x, tf.bool), tf.zeros(2, tf.int32), 1).numpy().any()

    def test_clipping(self):
        x = tf.constant([[0.0]] * 60 + [[1.0]])
        assert within_list(x, tf.ones_like(x, tf.bool), tf.zeros(61, tf.int32), 1).numpy().max() == 5

    def test_a_list_does_not_see_the_other_lists_of_its_batch(self):
        schema = fitted(Dense("x", within_list=True), np.arange(10.0))
        x = np.random.default_rng(3).normal(size=(4, 6))
        sizes = np.arange(6) < np.array([[6], [3], [0], [1]])
        together = encoded(schema, x, sizes)
        for number in range(4):
            np.testing.assert_allclose(together[number], encoded(schema, x[[number]], sizes[[number]])[0], atol=1e-6)

    def test_plain_rows_are_refused_before_and_in_the_graph(self):
        with pytest.raises(ValueError, match=r"'x' is standardised within its list.*set list_id to the column"):
            fitted(Dense("x", within_list=True), [1.0, 2.0], lists=False)
        encoder = Encoder(fitted(Dense("x", within_list=True), [1.0, 2.0]))
        with pytest.raises(ValueError, match=r"feature 'x' is standardised within its list.*set list_id"):
            encoder(batch=Batch({"x": tf.constant([1.0])}))

    def test_a_value_of_the_whole_list_is_refused(self):
        with pytest.raises(ValueError, match="'age' has one value per list, which is constant within the list"):
            Dense("age", context=True, within_list=True)


class TestSteps:
    def test_golden_values(self):
        schema = fitted(Dense("x", steps=(2,)), [1.0, 2.0, 2.0, 5.0])
        np.testing.assert_allclose(encoded(schema, [[2.0, 3.0, np.nan]])[0, :, 1], [-0.25, 0.75, 0])

    def test_quantiles_of_train(self):
        feature = fitted(Dense("x", (2,), steps=3), np.stack([np.arange(8.0), np.full(8, 2.0)], 1)).features[0]
        assert feature.thresholds == ((1, 3, 5), ())
        assert feature.above == ((0.75, 0.5, 0.25), ())
        assert feature.width == 2 + 3

    def test_thresholds_of_float64_divide_float32_in_the_same_way(self):
        values = np.random.default_rng(4).uniform(size=2000).astype(np.float32)
        assert in_float32(0.1) < 0.1 < float(np.float32(0.1))
        for one in np.ravel(values[:50].astype(np.float64) + np.array([[0], [1e-12], [-1e-12]])):
            np.testing.assert_array_equal(values > np.float32(in_float32(one)), values.astype(np.float64) > one)

    def test_trees_choose_them(self):
        """A step in the label is found, for the feature that has it; the number counts over all features."""
        pytest.importorskip("lightgbm")
        rng = np.random.default_rng(6)
        x = rng.uniform(size=(400, 3))
        table = Lists({"a": x[:, 0], "v": x[:, 1:], "y": (x[:, 2] > 0.3).astype(int)}, np.arange(0, 401, 20))
        steps = {"from": "lightgbm", "number": 2}
        one, vector = fit_schema(table, TASKS, [Dense("a", steps=steps), Dense("v", (2,), steps=steps)]).features
        assert sum(map(len, (*one.thresholds, *vector.thresholds))) == 2
        assert any(abs(threshold - 0.3) < 0.02 for threshold in vector.thresholds[1])
        assert fit_schema(table, TASKS, [one, vector]).features == (one, vector)

    @pytest.mark.parametrize("keep", [True, False])
    def test_thresholds_stay_in_a_training_that_goes_on(self, keep):
        """Each is an input of the network, whose weights stay; other statistics follow the new data if asked."""
        options = {"steps": 3, "copies": ("rank_gauss",)}
        earlier, later = (fitted(Dense("x", **options), factor * np.arange(8.0)).features[0] for factor in (1, 10))
        found = later.continued(earlier, keep)
        assert (found.thresholds, found.above) == (earlier.thresholds, earlier.above)
        assert found.points == (earlier if keep else later).points

    def test_trees_need_the_labels(self):
        with pytest.raises(ValueError, match=r"make the schema with tfmtl2r\.data\.fit_schema"):
            _ = Dense("x", steps={"from": "lightgbm", "number": 4}).width


def test_noise_is_of_training_only_and_repeats_with_its_seed():
    schema = fitted(Dense("x", noise=0.5, steps=(2,), missing=True), [1.0, 2.0, 2.0, 5.0], Dense("z"))
    x = np.random.default_rng(7).normal(size=(20, 50))
    plain = encoded(schema, x)
    with randomness.scope(randomness.step_seed(1, 2)):
        noisy = encoded(schema, x, training=True)
    with randomness.scope(randomness.step_seed(1, 2)):
        np.testing.assert_array_equal(encoded(schema, x, training=True), noisy)
    np.testing.assert_allclose((noisy - plain).std((0, 1)), [0.5, 0, 0, 0], atol=0.02)


@pytest.mark.parametrize(("options", "message"), [
    ({"copies": ("sqrt",)}, r"transform must be one of .*rank_gauss, not 'sqrt'"),
    ({"copies": ("rank_gauss", "rank_gauss")}, "the transform 'rank_gauss' is given twice"),
    ({"copies": ("none",)}, "the transform 'none' is given twice"),
    ({"transform": ("none", "log1p")}, "further transforms of all components are copies"),
    ({"noise": -1}, "noise must be a standard deviation of at least 0, not -1"),
    ({"noise": float("nan")}, "noise must be a standard deviation"),
    ({"steps": 0}, "steps must be a list of thresholds"), ({"steps": []}, "steps must be a list of thresholds"),
    ({"steps": [1, "a"]}, "steps must be"), ({"steps": {"from": "trees", "number": 2}}, "steps must be"),
    ({"steps": {"from": "lightgbm", "number": 0.5}}, "steps must be"), ({"steps": [float("inf")]}, "steps must be"),
    ({"thresholds": [[1]], "above": [[0.5]]}, "thresholds belong to steps: set steps"),
    ({"mean": (0.0,), "copies": ("log1p",)}, "mean has 1 numbers, expected 2"),
])
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Dense("x", **options)


def test_what_a_transform_cannot_take_is_refused_in_a_copy_too():
    with pytest.raises(ValueError, match=r"'x' is negative under log1p: -2\.0 in row 1"):
        fitted(Dense("x", copies=("log1p",)), [1.0, -2.0])


def test_a_schema_that_is_not_fitted_is_named():
    with pytest.raises(ValueError, match="'x' needs statistics of the training split"):
        tfmtl2r.MultiTaskRanker("shared_bottom", TASKS, Schema([Dense("x", transform="rank_gauss")]))


def test_column_without_a_value(caplog):
    with caplog.at_level(logging.WARNING):
        schema = fitted(Dense("x", transform="rank_gauss", copies=("quantile_clip",), within_list=True, steps=2),
                        [np.nan] * 4)
    assert not encoded(schema, [[1.0, np.nan, -5.0]]).any()
    assert "has no value in the training split" in caplog.text


@pytest.fixture
def files(tmp_path):
    """A table with two columns of numbers, one per list, and one of text."""
    rng = np.random.default_rng(9)
    columns = {"q": np.repeat(np.arange(20), 3), "age": np.repeat(np.arange(20) / 3, 3), "price": rng.gamma(1, size=60),
               "rank": rng.normal(size=60), "brand": rng.choice(["a", "b"], 60), "y": rng.integers(0, 2, 60)}
    rows = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    (tmp_path / "log.csv").write_text("\n".join(rows))
    return {"files": str(tmp_path / "log.csv"), "list_id": "q"}


BOTH = {"transform": ["signed_log1p", "rank_gauss"], "within_list": True}


class TestEntries:
    """Entries [[features]]: of one column, of several, and of all others."""

    def features(self, files, *entries, given=()):
        tree = {"data": {**files, "context": ["age"]}, "tasks": [{"name": "y", "kind": "binary"}]}
        if entries:
            tree["features"] = list(entries)
        for path, value in given:
            assign(tree, path, value)
        experiment = Experiment.of(tree)
        assert Experiment.of(experiment.tree()) == experiment
        data = experiment.dataset()
        return {f.name: f for f in data.schema().features}

    def test_a_list_of_columns(self, files):
        found = self.features(files, {"name": ["price", "rank"], **BOTH, "noise": 0.2, "steps": [1, 2]}, "brand")
        for name in ("price", "rank"):
            feature = found[name]
            assert (feature.transform, feature.copies, feature.noise) == ("signed_log1p", ("rank_gauss",), 0.2)
            assert feature.width == 2 * 2 + 2

    def test_all_other_columns(self, files):
        """Columns of other kinds, and ids that are shared, stay what they are; so does what is named itself."""
        found = self.features(files, {"name": "rank", "transform": "zscore"}, {"name": "*", **BOTH})
        assert found["price"].width == 4
        assert found["age"].width == 2, "a value of the whole list is constant within it"
        assert found["rank"].width == 1
        assert isinstance(found["brand"], Category)

    @pytest.mark.parametrize("name", ["*", "price"])
    def test_set(self, files, name):
        entries = [] if name == "*" else ["price", "brand"]
        given = [(["features", name, key], value) for key, value in BOTH.items()]
        found = self.features(files, *entries, given=given)
        assert found["price"].copies == ("rank_gauss",)
        assert found["price"].within_list

    @pytest.mark.parametrize(("entries", "message"), [
        ([{"name": "brand", "within_list": True}], "feature 'brand': expected numbers, got text, such as 'a'"),
        (["price", "rank", "age", {"name": "*", "noise": 0.1}], r"entry \"\*\" of features has noise, but no other"),
        ([{"name": "price", "steps": "many"}], "feature 'price': steps must be a list of thresholds"),
        ([{"name": "price", "transform": []}], "feature 'price': transform is an empty list"),
        ([{"name": "age", "within_list": True}], "'age' has one value per list"),
    ])
    def test_mistakes(self, files, entries, message):
        with pytest.raises(ValueError, match=message):
            self.features(files, *entries)

    def test_plain_rows(self, files):
        rows = {"files": files["files"], "leave_out": ["q"]}
        tree = {"data": rows, "tasks": [{"name": "y", "kind": "binary"}], "features": [{"name": "*", **BOTH}]}
        with pytest.raises(ValueError, match="the table has no lists: set list_id to the column"):
            Experiment.of(tree).dataset().schema()


@pytest.mark.parametrize(("recipes", "transform", "copies"), [
    ("rank_gauss", "rank_gauss", ()), (["zscore", "rank_gauss"], "none", ("rank_gauss",)),
    (["rank_gauss", "log1p"], ("log1p", "none"), ("rank_gauss",)),
])
def test_recipes_of_vectors(recipes, transform, copies):
    train = Lists({"features": np.array([[1.0, -1.0], [2.0, 3.0]])})
    feature = normalised(train, recipes, within_list=True)
    assert (feature.transform, feature.copies, feature.within_list) == (transform, copies, True)


def test_recipes_that_cannot_be_combined():
    for recipes, message in [(["log1p", "allrank"], "both choose a transform"), ([], "must be one of"),
                             (["zscore", "zscore"], "must be one of"), ("log2", "not 'log2'")]:
        with pytest.raises(ValueError, match=message):
            normalised(Lists({"features": np.ones((2, 2))}), recipes)


def test_whole_ranker_scores_alike_after_saving(tmp_path):
    """In a .keras file and without it: predictions of padded, reordered and merged lists agree."""
    rng = np.random.default_rng(8)
    x, brand, y = rng.gamma(1, size=60), rng.integers(0, 3, 60).astype(str), rng.integers(0, 2, 60)
    table = Lists({"x": x, "brand": brand, "y": y}, np.arange(0, 61, 6))
    schema = fit_schema(table, TASKS, [
        Dense("x", copies=("rank_gauss",), within_list=True, steps=2, noise=0.3), Category("brand")])
    ranker = tfmtl2r.MultiTaskRanker({"name": "shared_bottom", "units": (4,)}, TASKS, schema)
    ranker.compile(keras.optimizers.SGD(0.01))
    ranker.save(tmp_path / "ranker.keras")
    again = tfmtl2r.load(tmp_path / "ranker.keras")
    assert again.schema == schema
    assert ranker.architecture.list_context
    data = batches(table, (), schema)
    np.testing.assert_allclose(again.predict(data)["y"], ranker.predict(data)["y"], atol=1e-6)
