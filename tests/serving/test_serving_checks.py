"""Graphs that TensorFlow Serving could not serve are refused, with the reason, and nothing is published."""

import dataclasses

import numpy as np
import pytest
from serving_problem import make_ranker

import tfmtl2r
from tfmtl2r._backend import tf
from tfmtl2r.schema import Dense, Schema
from tfmtl2r.serving import check as checks
from tfmtl2r.serving import export as exporting
from tfmtl2r.serving.check import ExportError
from tfmtl2r.serving.examples import merged, requests
from tfmtl2r.serving.signatures import predict_features

SCHEMA = Schema([Dense("price")])
TASKS = ("click", "dwell")


class Changed(tfmtl2r.MultiTaskRanker):
    """A ranker whose scores go through ``change``."""

    def call(self, inputs, training=False):
        scores = super().call(inputs, training=training)
        return {task: self.change(score) for task, score in scores.items()}


class PythonCode(Changed):
    def change(self, score):
        return tf.py_function(lambda s: s + 1.0, [score], tf.float32)


class NumpyCode(Changed):
    def change(self, score):
        return tf.numpy_function(lambda s: s + np.float32(1.0), [score], tf.float32)


class Noise(Changed):
    def change(self, score):
        return score + tf.random.uniform(tf.shape(score))


class HiddenNoise(Changed):
    def change(self, score):
        return tf.cond(tf.size(score) > 0, lambda: score + tf.random.normal(tf.shape(score)), lambda: score)


class Compiled(Changed):
    def change(self, score):
        return tf.function(lambda s: s * 2.0, jit_compile=True)(score)


class SeesPadding(Changed):
    def change(self, score):
        return score - tf.reduce_mean(score, axis=1, keepdims=True)


class NotFinite(Changed):
    def change(self, score):
        return score / 0.0


class FixedShape(Changed):
    def change(self, score):
        return tf.reshape(score, [6, 11])


class WantsElevenItems(Changed):
    def change(self, score):
        with tf.control_dependencies([tf.debugging.assert_greater_equal(tf.shape(score)[1], 11, message="too short")]):
            return tf.identity(score)


@pytest.mark.parametrize(("cls", "reason"), [
    (PythonCode, "EagerPyFunc runs Python code"),
    (NumpyCode, "PyFunc runs Python code"),
    (Noise, "RandomUniform draws random numbers"),
    (HiddenNoise, "RandomStandardNormal draws random numbers"),
    (Compiled, "must be compiled with XLA"),
    (SeesPadding, "the same merged with others"),
    (NotFinite, "not finite.*learning rate"),
    (FixedShape, r"'score' should be float32\(None, None\), but is float32\(6, 11\)"),
    (WantsElevenItems, "cannot run: .*too short"),
])
def test_refused(tmp_path, cls, reason):
    older = tmp_path / "1"
    older.mkdir()
    (older / "saved_model.pb").write_bytes(b"older")
    with pytest.raises(ExportError, match=reason):
        tfmtl2r.export(make_ranker(SCHEMA, TASKS, cls=cls), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert (older / "saved_model.pb").read_bytes() == b"older"


def test_saved_model_save_is_refused(tmp_path, monkeypatch):
    """The way that loads in Python and fails in the server."""
    ranker = make_ranker(SCHEMA, TASKS)

    def saved_by_hand(signatures, folder):
        module = tf.Module()
        module.model = ranker
        module.tables = [holder for signature in signatures.values() for holder in signature.tracked]
        functions = {name: signature.function.get_concrete_function() for name, signature in signatures.items()}
        tf.saved_model.save(module, str(folder), signatures=functions)
        tf.saved_model.load(str(folder))

    monkeypatch.setattr(exporting, "_write_graph", saved_by_hand)
    with pytest.raises(ExportError, match="cannot run: Could not find variable"):
        tfmtl2r.export(ranker, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_write_graph", lambda signatures, folder: None)
    with pytest.raises(ExportError, match="session loader refused it"):
        tfmtl2r.export(make_ranker(SCHEMA, TASKS), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def subject(exported):
    blend = {"click": 0.2, "buy": 0.6, "dwell": 0.2}
    signature = predict_features(exported.ranker, blend, True)
    examples = requests(exported.ranker.features)
    predicted = exporting._predicted(exported.ranker, signature, blend, merged(examples))
    return checks.Subject(exported.loaded, {"serving_default": signature}, examples, predicted, 1e-5)


def test_a_sound_export_passes(subject):
    checks.check(subject)


def test_other_weights_are_noticed(subject):
    other = {**subject.predicted, "score_click": subject.predicted["score_click"] + np.float32(1e-3)}
    with pytest.raises(ExportError, match=r"'score_click' is off from model.predict by up to 0.001 \(allowed: 1e-05\)"):
        checks.check(dataclasses.replace(subject, predicted=other))


def test_other_signatures_are_noticed(subject):
    signature = subject.signatures["serving_default"]
    planned = {
        "serving_default": dataclasses.replace(
            signature,
            inputs={**signature.inputs, "price": tf.TensorSpec([None, 5], tf.float64)},
            outputs={**signature.outputs, "extra": tf.TensorSpec([None], tf.float32)},
        ),
        "classify": signature,
    }
    reasons = list(checks.signatures_as_planned(dataclasses.replace(subject, signatures=planned)))
    assert [r for r in reasons if "input 'price' should be float64(None, 5), but is float32(None, None)" in r]
    assert [r for r in reasons if "output 'extra' should be float32(None,), but is missing" in r]
    assert [r for r in reasons if "'classify' is missing" in r]
    assert len(reasons) == 3


def test_differences():
    def reasons(found, expected):
        return list(checks.differences("a", "b", {"score": np.float32(found)}, {"score": np.float32(expected)}, 1e-5))

    assert not reasons([1e5 + 0.5, -1e9], [1e5, -1e9])  # relative to the largest real score
    assert reasons([0.5, -1e9], [0.0, -1e9])  # and not to the filling
    assert reasons([0.0, 5.0], [0.0, -1e9])
    assert "not finite" in reasons([np.nan], [0.0])[0]
    assert "not finite" in reasons([np.inf], [0.0])[0]
    assert "shape" in reasons([0.0], [0.0, 1.0])[0]
    assert "off from b" in reasons([0.0], [np.nan])[0]
    assert "off from b" in reasons([0.0], [np.inf])[0]
    assert "missing" in next(iter(checks.differences("a", "b", {}, {"score": np.zeros(1)}, 1e-5)))
