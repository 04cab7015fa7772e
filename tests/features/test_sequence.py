"""Histories: the newest ids count, the candidate decides, side columns stay beside their ids."""

import json

import numpy as np
import pandas as pd
import pytest

import tfmtl2r
from tfmtl2r import Category, Schema, Task, cli
from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import Batch
from tfmtl2r.data import batches, fit_schema, from_frame
from tfmtl2r.data.columns import feature_values
from tfmtl2r.data.fit import declared
from tfmtl2r.features import Bag, Sequence, Time
from tfmtl2r.layers.features import Encoder, Lookup
from tfmtl2r.layers.tables import Table

VIDEO = Category("video", vocabulary=("a", "b", "c"), dim=4)
DIN = {"name": "target_attention", "units": [3]}


def encoded(schema, raw, encoder, lists=True):
    tensors = Lookup(schema)({name: tf.constant(value) for name, value in raw.items()})
    valid = tf.sequence_mask(raw["list_size"]) if lists else None
    return encoder(batch=Batch(tensors, list_size=tensors.get("list_size"), valid=valid)).numpy()


RAW = {"video": [["a", "b"], ["c", "a"]], "list_size": [2, 1], "watched": [["c", "b", "a"], ["?", "?", "?"]],
       "watched_size": [3, 0]}


@pytest.mark.parametrize("pooling", [
    "mean", "last", "attention", DIN, {**DIN, "normaliser": "softmax", "activation": "dice"},
    {"name": "target_attention", "blocks": 1}, {"name": "last", "blocks": 2},
], ids=str)
def test_the_newest_ids_count(pooling):
    """A longer history, in a table or in a request, is its end; padding changes nothing; an empty one is 0."""
    schema = Schema([Sequence("watched", shares="video", context=True, pooling=pooling, max_length=2), VIDEO])
    encoder = Encoder(schema)
    found = encoded(schema, RAW, encoder)
    assert found.shape == (3, 9)
    cut = {**RAW, "watched": [["b", "a"], ["a", "a"]], "watched_size": [2, 0]}
    np.testing.assert_allclose(encoded(schema, cut, encoder), found, atol=1e-6)
    padded = {**RAW, "watched": [["c", "b", "a", "b", "c"], ["a"] * 5]}
    np.testing.assert_allclose(encoded(schema, padded, encoder), found, atol=1e-6)
    np.testing.assert_array_equal(found[2, :5], [0, 0, 0, 0, 1])
    turned = {**RAW, "watched": [["c", "a", "b"], ["?"] * 3]}
    ordered = pooling == "last" or "blocks" in pooling
    assert np.allclose(encoded(schema, turned, encoder), found, atol=1e-6) != ordered
    read = feature_values(from_frame(pd.DataFrame({"watched": [["c", "b", "a"], ["b"]]})), Sequence(
        "watched", vocabulary=("a",), max_length=2))
    assert (read["watched"].tolist(), read["watched_size"].tolist()) == ([["b", "a"], ["b", ""]], [2, 1])


def test_the_last_one_is_a_row_of_the_table():
    schema = Schema([Sequence("watched", shares="video", context=True, pooling="last", missing=False), VIDEO])
    encoder = Encoder(schema)
    table = encoder.embeddings["video"].embeddings.numpy()
    np.testing.assert_allclose(encoded(schema, RAW, encoder), [[*table[1], *table[1]], [*table[1], *table[2]],
                                                               [0, 0, 0, 0, *table[3]]])


def test_the_candidate_decides():
    """One history gives other vectors to other items, whether it belongs to the list or to each item."""
    per_list = Schema([Sequence("watched", shares="video", context=True, pooling=DIN), VIDEO])
    per_item = Schema([Sequence("watched", shares="video", pooling=DIN), VIDEO])
    encoder, other = Encoder(per_list), Encoder(per_item)
    other.set_weights(encoder.get_weights())
    found = encoded(per_list, RAW, encoder)
    assert not np.allclose(found[0, :4], found[1, :4])
    spread = {**RAW, "watched": [[one] * 2 for one in RAW["watched"]], "watched_size": [[3, 3], [0, 0]]}
    np.testing.assert_allclose(encoded(per_item, spread, other), found, atol=1e-6)
    rows = {"video": ["a", "b"], "watched": [RAW["watched"][0]] * 2, "watched_size": [3, 3]}
    np.testing.assert_allclose(encoded(per_item, rows, other, lists=False), found[:2], atol=1e-6)


def test_the_shared_table_gets_one_exact_sparse_gradient(monkeypatch):
    """Item and history read the same rows: the merged gradient is that of dense products, and has no padded row."""
    schema = Schema([Sequence("watched", shares="video", context=True, pooling=DIN), VIDEO])
    encoder = Encoder(schema)
    table = encoder.embeddings["video"]
    raw = {**RAW, "watched": [["b", "b", "?"], ["c"] * 3], "watched_size": [2, 0], "video": [["a", "b"], ["a", "a"]]}
    tensors = Lookup(schema)({name: tf.constant(value) for name, value in raw.items()})
    batch = Batch(tensors, list_size=tensors["list_size"], valid=tf.sequence_mask(raw["list_size"]))

    def gradient():
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(encoder(batch=batch) * tf.reshape(tf.range(27.0), [3, 9]))
        return tape.gradient(total, table.embeddings.value)

    sparse = gradient()
    assert isinstance(sparse, tf.IndexedSlices)
    assert set(sparse.indices.numpy()) == {1, 2}, "neither the unknown id nor the third video, which are padding"
    monkeypatch.setattr(Table, "call", lambda self, ids: tf.one_hot(ids, self.input_dim) @ self.embeddings.value)
    np.testing.assert_allclose(tf.convert_to_tensor(sparse), gradient(), rtol=1e-5)


def frame():
    return pd.DataFrame({
        "q": [1, 1, 2, 2], "video": ["a", "b", "c", "a"], "watched": [["c", "b"], ["c", "b"], ["a"], ["a"]],
        "gap": [[10.0, np.nan], [10.0, np.nan], [1.0], [1.0]], "action": [["like", "skip"]] * 2 + [["like"]] * 2,
        "y": [0, 1, 0, 1],
    })


def test_side_columns():
    """Numbers are standardised, names get a table; both stay beside their ids when a history is cut."""
    lists = from_frame(frame(), "q", context=["watched", "gap", "action"])
    history = Sequence("watched", shares="video", context=True, side=("gap", "action"), max_length=1, pooling="sum")
    schema = fit_schema(lists, [Task("y", kind="binary")], [history, Category("video", dim=2)])
    fitted = schema.features[0]
    assert [side["kind"] for side in fitted.sides] == ["dense", "category"]
    assert fitted.sides[0]["mean"] == [pytest.approx(np.log1p([10, 1]).mean())]
    assert fitted.sides[1]["vocabulary"] == ["like", "skip"]
    assert Schema.from_config(json.loads(json.dumps(schema.get_config()))) == schema
    x, _ = next(iter(batches(lists, [Task("y", kind="binary")], schema, batch_size=2)))
    np.testing.assert_array_equal(x["gap"], [[np.nan], [1.0]])
    np.testing.assert_array_equal(x["action"], [[2], [1]])
    other = from_frame(frame().assign(gap=[[1.0]] * 4), "q", context=["watched", "gap", "action"])
    with pytest.raises(ValueError, match=r"'gap' has another length than 'watched': 1 in row 0"):
        feature_values(other, fitted)


@pytest.mark.parametrize(("feature", "message"), [
    (lambda: Sequence("x", pooling="first"), "pooling must be one of mean, sum, .*, target_attention, not 'first'"),
    (lambda: Sequence("x", pooling="target_attention"), "compares with the candidate item: set shares"),
    (lambda: Sequence("x", shares="video", pooling={"name": "attention", "units": [1]}), "no option 'units'"),
    (lambda: Sequence("x", shares="video", pooling={**DIN, "normalizer": "softmax"}), "did you mean 'normaliser'"),
    (lambda: Sequence("x", max_length=None), "max_length must be a number"),
    (lambda: Schema([Sequence("x", shares="tags", pooling=DIN), Bag("tags", vocabulary=("a",))]), "must be a category"),
])
def test_what_is_refused(feature, message):
    with pytest.raises(ValueError, match=message):
        feature()


EXPERIMENT = """
name = "watched"
architecture = {name = "shared_bottom", units = [4], head_units = []}

[data]
files = "log.FORMAT"
list_id = "q"
context = ["watched", "gap"]
split = {vali = 0.2, test = 0.2}

[[features]]
name = "watched"
kind = "sequence"
shares = "video"
pooling = {name = "target_attention", units = [4], normaliser = "softmax"}
side = "gap"
max_length = 3

[[features]]
name = "tags"
kind = "bag"
pooling = "sqrtn"
max_length = 2

[[features]]
name = "video"
kind = "category"
width = 3

[[features]]
name = "*"

[[tasks]]
name = "click"
kind = "binary"

[training]
epochs = 1
telemetry_every = 0
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_an_experiment_file(tmp_path, monkeypatch, kind):
    """Without Python: histories and tags from Parquet lists, or from a text file with JSON and separators."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(40), 3)
    watched = [rng.integers(0, 9, rng.integers(0, 5)).tolist() for _ in range(40)]
    table = pd.DataFrame({
        "q": users, "video": rng.integers(0, 9, 120), "watched": [watched[user] for user in users],
        "gap": [[float(one) for one in watched[user]] for user in users],
        "tags": [rng.choice(["a", "b", "c"], rng.integers(0, 4)).tolist() for _ in users],
        "price": rng.normal(size=120), "click": rng.integers(0, 2, 120),
    })
    if kind == "csv":
        text = table.assign(watched=table["watched"].map(json.dumps), gap=table["gap"].map(json.dumps),
                            tags=table["tags"].map("|".join))
        text.to_csv(tmp_path / "log.csv", index=False)
    else:
        table.to_parquet(tmp_path / "log.parquet")
    (tmp_path / "watched.toml").write_text(EXPERIMENT.replace("FORMAT", kind))
    assert cli.main(["train", "watched.toml"]) == 0
    config = json.loads((tmp_path / "runs/watched/run.json").read_text())["config"]["features"]
    assert config[0]["pooling"] == {"name": "target_attention", "units": [4], "normaliser": "softmax"}
    assert cli.main(["export", "watched"]) == 0
    assert cli.main(["train", "runs/watched/experiment.toml", "--name", "again"]) == 0


def test_a_column_whose_ids_are_shared_is_a_category():
    """Also if nobody declares it, and it has more integers than a column of names."""
    rng = np.random.default_rng(0)
    many = pd.DataFrame({"video": np.arange(200) + 10**12, "age": rng.normal(size=200), "y": rng.integers(0, 2, 200),
                         "watched": [[number + 10**12, 5] for number in range(200)]})
    history = Sequence("watched", shares="video", pooling="target_attention")
    schema = fit_schema(from_frame(many), [Task("y", kind="binary")], [history, "*"])
    assert [type(feature).__name__ for feature in schema.features] == ["Sequence", "Category", "Dense"]
    assert (schema.features[0].dtype, schema.features[0].dim) == ("int64", schema.features[1].width)
    assert len(schema.features[1].vocabulary) == 200


def test_keys_are_those_of_the_kind():
    lists = from_frame(frame(), "q", context=["watched"])
    with pytest.raises(ValueError, match="weights is not for a feature of kind 'sequence'"):
        declared(lists, "watched", True, "sequence", {"weights": "gap"})
    with pytest.raises(ValueError, match="max_length is not for a feature of kind 'category'"):
        declared(lists, "video", False, "category", {"max_length": 2})
    assert isinstance(declared(lists, "watched", True, None, {"max_length": 2}), Bag)
    assert isinstance(declared(lists, "watched", True, None, {"side": "gap"}), Sequence)


@pytest.mark.parametrize("pooling", [{**DIN, "activation": "dice"}, {**DIN, "blocks": 1}, "last"], ids=str)
def test_mixed_precision(pooling):
    """Attention and transformer compute in float32, whatever the policy is."""
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    schema = Schema([Sequence("watched", shares="video", context=True, pooling=pooling), VIDEO])
    found = encoded(schema, RAW, Encoder(schema, dtype=keras.mixed_precision.dtype_policy()))
    assert found.dtype == tf.bfloat16.as_numpy_dtype
    assert np.isfinite(found.astype(np.float32)).all()


@pytest.mark.slow
def test_plain_rows(tmp_path):
    """Histories, other ids of one table, and times of rows without lists; in every signature of an export."""
    table = pd.DataFrame({
        "video": [1, 2, 3, 1] * 5, "other": [1, 3, 2, 9] * 5, "watched": [[1, 2], [], [3], [2, 2, 1]] * 5,
        "when": pd.to_datetime([1, 2, 3, 4] * 5, unit="h"), "click": [0, 1] * 10,
    })
    lists, tasks = from_frame(table), [Task("click", kind="binary", metrics=())]
    schema = fit_schema(lists, tasks, [
        Category("other", shares="video"), Sequence("watched", shares="video", pooling=DIN),
        Category("video", dtype="int64"), Time("when")])
    ranker = tfmtl2r.MultiTaskRanker("shared_bottom", tasks, schema)
    ranker.compile("adam")
    ranker.fit(batches(lists, tasks, schema, batch_size=5), verbose=0)
    tfmtl2r.export(ranker, tmp_path / "rows", rows=lists)
    assert ranker.predict(table.drop(columns="click")).shape == (20, 2)  # score and probability
    assert ranker.architecture.encoder.embeddings.keys() == {"watched", "video"}


@pytest.mark.parametrize("options", [
    {}, {"pooling": "last", "side": ("gap",)}, {"pooling": {"name": "mean", "blocks": 1}}])
def test_categories_bags_and_histories_share_the_table_of_a_history(options):
    """Equal ids have equal rows, and one table gets the gradients of all."""
    frame = pd.DataFrame({"seen": [["a", "b"], ["c"]], "gap": [[1, 2], [3]], "item": ["b", "?"], "tags": [["b"], ["c"]],
                          "liked": [["b"], ["a"]], "y": [0, 1]})
    sharing = [Category("item", shares="seen"), Bag("tags", shares="seen", missing=False),
               Sequence("liked", shares="seen", pooling="last", missing=False)]
    for order in ([Sequence("seen", dim=3, **options), *sharing], [*sharing, Sequence("seen", dim=3, **options)]):
        lists = from_frame(frame)
        schema = fit_schema(lists, [Task("y", kind="binary")], order)
        encoder, tensors = Encoder(schema), {}
        for feature in schema.features:
            tensors |= feature_values(lists, feature)
        with tf.GradientTape() as tape:
            found = encoder(batch=Batch(Lookup(schema)({k: tf.constant(v.tolist()) for k, v in tensors.items()})))
            total = tf.reduce_sum(found)
        ends = np.cumsum(encoder.fields)
        parts = {f.name: found[:, end - f.width : end] for f, end in zip(encoder.order, ends, strict=True)}
        table = encoder.embeddings["seen"].table.embeddings
        for name in ("item", "tags", "liked"):
            np.testing.assert_array_equal(parts[name][0], table[2], err_msg=name)
        np.testing.assert_array_equal(parts["item"][1], table[0])
        assert [v.path for v in encoder.trainable_variables if tuple(v.shape) == (4, 3)] == [table.path]
        assert tape.gradient(total, table.value) is not None


@pytest.mark.parametrize("empty", [[[], []], ["", ""], [None, None]])
def test_a_side_column_that_is_empty_in_train_counts_as_numbers(empty):
    """A later table has numbers there."""
    columns = {"seen": empty, "gap": empty, "y": [0, 1]}
    feature = Sequence("seen", vocabulary=("a", "b"), dim=2, side=("gap",))
    fitted = fit_schema(from_frame(pd.DataFrame(columns)), [Task("y", kind="binary")], [feature]).features[0]
    assert fitted.sides[0]["kind"] == "dense"
    later = from_frame(pd.DataFrame({"seen": [["a", "b"], ["b"]], "gap": [[3, 0], [-1]]}))
    values = feature_values(later, fitted)
    np.testing.assert_array_equal(values["gap"], [[3, 0], [-1, np.nan]])
    schema = Schema([fitted])
    raw = {key: tf.constant(value.tolist()) for key, value in values.items()}
    found = Encoder(schema)(batch=Batch(Lookup(schema)(raw)))
    np.testing.assert_allclose(found[:, 2], [np.log(4) / 2, -np.log(2)], rtol=1e-6)
