"""Exports answer as ``model.predict`` does, through the loader that TensorFlow Serving uses."""

import json
import logging
import os
import subprocess
import sys

import numpy as np
import pytest
from serving_problem import SCHEMA, TASKS, looked_up, make_ranker, predicted, rows, training_data

import tfmtl2r
from tfmtl2r import Category, Dense, Schema, Task, transforms
from tfmtl2r._backend import keras, tf
from tfmtl2r.data import Lists, fit_tasks
from tfmtl2r.serving import export as exporting
from tfmtl2r.serving import warmup
from tfmtl2r.serving.blend import Blend
from tfmtl2r.serving.check import METADATA, ExportError
from tfmtl2r.serving.examples import from_rows, merged, requests
from tfmtl2r.serving.session import LoadedExport

TASK_NAMES = [task.name for task in TASKS]
SMALL_SCHEMA = Schema([Dense("price"), Category("brand", vocabulary=("acme",)), Category("shop", buckets=5)])


def served(folder, request):
    with LoadedExport(folder) as loaded:
        return loaded.run("serving_default", request)


def assert_agrees(ranker, folder, tolerance=1e-5, lists=True):
    request = merged(requests(ranker.schema, lists, seed=8))
    answer = served(folder, request)
    for task, scores in predicted(ranker, request).items():
        real = np.isfinite(scores)
        np.testing.assert_allclose(answer[f"score_{task}"][real], scores[real], rtol=0, atol=tolerance)
        assert answer[f"score_{task}"].dtype == np.float32
        assert np.isfinite(answer[f"score_{task}"]).all()


@pytest.mark.product
@pytest.mark.parametrize("request_number", range(3), ids=["2x3", "3x11", "1x1"])
@pytest.mark.parametrize("signature", ["serving_default", "predict_features"])
def test_session_loader_gives_what_predict_gives(exported, request_number, signature):
    request = requests(SCHEMA, seed=4)[request_number]
    answer = exported.run(request, signature)
    expected = predicted(exported.ranker, request)
    valid = np.arange(request["price"].shape[1]) < request["list_size"][:, None]
    read = {"value_buy", "value_dwell", "probability_buy"}
    assert set(answer) == {*(f"score_{task}" for task in TASK_NAMES), *read, "score", "valid"}
    np.testing.assert_array_equal(answer["valid"], valid)
    for task in TASK_NAMES:
        scores = answer[f"score_{task}"]
        np.testing.assert_allclose(scores[valid], expected[task][valid], rtol=0, atol=1e-5)
        assert (scores[~valid] == np.float32(-1e9)).all()
    blend = sum(share * expected[task] for share, task in zip((0.2, 0.6, 0.2), TASK_NAMES, strict=True))
    np.testing.assert_allclose(answer["score"][valid], blend[valid], rtol=0, atol=1e-5)
    assert (answer["score"][~valid] == np.float32(-1e9)).all()
    np.testing.assert_allclose(answer["probability_buy"][valid], 1 / (1 + np.exp(-expected["buy"][valid])), atol=1e-5)
    np.testing.assert_array_equal(answer["value_buy"], answer["probability_buy"])
    np.testing.assert_allclose(answer["value_dwell"][valid], expected["dwell"][valid], rtol=0, atol=1e-5)
    assert all((answer[name][~valid] == 0).all() for name in read)


def test_every_feature_matters(exported):
    request = requests(SCHEMA, seed=4)[1]
    scores = exported.run(request)["score_click"]
    for feature in SCHEMA.features:
        changed = {**request, feature.name: np.roll(request[feature.name], 1, axis=0 if feature.context else 1)}
        assert np.abs(exported.run(changed)["score_click"] - scores).max() > 1e-6, feature.name


def test_merging_as_the_server_does(exported):
    alone = requests(SCHEMA, seed=5)
    together = exported.run(merged(alone))
    start = 0
    for request in alone:
        lists, length = request["price"].shape
        for name, values in exported.run(request).items():
            np.testing.assert_allclose(together[name][start : start + lists, :length], values, rtol=0, atol=1e-5)
            if name != "valid":
                assert (together[name][start : start + lists, length:] == (-1e9 if "score" in name else 0)).all()
        start += lists


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sum", "product", "rank"])
def test_blend_is_chosen_at_export(tmp_path, kind):
    ranker = make_ranker(Schema([Dense("price")]))
    folder = tfmtl2r.export(ranker, tmp_path, blend=Blend({"click": 2.0, "dwell": -0.5}, kind))
    prices = np.float32([[1.0, 2.0, -3.0]])
    answer = served(folder, {"price": prices, "list_size": np.int32([3])})
    click, dwell = answer["score_click"], answer["score_dwell"]
    expected = {
        "sum": 2 * click - 0.5 * dwell,
        "product": -2 * np.log1p(np.exp(-click)) - 0.5 * np.log(np.log1p(np.exp(dwell))),
        "rank": sum(weight / (61 + (score[:, None, :] > score[..., None]).sum(axis=2))
                           for weight, score in ((2, click), (-0.5, dwell))),
    }[kind]
    np.testing.assert_allclose(answer["score"], expected, atol=1e-6)
    metadata = json.loads((folder / METADATA).read_text())
    assert metadata["blend"] == {"click": 2.0, "buy": 0.0, "dwell": -0.5}
    assert metadata["blend_kind"] == kind
    assert ("regress" in metadata["left_out"]) == (kind == "rank")


def test_wrong_blend(tmp_path):
    with pytest.raises(ValueError, match="'clck', which is not a task"):
        tfmtl2r.export(make_ranker(), tmp_path / "export", blend={"clck": 1.0})
    assert not (tmp_path / "export").exists()


def test_a_failing_export_leaves_everything_as_it_was(tmp_path, monkeypatch):
    base = tmp_path / "model"
    (base / "1").mkdir(parents=True)
    (base / "models.config").write_text("as it was")
    monkeypatch.setattr(exporting, "_write_graph", lambda plan, folder: None)
    with pytest.raises(ExportError, match=r"not published(?s:.*)saved_model.pb is missing"):
        tfmtl2r.export(make_ranker(SMALL_SCHEMA, TASKS[:1]), base, lists=False)
    assert sorted(path.name for path in base.iterdir()) == ["1", "models.config"]
    assert (base / "models.config").read_text() == "as it was"


def test_metadata(exported):
    metadata = json.loads((exported.folder / METADATA).read_text())
    assert [task["name"] for task in metadata["tasks"]] == TASK_NAMES
    assert metadata["lists"] is True
    assert metadata["blend"] == pytest.approx({"click": 0.2, "buy": 0.6, "dwell": 0.2})
    assert metadata["inputs"]["vector"] == {"dtype": "float32", "shape": [None, None, 4], "feature": "vector"}
    assert metadata["inputs"]["country"] == {"dtype": "string", "shape": [None], "feature": "country"}
    assert metadata["inputs"]["shop"]["dtype"] == "int64"
    assert metadata["inputs"]["list_size"]["dtype"] == "int32"
    assert metadata["outputs"]["valid"] == {"dtype": "bool", "shape": [None, None]}
    assert metadata["versions"]["tensorflow"] == tf.__version__


@pytest.mark.slow
def test_values_in_another_unit_carry_their_unit_and_the_way_back(tmp_path):
    """A transform that compares a label with others needs a column that an answer does not read."""
    watched, seconds = np.array([2.0, 4, 4, 8, 10, 20, 30, 60]), np.repeat([5.0, 50.0], 4)
    table = Lists({"price": np.arange(8.0), "watched": watched, "seconds": seconds})
    tasks = fit_tasks(table, [
        Task("rank", label="watched", kind="regression", transform={"name": "d2q", "duration": "seconds", "groups": 2}),
        Task("watched", kind="regression", transform="log1p")])
    folder = tfmtl2r.export(make_ranker(Schema([Dense("price")]), tasks), tmp_path, lists=False)
    entries = {task["name"]: task for task in json.loads((folder / METADATA).read_text())["tasks"]}
    assert set(entries["watched"]) == {"name", "kind", "score"}
    assert entries["rank"]["value_unit"] == "a quantile, 0 to 1, among labels of a similar seconds"
    back = transforms.get(entries["rank"]["transform"])
    found = back.back(back.apply(watched, {"seconds": seconds}), {"seconds": seconds})
    np.testing.assert_allclose(found, watched)
    assert "rank (a quantile, 0 to 1," in (tmp_path / "README.md").read_text().replace("\n", " ")


def test_each_weight_is_written_once(exported):
    written = tf.train.list_variables(str(exported.folder / "variables" / "variables"))
    weights = [shape for name, shape in written if name.endswith("VARIABLE_VALUE")]
    assert len(weights) == len(exported.ranker.architecture.variables)


@pytest.mark.slow
def test_training_goes_on_as_without_an_export(tmp_path):
    weights = []
    for exports in (True, False):
        ranker = make_ranker(SMALL_SCHEMA, TASKS[:1])
        ranker.fit(training_data(ranker), verbose=0)
        if exports:
            tfmtl2r.export(ranker, tmp_path)
        ranker.fit(training_data(ranker), verbose=0)
        weights.append(ranker.get_weights())
        if exports:
            assert_agrees(ranker, tfmtl2r.export(ranker, tmp_path))
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_mixed_bfloat16(tmp_path):
    ranker = make_ranker(dtype="mixed_bfloat16")
    assert_agrees(ranker, tfmtl2r.export(ranker, tmp_path), tolerance=2e-2)


@pytest.mark.slow
def test_plain_rows(tmp_path):
    schema = Schema([f for f in SCHEMA.features if not f.context])
    ranker = make_ranker(schema, TASKS[1:])
    request = requests(schema, lists=False, seed=6)[1]
    labels = {"buy": np.ones(15, np.float32), "dwell": np.zeros(15, np.float32)}
    ranker.evaluate(tf.data.Dataset.from_tensor_slices((looked_up(ranker, request), labels)).batch(15), verbose=0)
    table = Lists(request)
    with pytest.raises(ValueError, match="are lists, but the ranker is exported for plain rows"):
        tfmtl2r.export(ranker, tmp_path, rows=rows(schema))
    folder = tfmtl2r.export(ranker, tmp_path, rows=table)
    answer = served(folder, request)
    assert set(answer) == {"score_buy", "score_dwell", "value_buy", "value_dwell", "probability_buy", "score"}
    assert answer["score"].shape == (15,)
    assert set(json.loads((folder / METADATA).read_text())["left_out"]) == {"predict_elwc", "rank"}
    first = next(warmup.read(folder / warmup.WARMUP))
    np.testing.assert_array_equal(first.inputs["price"], from_rows(table, schema, lists=False)[0]["price"])
    assert '"list_size"' not in (tmp_path / "README.md").read_text()
    assert_agrees(ranker, folder, lists=False)
    with pytest.raises(ValueError, match="fitted or evaluated on plain rows"):
        tfmtl2r.export(ranker, tmp_path, lists=True)


@pytest.mark.slow
def test_plain_rows_of_a_ranker_that_does_not_remember(tmp_path):
    folder = tfmtl2r.export(make_ranker(SMALL_SCHEMA, TASKS[1:]), tmp_path, lists=False)
    assert set(json.loads((folder / METADATA).read_text())["inputs"]) == set(SMALL_SCHEMA.names)


@pytest.mark.slow
def test_after_reloading_a_keras_file(tmp_path):
    ranker = make_ranker()
    ranker.save(tmp_path / "model.keras")
    again = tfmtl2r.load(tmp_path / "model.keras")
    folder = tfmtl2r.export(again, tmp_path / "export")
    assert_agrees(again, folder)
    assert_agrees(ranker, folder)


@pytest.mark.slow
def test_trained_on_two_replicas(mirrored, tmp_path):
    strategy = mirrored()
    with strategy.scope():
        ranker = make_ranker(SMALL_SCHEMA, TASKS[:1])
    before = ranker.get_weights()
    ranker.fit(training_data(ranker, batch=6), verbose=0)
    assert any(np.abs(one - other).max() > 0 for one, other in zip(before, ranker.get_weights(), strict=True))
    assert_agrees(ranker, tfmtl2r.export(ranker, tmp_path))


FRESH = """
import sys
import numpy as np
import tensorflow as tf
graph = tf.Graph()
with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
    definition = tf.compat.v1.saved_model.loader.load(session, ["serve"], sys.argv[1]).signature_def["serving_default"]
    request = np.load(sys.argv[2], allow_pickle=True)
    feed = {definition.inputs[name].name: request[name] for name in definition.inputs}
    np.save(sys.argv[3], session.run(definition.outputs["score"].name, feed))
assert not [name for name in sys.modules if name.startswith("tfmtl2r")]
"""


@pytest.mark.slow
def test_in_a_new_process_without_this_library(exported, tmp_path):
    request = requests(SCHEMA, seed=7)[1]
    np.savez(tmp_path / "request.npz", **request)
    arguments = [exported.folder, tmp_path / "request.npz", tmp_path / "score.npy"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", FRESH, *map(str, arguments)], check=True, env=environment, cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "score.npy"), exported.run(request)["score"], atol=1e-6)


@pytest.mark.slow
def test_names_that_tensorflow_cannot_carry(tmp_path, caplog):
    schema = Schema([Dense("BM25 body"), Dense("1", context=True), Category("score", vocabulary=("a",))])
    with caplog.at_level(logging.WARNING, "tfmtl2r"):
        folder = tfmtl2r.export(make_ranker(schema), tmp_path)
    metadata = json.loads((folder / METADATA).read_text())
    names = {name: spec["feature"] for name, spec in metadata["inputs"].items() if name != "list_size"}
    assert names == {"BM25_body": "BM25 body", "feature_1": "1", "feature_score": "score"}
    assert "'BM25 body' is served as the input 'BM25_body'" in caplog.text


def test_models_that_cannot_be_exported(tmp_path):
    with pytest.raises(ValueError, match="does not know its features"):
        tfmtl2r.export(tfmtl2r.MultiTaskRanker("shared_bottom", ["click"]), tmp_path)
    with pytest.raises(ValueError, match="at least one feature per item"):
        tfmtl2r.export(make_ranker(Schema([Dense("age", context=True)])), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_terminal_stays_clean(exported, tmp_path, capfd):
    tfmtl2r.export(exported.ranker, tmp_path)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@pytest.mark.slow
def test_inside_the_scope_of_a_strategy(mirrored, tmp_path):
    strategy = mirrored()
    with strategy.scope():
        ranker = make_ranker(Schema([Dense("price")]))
        folder = tfmtl2r.export(ranker, tmp_path)
    assert_agrees(ranker, folder)
    assert keras.mixed_precision.global_policy().name == "float32"
