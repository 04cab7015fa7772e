"""Inputs that are lists of any length: nested lists and tables become padded tensors with their lengths."""

import numpy as np
import pandas as pd
import pytest
from servicer import Server

import tfmtl2r
from tfmtl2r import Category, Schema, Task
from tfmtl2r._backend import keras, tf
from tfmtl2r.data import from_frame, read_lists
from tfmtl2r.data.columns import Columns
from tfmtl2r.features import Bag
from tfmtl2r.serving.client import Client
from tfmtl2r.serving.listed import is_list, of_table, padded
from tfmtl2r.serving.tables import values_of

SCHEMA = Schema([
    Category("video", vocabulary=(1, 2, 3), dtype="int64", dim=2), Bag("tags", vocabulary=("a", "b"), weights="w"),
    Bag("watched", shares="video", context=True),
])
FRAME = pd.DataFrame({
    "q": [7, 5, 7], "video": [1, 2, 3], "tags": [["a"], [], ["b", "a", "?"]], "w": [[0.5], [], [1.0, 2.0, 0.0]],
    "watched": [[3, 1], None, [3, 1]],
})


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    keras.utils.set_random_seed(0)
    ranker = tfmtl2r.MultiTaskRanker("shared_bottom", [Task("click", kind="binary")], SCHEMA)
    folder = tmp_path_factory.mktemp("lists") / "ranker"
    tfmtl2r.export(ranker, folder)
    with Server(folder) as server:
        server.wait_for(1)
        with Client(server.target, "ranker", timeout=30) as client:
            yield ranker, client


@pytest.mark.slow
def test_tables_and_nested_lists(served):
    ranker, client = served
    expected = ranker.predict(FRAME, list_id="q")["score_click"].to_numpy()
    found = client.predict_frame(FRAME, "q")["score_click"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    texts = FRAME.assign(tags=["a", "", "b/a/?"], w=["0.5", "", "1/2/0"])
    found = client.predict_frame(texts, "q", separator="/")["score_click"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    nested = {"video": [[1, 3], [2]], "tags": [[["a"], ["b", "a", "?"]], [[]]], "w": [[[0.5], [1.0, 2.0, 0.0]], [[]]],
              "watched": [[3, 1], []]}
    scores = client.predict(nested)["score_click"]
    np.testing.assert_allclose([scores[0, 0], scores[1, 0], scores[0, 1]], expected, atol=1e-5)
    with pytest.raises(ValueError, match="tags_size"):
        client.predict({**nested, "tags": np.zeros((2, 2, 1), object)})


def test_a_number_called_as_the_size_of_another_input_is_no_length():
    specs = {"image": tf.TensorSpec([None, None, 8], tf.float32), "image_size": tf.TensorSpec([None, None], tf.float32),
             "page": tf.TensorSpec([None, None], tf.int64), "page_size": tf.TensorSpec([None], tf.int64),
             "tags": tf.TensorSpec([None, None, None], tf.string), "tags_size": tf.TensorSpec([None, None], tf.int32)}
    assert [name for name in specs if is_list(specs, name)] == ["tags"]


def test_a_column_of_texts_is_split_at_the_separator_that_is_given():
    lists = from_frame(pd.DataFrame({"tags": ["new york", "a|b c"]}))
    for separator, expected in (("|", [["new york", ""], ["a", "b c"]]), (" ", [["new", "york"], ["a|b", "c"]])):
        assert of_table(Columns(lists, False), "tags", tf.string, separator)[0].tolist() == expected


@pytest.mark.parametrize("cells", [
    pd.to_datetime(["2023-11-14T22:13:20", None]), ["2023-11-14T23:13:20+01:00", ""], ["2023-11-14 22:13:20", "NA"],
])  # fmt: skip
def test_times_become_epoch_numbers_of_the_unit_that_is_given(cells, tmp_path):
    frame = pd.DataFrame({"q": [1, 1], "when": cells, "n": [3, 4]})
    specs = {"when": tf.TensorSpec([None, None], tf.int64), "n": tf.TensorSpec([None, None], tf.int64)}
    frame.to_csv(tmp_path / "a.csv", index=False)
    for lists in (from_frame(frame, "q"), read_lists([tmp_path / "a.csv"], "q")):
        for unit, factor in (("s", 1), ("ms", 1000), ("D", 1 / 86400)):
            found = values_of(lists, "when", "when", specs, "", {"when": unit})["when"]
            assert found.tolist() == [int(1_700_000_000 * factor), -1]
        with pytest.raises(ValueError, match=r"expected numbers|contains times.*--times when=s"):
            values_of(lists, "when", "when", specs, "", {})
        assert values_of(lists, "n", "n", specs, "", {})["n"].tolist() == [3, 4]


def test_empty_lists_keep_a_place():
    specs = {"tags": tf.TensorSpec([None, None], tf.string), "tags_size": tf.TensorSpec([None], tf.int32)}
    assert padded({"tags": [[], []]}, specs) == {"tags": [[""], [""]], "tags_size": [0, 0]}
