"""ONNX files answer as the export does, in a runtime that shares nothing with TensorFlow."""

import numpy as np
import pytest
from serving_problem import SCHEMA, TASKS, make_ranker, predicted

import tfmtl2r
from tfmtl2r import Schema
from tfmtl2r._backend import tf
from tfmtl2r.serving import onnx as conversion
from tfmtl2r.serving.examples import requests, with_extras
from tfmtl2r.serving.onnx import OnnxError, export_onnx
from tfmtl2r.serving.session import LoadedExport

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")
pytestmark = pytest.mark.slow
LISTED = Schema([feature for feature in SCHEMA.features if "hashed" not in feature.name])


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    ranker = make_ranker(LISTED)
    version = tfmtl2r.export(ranker, folder / "export")
    path = export_onnx(folder / "export", folder / "deep" / "ranker.onnx")
    assert [file.name for file in path.parent.iterdir()] == ["ranker.onnx"]
    return ranker, version, onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run(session, request):
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, request), strict=True))


def test_scores_are_those_of_predict(converted):
    ranker, version, session = converted
    with LoadedExport(version) as loaded:
        for seed in range(3):
            for request in requests(LISTED, seed=seed):
                answer, expected = run(session, request), loaded.run("predict_features", request)
                assert set(answer) == set(expected)
                for name, value in answer.items():
                    assert value.dtype == expected[name].dtype
                    np.testing.assert_allclose(value, expected[name], rtol=0, atol=1e-5)
                valid = answer["valid"]
                for task, scores in predicted(ranker, request).items():
                    np.testing.assert_allclose(answer[f"score_{task}"][valid], scores[valid], rtol=0, atol=1e-5)


def test_every_category_finds_its_place(converted):
    """Text and integers, known and unknown."""
    _, version, session = converted
    request = requests(LISTED, seed=4)[1]
    with LoadedExport(version) as loaded:
        seen = set()
        for brand in ("acme", "b c", "é", "never seen", ""):
            for shop in (7, 3, 2**40, -1):
                changed = {**request, "brand": np.full((3, 11), brand, object), "shop": np.full((3, 11), shop)}
                score = run(session, changed)["score"]
                np.testing.assert_allclose(score, loaded.run("predict_features", changed)["score"], rtol=0, atol=1e-5)
                seen.add(round(float(score[0, 0]), 6))
        assert len(seen) == 16  # five brands, two of them unknown, and four shops


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, 1e-12])
def test_odd_numbers(converted, value):
    _, version, session = converted
    request = requests(LISTED, seed=4)[1]
    changed = {**request, **{name: np.full_like(request[name], value) for name in ("vector", "price", "gain", "age")}}
    answer = run(session, changed)
    with LoadedExport(version) as loaded:
        np.testing.assert_allclose(answer["score"], loaded.run("predict_features", changed)["score"], rtol=0, atol=1e-5)


def test_lists_without_items(converted):
    _, _, session = converted
    request = {**requests(LISTED)[0], "list_size": np.int32([0, 0])}
    answer = run(session, request)
    assert not answer["valid"].any()
    assert (answer["score"] == np.float32(-1e9)).all()


@pytest.mark.long
@pytest.mark.parametrize("architecture", ["mmoe", "ple", "dml", "deepmtl2r"])
def test_lists_without_items_where_tasks_mix_experts(architecture, tmp_path):
    """ONNX Runtime fuses these products and divides by their number of rows."""
    schema = Schema([feature for feature in LISTED.features if feature.name in ("price", "brand")])
    ranker = tfmtl2r.MultiTaskRanker(architecture, TASKS, schema)
    path = export_onnx(tfmtl2r.export(ranker, tmp_path), tmp_path / "ranker.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for size in ([0, 0], [1, 0]):
        answer = run(session, {**requests(schema)[0], "list_size": np.int32(size)})
        assert answer["valid"].sum() == sum(size)
        assert ((answer["score"] == np.float32(-1e9)) != answer["valid"]).all()


@pytest.mark.parametrize("signature", ["predict_blended", "rank"])
def test_other_signatures_on_raw_tensors(converted, tmp_path, signature):
    """Integers that know no NaN, and text that comes back."""
    _, version, _ = converted
    path = export_onnx(version, tmp_path / "ranker.onnx", signature=signature)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    request = with_extras(requests(LISTED, seed=4)[1], LISTED, len(TASKS))
    request = {each.name: request[each.name] for each in session.get_inputs()}
    answer = run(session, request)
    with LoadedExport(version) as loaded:
        for name, values in loaded.run(signature, request).items():
            if values.dtype == object:
                assert answer[name].tolist() == [[text.decode() for text in row] for row in values]
            else:
                np.testing.assert_allclose(answer[name], values, rtol=0, atol=1e-5)


@pytest.mark.parametrize("signature", ["predict_elwc", "regress"])
def test_parsers_are_refused(converted, tmp_path, signature):
    _, version, _ = converted
    with pytest.raises(OnnxError, match="a parser of serialized examples: take predict_features"):
        export_onnx(version, tmp_path / "ranker.onnx", signature=signature)
    assert not list(tmp_path.iterdir())


def test_hashes_are_refused(exported, tmp_path):
    with pytest.raises(OnnxError, match=r"ONNX has no StringToHashBucketFast \(a hashed category needs a vocabulary"):
        export_onnx(exported.folder, tmp_path / "ranker.onnx")
    with pytest.raises(ValueError, match="no signature 'predict'; it has"):
        export_onnx(exported.folder, tmp_path / "ranker.onnx", signature="predict")
    with pytest.raises(ValueError, match=r"ends in \.onnx"):
        export_onnx(exported.folder, tmp_path / "ranker.bin")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        export_onnx(tmp_path / "absent", tmp_path / "ranker.onnx")
    assert not list(tmp_path.iterdir())


def test_other_scores_are_refused(converted, tmp_path):
    """The comparison can fail: the same graph with other weights."""
    _, version, _ = converted
    other = tfmtl2r.export(make_ranker(LISTED, TASKS[::-1]), tmp_path / "other")
    model, tables = conversion._converted(version, "predict_features")
    with LoadedExport(other) as loaded, pytest.raises(OnnxError, match="off from the export by"):
        conversion._compare(model.SerializeToString(), loaded, "predict_features", tables)
    assert tf.executing_eagerly()
