"""``tfmtl2r.load`` opens both kinds of file."""

import gc

import numpy as np
import pytest
from serving_problem import SCHEMA, make_ranker, predicted

import tfmtl2r
from tfmtl2r._backend import tf
from tfmtl2r.serving.examples import requests


def test_signatures_of_an_export(exported):
    signatures = tfmtl2r.load(str(exported.folder.parent))
    assert {"serving_default", "predict_features", "rank"} <= set(signatures)
    serve = signatures["serving_default"]
    del signatures
    gc.collect()  # a function must keep the variables alive
    request = requests(SCHEMA, seed=2)[1]
    expected = exported.run(request)
    answer = serve(**request)
    for name in expected:
        np.testing.assert_allclose(answer[name], expected[name], atol=1e-6)
    assert set(serve.outputs) == set(expected)
    assert serve.inputs["vector"].shape.as_list() == [None, None, 4]


def test_inputs_are_converted_and_named(exported):
    serve = tfmtl2r.load(exported.folder)["serving_default"]
    request = {name: value.tolist() for name, value in requests(SCHEMA, seed=2)[0].items()}
    assert tf.is_tensor(serve(**request)["score"])
    doubles = {**requests(SCHEMA, seed=2)[0], "age": np.array([1.0, 2.0]), "list_size": np.array([3, 2])}
    assert serve(**doubles)["score"].shape == (2, 3)
    with pytest.raises(TypeError, match=r"missing: price; unknown: prise \('prise'; did you mean 'price'"):
        serve(**{"prise" if name == "price" else name: value for name, value in request.items()})
    with pytest.raises(TypeError, match="input 'list_size' takes int32: 4294967297 does not fit"):
        serve(**{**request, "list_size": [2**32 + 1, 1]})
    with pytest.raises(TypeError, match="input 'brand' takes string"):
        serve(**{**request, "brand": np.ones([2, 3])})


def test_a_keras_file(tmp_path):
    ranker = make_ranker()
    ranker.save(tmp_path / "model.keras")
    request = requests(SCHEMA)[0]
    for path in (str(tmp_path / "model.keras"), tmp_path):  # the file, or the folder of a run
        again = tfmtl2r.load(path)
        assert isinstance(again, tfmtl2r.MultiTaskRanker)
        assert again.compiled
        for task, scores in predicted(ranker, request).items():
            np.testing.assert_allclose(predicted(again, request)[task], scores, atol=1e-6)


def test_neither(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no numbered version.*\.keras"):
        tfmtl2r.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"model.keras: there is no such file; a run has its ranker when"):
        tfmtl2r.load(tmp_path / "model.keras")
