"""Vectors of another model, texts of an open vocabulary, and indicators of missing numbers."""

import numpy as np
import pandas as pd
import pytest

from tfmtl2r import Category, Dense, Schema, Task
from tfmtl2r._backend import tf
from tfmtl2r.batch import Batch
from tfmtl2r.data import Lists, fit_schema, from_frame, read_lists
from tfmtl2r.data.columns import feature_values
from tfmtl2r.data.fit import declared
from tfmtl2r.features import Text, Vector
from tfmtl2r.layers.features import Encoder, Lookup

TASKS = [Task("y", kind="binary")]


def encoded(schema, encoder=None, **values):
    raw = {name: tf.constant(value) for name, value in values.items()}
    return (encoder or Encoder(schema))(batch=Batch(Lookup(schema)(raw))).numpy()


def test_vectors_by_hand():
    """As they are, normalised, with a zero vector, and missing by any component."""
    rows = np.array([[3, 4], [0, 0], [np.nan, 1]], np.float32)
    np.testing.assert_array_equal(encoded(Schema([Vector("v", 2)]), v=rows), [[3, 4, 0], [0, 0, 0], [0, 0, 1]])
    found = encoded(Schema([Vector("v", 2, normalise=True, missing=False)]), v=rows)
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0], [0, 0]], rtol=1e-6)


@pytest.mark.parametrize(("frozen", "projection", "trained"), [
    (True, None, []), (True, 3, [(2, 3)]), (False, None, [(2, 2)]), (False, 3, [(2, 2), (2, 3)])])
def test_only_what_is_not_frozen_is_trained(frozen, projection, trained):
    schema = Schema([Vector("v", 2, frozen=frozen, projection=projection)])
    encoder, rows = Encoder(schema), np.array([[3, 4], [1, -1]], np.float32)
    assert [tuple(variable.shape) for variable in encoder.trainable_variables] == trained
    with tf.GradientTape() as tape:
        found = encoder(batch=Batch({"v": tf.constant(rows)}))
        total = tf.reduce_sum(found**2)
    assert found.shape == (2, (projection or 2) + 1)
    assert all(np.any(g) for g in tape.gradient(total, [v.value for v in encoder.trainable_variables]))
    if not projection:
        np.testing.assert_array_equal(found[:, :2], rows, err_msg="the map starts as the identity")


@pytest.mark.parametrize("cells", [
    [[1.0, 2.0], None, [3.0, 4.0]], ["1.0|2.0", "", "3.0|4.0"], ["[1, 2]", "[]", "[3, 4]"],
    [np.array([1, 2]), np.array([]), np.array([3, 4])],
])
def test_vectors_from_every_column(cells):
    column = np.empty(3, object)
    column[:] = cells
    lists = from_frame(pd.DataFrame({"v": column, "y": [0, 1, 0]}))
    feature = fit_schema(lists, TASKS, [Vector("v")]).features[0]
    assert feature.size == 2
    np.testing.assert_array_equal(feature_values(lists, feature)["v"], [[1, 2], [np.nan] * 2, [3, 4]])
    assert declared(lists, "v", False, "vector", {"projection": 3}) == Vector("v", projection=3)
    matrix = Lists({"v": np.array([[1, 2], [np.nan, np.nan], [3, 4]])})
    np.testing.assert_array_equal(feature_values(matrix, feature)["v"], feature_values(lists, feature)["v"])
    with pytest.raises(ValueError, match=r"wrong number of components: 1 in row 1 .*each vector must have 2"):
        feature_values(from_frame(pd.DataFrame({"v": [[1.0, 2.0], [3.0]]})), feature)


def test_a_text_is_hashed_as_a_whole():
    """Nothing is fitted; only the missing value has the row 0; new values have rows, too."""
    lists = from_frame(pd.DataFrame({"q": ["red shoes", "shoes", "", None], "y": [0, 1, 0, 1]}))
    schema = fit_schema(lists, TASKS, [Text("q", buckets=50, dim=2)])
    assert schema.features[0] == Text("q", buckets=50, dim=2)
    encoder = Encoder(schema)
    found = encoded(schema, encoder, q=["red shoes", "shoes", "", "never seen", "red shoes"])
    table = encoder.embeddings["q"].embeddings.numpy()
    np.testing.assert_array_equal(found[2], table[0])
    np.testing.assert_array_equal(found[0], found[4])
    ids = Lookup(schema)({"q": tf.constant([f"text {number}" for number in range(999)])})["q"].numpy()
    assert set(ids) == set(range(1, 50))
    numbers = from_frame(pd.DataFrame({"q": [5, 2**40], "y": [0, 1]}))
    assert fit_schema(numbers, TASKS, [Text("q")]).features[0].dtype == "int64"
    assert declared(lists, "q", False, "text", {"hash_buckets": 7}) == Text("q", buckets=7)
    assert declared(lists, "q", False, None, {"hash_buckets": 7}) == Category("q", buckets=7)
    for wrong in ({"buckets": 1}, {"buckets": None}, {"vocabulary": ("a",), "buckets": None}):
        with pytest.raises(ValueError, match="a text needs at least 2 hash_buckets"):
            Text("q", **wrong)


def test_indicators_of_missing_numbers():
    """After the number, or the whole vector; between numbers without one, whose places do not change."""
    schema = Schema([Dense("a", mean=(1.0,), variance=(4.0,)), Dense("b", missing=True),
                     Dense("c", shape=(2,), missing=True), Dense("d")])
    encoder = Encoder(schema)
    assert (encoder.fields, encoder.width) == ((1, 2, 3, 1), 7)
    found = encoded(schema, encoder, a=[3.0, np.nan], b=[np.nan, 2.0], c=[[1.0, np.nan], [1.0, 2.0]], d=[5.0, 6.0])
    np.testing.assert_allclose(found, [[1, 0, 1, 1, 0, 1, 5], [0, 2, 0, 1, 2, 0, 6]])
    lists = from_frame(pd.DataFrame({"a": [1.0, np.nan]}))
    assert declared(lists, "a", False, None, {"missing": True}) == Dense("a", missing=True)
    assert declared(lists, "a", False, "dense", {"transform": "log1p"}).missing is False


@pytest.mark.parametrize("cells", [
    ["1|2|3", "1|2|", "1||3", "||", ""], ["1,2,3,", "1,2,,", "1,,3,", ",,,", ""],
    ["[1, 2, 3]", "[1, 2, null]", "[1, NaN, 3]", "[null, null, null]", "null"],
    [[1, 2, 3], [1, 2, None], [1, None, 3], [None] * 3, None],
    [np.array([1, 2, 3.0]), np.array([1, 2, np.nan]), np.array([1, np.nan, 3]), np.full(3, np.nan), None],
], ids=str)
def test_a_vector_with_missing_components_is_missing_wherever_they_are(cells, tmp_path):
    """Also at the end, where a padded list would be shorter."""
    column = np.empty(5, object)
    column[:] = cells
    frame = pd.DataFrame({"v": column, "y": [0, 1, 0, 1, 0]})
    expected = [[1, 2, 3], [1, 2, np.nan], [1, np.nan, 3], [np.nan] * 3, [np.nan] * 3]
    tables = [from_frame(frame)]
    if isinstance(cells[0], str):
        frame.to_csv(tmp_path / "a.csv", index=False)
        tables.append(read_lists([tmp_path / "a.csv"]))
    for lists in tables:
        feature = fit_schema(lists, TASKS, [Vector("v")]).features[0]
        np.testing.assert_array_equal(feature_values(lists, feature)["v"], expected)
        found = encoded(Schema([feature]), v=feature_values(lists, feature)["v"])
        np.testing.assert_array_equal(found, [[1, 2, 3, 0], *[[0, 0, 0, 1]] * 4])


def test_arrays_are_vectors_of_their_width():
    """-1 is a number here, and not a missing id at the end."""
    for array in (np.array([[1, -1], [-1, -1]]), np.array([[1, -1], [np.nan, np.nan]]), np.array([[1.0, np.nan]] * 2)):
        lists = Lists({"v": array, "y": np.array([0, 1])})
        feature = fit_schema(lists, TASKS, [Vector("v")]).features[0]
        np.testing.assert_array_equal(feature_values(lists, feature)["v"], array)
    short = from_frame(pd.DataFrame({"v": ["1|2|3", "1|2"], "y": [0, 1]}))
    with pytest.raises(ValueError, match="the wrong number of components: 2 in row 1"):
        fit_schema(short, TASKS, [Vector("v")])
