"""Bags: pooled embeddings by hand, with weights, empty bags, shared tables and their gradients."""

import numpy as np
import pandas as pd
import pytest

from tfmtl2r import Category, Dense, Schema, Task
from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import Batch
from tfmtl2r.data import fit_schema, from_frame
from tfmtl2r.data.columns import feature_values
from tfmtl2r.features import Bag
from tfmtl2r.layers.features import Encoder, Lookup
from tfmtl2r.layers.pooling import POOLINGS, rows_of
from tfmtl2r.training.replicas import Replicas
from tfmtl2r.training.rows import stack

ROWS = np.array([[[1, 0], [0, 1], [1, 1]]], np.float32)
ONES, WEIGHTS = [1, 1, 1], [2, 1, 0.5]
GOLDEN = [
    ("sum", ONES, (2, 2), 1), ("sum", WEIGHTS, (2.5, 1.5), 2),
    ("mean", ONES, (0.666666667, 0.666666667), 0.333333333), ("mean", WEIGHTS, (0.714285714, 0.428571429), 0.571428571),
    ("sqrtn", ONES, (1.154700538, 1.154700538), 0.577350269),
    ("sqrtn", WEIGHTS, (1.091089451, 0.654653671), 0.872871561),
]  # fmt: skip


@pytest.mark.parametrize(("pooling", "weights", "expected", "slope"), GOLDEN)
def test_pooling_by_hand(pooling, weights, expected, slope):
    """Padding changes neither the value nor the gradient, whatever stands in the padded rows."""
    for padding in (0, 2):
        rows = tf.constant(np.concatenate([ROWS, np.full((1, padding, 2), -7, np.float32)], axis=1))
        with tf.GradientTape() as tape:
            tape.watch(rows)
            pooled = POOLINGS[pooling](rows, tf.constant([[*weights, *[0.0] * padding]], tf.float32))
            first = pooled[0, 0]
        np.testing.assert_allclose(pooled[0], expected, atol=1e-6)
        gradient = tape.gradient(first, rows)[0]
        np.testing.assert_allclose(gradient[0], (slope, 0), atol=1e-6)
        np.testing.assert_array_equal(gradient[3:], 0)


def test_edges_of_pooling():
    rows = tf.constant([[[-1.0, -2.0], [-3.0, 0.5], [9.0, 9.0]]])
    for pooling, pool in POOLINGS.items():
        np.testing.assert_array_equal(pool(rows, tf.zeros([1, 3])), [[0, 0]], err_msg=f"{pooling} of an empty bag")
        np.testing.assert_array_equal(pool(rows[:, :0], tf.zeros([1, 0])), [[0, 0]], err_msg=pooling)
        one = pool(rows, tf.constant([[0.0, 1.0, 0.0]]))
        np.testing.assert_allclose(one, [[-3.0, 0.5]], err_msg=f"{pooling} of one element is the element")
    np.testing.assert_array_equal(POOLINGS["max"](rows, tf.constant([[1.0, 1.0, 0.0]])), [[-1.0, 0.5]])
    np.testing.assert_array_equal(POOLINGS["last"](rows, tf.constant([[1.0, 1.0, 0.0]])), [[-3.0, 0.5]])
    np.testing.assert_array_equal(POOLINGS["mean"](rows, tf.constant([[1.0, 1.0, 0.0]])), [[-2.0, -0.75]])


def encoded(schema, raw, encoder=None):
    raw = {name: tf.constant(value) for name, value in raw.items()}
    return (encoder or Encoder(schema))(batch=Batch(Lookup(schema)(raw))).numpy()


def test_what_is_encoded():
    """Order and padding do not matter, duplicates count twice, an empty bag is 0 with an indicator."""
    schema = Schema([Category("tag", vocabulary=("a", "b"), dim=2), Bag("tags", shares="tag", pooling="mean")])
    encoder = Encoder(schema)
    raw = {"tag": ["a", "b", "?", "a", ""], "tags": [["a", "?"], ["b", "b"], ["?", "a"], ["b", "a"], ["a", "b"]],
           "tags_size": [1, 2, 1, 0, 2]}
    found = encoded(schema, raw, encoder)
    table = encoder.embeddings["tag"].embeddings.numpy()
    assert "tags" not in encoder.embeddings
    np.testing.assert_allclose(found[:3, 2:4], found[:3, :2], err_msg="one element, or twice the same, is the category")
    np.testing.assert_array_equal(found[3, 2:], [0, 0, 1])
    np.testing.assert_allclose(found[4, 2:], [*table[1:].mean(0), 0], rtol=1e-6)
    turned = {**raw, "tags": [["a", "b", "x"], ["b", "b", "a"], ["?", "b", "a"], ["?", "?", "?"], ["b", "a", "b"]]}
    np.testing.assert_allclose(encoded(schema, turned, encoder), found, rtol=1e-6)


def test_weights_and_the_largest_length():
    """A missing weight drops its id, as does a weight that is not there; only the first ids count."""
    schema = Schema([Bag("tags", vocabulary=("a", "b", "c"), dim=2, weights="w", pooling="sum", missing=False)])
    encoder = Encoder(schema)
    table = encoder.embeddings["tags"].embeddings.numpy()
    raw = {"tags": [["a", "b", "c"]] * 3, "tags_size": [3, 3, 3], "w_size": [3, 3, 1],
           "w": [[2.0, np.nan, 0.5], [0.0, 0.0, 0.0], [1.0, 5.0, np.inf]]}
    np.testing.assert_allclose(
        encoded(schema, raw, encoder), [2 * table[1] + table[3] / 2, [0, 0], table[1]], rtol=1e-6)
    short = Schema([Bag("tags", vocabulary=("a", "b", "c"), dim=2, max_length=2, missing=False)])
    read = feature_values(from_frame(pd.DataFrame({"tags": [["c", "b", "a"], ["a"]]})), short.features[0])
    assert (read["tags"].tolist(), read["tags_size"].tolist()) == ([["c", "b"], ["a", ""]], [2, 1])
    encoder = Encoder(short)
    long = {"tags": [["c", "b", "a"]], "tags_size": [3]}
    np.testing.assert_array_equal(encoded(short, long, encoder), encoded(short, {**long, "tags_size": [2]}, encoder))


def test_a_shared_table_gets_one_sparse_gradient():
    """History and item meet in the same row, duplicates are summed, and padded ids are not touched."""
    table = keras.layers.Embedding(4, 2)
    table.build()
    history, item = tf.constant([[1, 2, 1, 3]]), tf.constant([1])
    mask = tf.constant([[True, True, True, False]])

    def loss():
        pooled = POOLINGS["mean"](rows_of(table, history, mask), tf.cast(mask, tf.float32))
        return tf.reduce_sum(pooled * [[1.0, -2.0]]) + tf.reduce_sum(table(item) * [[0.5, 1.0]])

    with tf.GradientTape() as tape:
        value = loss()
    gradient = tape.gradient(value, table.embeddings.value)
    assert isinstance(gradient, tf.IndexedSlices)
    [rows] = stack([[gradient]], [table.embeddings.value], Replicas())
    merged = dict(zip(rows.ids.numpy().tolist(), tf.reshape(rows.matrix, [-1, 2]).numpy(), strict=True))
    assert sorted(merged) == [1, 2], "row 3 stands in a padded place only"
    np.testing.assert_allclose(merged[1], (1.166666667, -0.333333333), atol=1e-6)
    np.testing.assert_allclose(merged[2], (0.333333333, -0.666666667), atol=1e-6)


@pytest.mark.parametrize(("options", "message"), [
    ({"pooling": "median"}, "pooling must be one of mean, sum, sqrtn, max, not 'median'"),
    ({"max_length": 0}, "max_length must be at least 1"),
    ({"shares": "tag", "vocabulary": ("a",)}, "shares the table of 'tag', which has its own vocabulary: leave it out"),
    ({"shares": "other"}, r"'tags' shares the table of 'other', .*such features are: tag"),
    ({"shares": "price"}, r"such features are: tag"),
    ({"name": "list"}, "'list_size'"),
])
def test_what_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Schema([Category("tag", vocabulary=("a",)), Dense("price"), Bag(**{"name": "tags", **options})])


def test_columns_that_do_not_fit_are_refused_with_their_row():
    frame = pd.DataFrame({"q": [1, 1], "tags": [["a"], ["b", "c"]], "w": [[1.0], [0.5]], "neg": [[1.0], [0.5, -1.0]]})
    lists = from_frame(frame, "q")
    with pytest.raises(ValueError, match=r"'w' has another length than 'tags': 1 in row 1 .*one value for each"):
        feature_values(lists, Bag("tags", weights="w"))
    with pytest.raises(ValueError, match=r"a weight in 'neg' is negative: -1.0 in row 1 .*must be >= 0"):
        feature_values(lists, Bag("tags", weights="neg"))
    with pytest.raises(ValueError, match=r"no column 'wight'"):
        fit_schema(lists, [Task("q", kind="binary")], [Bag("tags", weights="wight")])


def test_vocabularies_come_from_all_elements(caplog):
    frame = pd.DataFrame({"tags": [["b", "a"], ["b"], [], ["c", "b", "a"]], "empty": [[]] * 4, "y": [0, 1, 0, 1]})
    lists = from_frame(frame)
    schema = fit_schema(lists, [Task("y", kind="binary")], [Bag("tags", min_count=2), Bag("empty", dtype="int64")])
    assert schema.features[0].vocabulary == ("b", "a")
    assert schema.features[1].size == 1
    assert "feature 'empty' is empty in the training split" in caplog.text
    assert Schema.from_config(schema.get_config()) == schema


def test_ids_and_weights_of_examples_have_one_width():
    """Also where the examples of a request leave out the weights."""
    bag = Bag("tags", vocabulary=("a", "b"), weights="w")
    ids = tf.sparse.from_dense(tf.constant([["a", "b"], ["b", ""]]))
    none = tf.SparseTensor(tf.zeros([0, 2], tf.int64), tf.zeros([0]), [2, 0])
    found = bag.parsed({"tags": ids, "w": none})
    assert found["tags"].shape == found["w"].shape == (2, 2)
    assert found["tags_size"].numpy().tolist() == [2, 1]
