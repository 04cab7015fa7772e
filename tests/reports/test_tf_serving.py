"""Reports about TensorFlow Serving, on an export in the loader that the server uses."""

import json

import numpy as np
import pytest

import tfmtl2r
from tfmtl2r._backend import tf
from tfmtl2r.serving.session import LoadedExport
from tfmtl2r.serving.values import as_array

REQUEST = {
    "price": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], "stars": [[0.1, 0.2, 0.3], [-1.0, 0.5, 2.0]],
    "brand": [["a", "b", "c"], ["a", "a", "zz"]], "list_size": [3, 2],
}


@pytest.fixture(scope="module")
def served(shop, tmp_path_factory):
    folder = tfmtl2r.export(shop.ranker, tmp_path_factory.mktemp("served") / "shop", rows=shop.lists)
    with LoadedExport(folder) as loaded:
        yield lambda request, signature="serving_default": loaded.run(signature, request)


def test_padding_with_the_first_element_changes_scores(served):
    """The server pads shorter requests of a batch with their first values
    (https://github.com/tensorflow/serving/issues/1279)."""
    plain = served(REQUEST)
    longer = {name: [[*row, row[0], row[0]] for row in value] if name != "list_size" else value
              for name, value in REQUEST.items()}
    padded = served(longer)
    for name, value in plain.items():
        for row, size in enumerate(REQUEST["list_size"]):
            np.testing.assert_allclose(padded[name][row, :size], value[row, :size], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("lists", [1, 2])
def test_outputs_of_a_batch_have_another_first_dimension(served, lists):
    """"Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input tensors"
    (https://github.com/tensorflow/serving/issues/2043)."""
    answer = served({name: value[:lists] for name, value in REQUEST.items()})
    assert {len(value) for value in answer.values()} == {lists}


@pytest.mark.parametrize("value", [float("nan"), 3.4e38, -3.4e38, 0.0])
def test_an_answer_is_nan(served, value):
    """Some inputs give NaN, which is no JSON (https://github.com/tensorflow/serving/issues/1670)."""
    answer = served({**REQUEST, "price": [[value] * 3] * 2, "stars": [[value] * 3] * 2})
    answers = json.dumps({name: scores.tolist() for name, scores in answer.items()})
    json.loads(answers, parse_constant=lambda word: pytest.fail(f"{word} in {answers}"))


def test_decimal_numbers_are_refused_for_their_precision(served):
    """"Cannot convert JSON value: 0.96 to float without loss of precision"
    (https://github.com/tensorflow/serving/issues/1136)."""
    assert as_array("speed", [0.96, 1, 5.0], tf.float32).tolist() == np.float32([0.96, 1, 5]).tolist()
    with pytest.raises(TypeError, match=r"input 'speed' takes int64: expected numbers of this type, got float64"):
        as_array("speed", [1.5], tf.int64)


def test_a_boolean_is_no_number():
    """A boolean in JSON is no scalar for the server (https://github.com/tensorflow/serving/issues/1199)."""
    assert as_array("new", [True, False], tf.float32).tolist() == [1.0, 0.0]
    with pytest.raises(TypeError, match="input 'new' takes int64"):
        as_array("new", [True, None], tf.int64)


def test_an_unheard_of_text_fails(served):
    """A category that is new to the server is scored as unknown, whatever it is
    (https://github.com/tensorflow/serving/issues/497 asks how text is sent)."""
    texts = ["zz", "", b"\xff", "Ж" * 1000]
    found = [served({**REQUEST, "brand": [[text] * 3] * 2}) for text in texts]
    for name, scores in found[0].items():
        for other in found[1:]:
            np.testing.assert_array_equal(other[name], scores)
