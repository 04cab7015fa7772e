"""Exports that TensorFlow Serving could not serve are refused, with the reason, and nothing is published."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from serving_problem import make_ranker
from tensorflow.core.protobuf import saved_model_pb2

import tfmtl2r
from tfmtl2r import Dense, Schema, cli
from tfmtl2r._backend import tf
from tfmtl2r.serving import check as checks
from tfmtl2r.serving import export as exporting
from tfmtl2r.serving import warmup
from tfmtl2r.serving.answers import Answers
from tfmtl2r.serving.blend import Blend
from tfmtl2r.serving.check import METADATA, ExportError, check, problems
from tfmtl2r.serving.differences import differences
from tfmtl2r.serving.signatures import Plan
from tfmtl2r.serving.warmup import WARMUP
from tfmtl2r.task import LabelStatistics
from tfmtl2r.training.readings import readings_of

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


SLOW = pytest.mark.slow


@pytest.mark.parametrize(("cls", "reason"), [
    (PythonCode, "EagerPyFunc runs Python code"),
    pytest.param(NumpyCode, "PyFunc runs Python code", marks=SLOW),
    pytest.param(Noise, "RandomUniform draws random numbers", marks=SLOW),
    pytest.param(HiddenNoise, "RandomStandardNormal draws random numbers", marks=SLOW),
    (Compiled, "must be compiled with XLA"),
    pytest.param(SeesPadding, "the same merged with others", marks=SLOW),
    pytest.param(NotFinite, "not finite.*learning rate", marks=SLOW),
    pytest.param(FixedShape, "model.predict cannot score a request of the shapes.*reshape", marks=SLOW),
    pytest.param(WantsElevenItems, "model.predict cannot score.*too short", marks=SLOW),
])
def test_refused(tmp_path, monkeypatch, cls, reason):
    older = tmp_path / "1"
    older.mkdir()
    (older / "saved_model.pb").write_bytes(b"older")
    monkeypatch.setattr(exporting, "planned", raw_only)
    with pytest.raises(ExportError, match=f"not published(?s:.*){reason}"):
        tfmtl2r.export(make_ranker(SCHEMA, TASKS, cls=cls), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert (older / "saved_model.pb").read_bytes() == b"older"


def raw_only(model, blend, lists, planned=exporting.planned):
    """Two signatures instead of seven, since every graph is traced, written and loaded."""
    plan = planned(model, blend, lists)
    kept = {name: plan.signatures[name] for name in ("serving_default", "regress")}
    return Plan(kept, plan.names, plan.left_out, plan.lookup)


@pytest.mark.slow
def test_saved_model_save_is_refused(tmp_path, monkeypatch):
    """The way that loads in Python and fails in the server."""
    ranker = make_ranker(SCHEMA, TASKS)

    def saved_by_hand(plan, folder):
        module = tf.Module()
        module.model, module.tables = ranker.architecture, plan.lookup  # a ranker itself refuses
        functions = {name: signature.function for name, signature in plan.signatures.items()}
        tf.saved_model.save(module, str(folder), signatures=functions)
        tf.saved_model.load(str(folder))
        exporting._name_methods(plan, folder)

    monkeypatch.setattr(exporting, "_write_graph", saved_by_hand)
    monkeypatch.setattr(exporting, "planned", raw_only)
    with pytest.raises(ExportError, match="cannot run: Could not find variable"):
        tfmtl2r.export(ranker, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def copied(exported, tmp_path):
    """A copy of a sound export, to be spoilt."""
    shutil.copytree(exported.folder, tmp_path / "model" / "7")
    return tmp_path / "model" / "7"


def spoil_metadata(folder, change):
    path = folder / METADATA
    metadata = json.loads(path.read_text())
    change(metadata)
    path.write_text(json.dumps(metadata))


def test_a_sound_export_passes(copied, capsys):
    (copied.parent / "3").mkdir()
    assert check(copied) == copied
    assert cli.main(["export-check", str(copied.parent)]) == 0
    assert capsys.readouterr().out == f"passed: {copied}\n"


@pytest.mark.parametrize(("spoil", "reason"), [
    (lambda folder: (folder / "saved_model.pb").unlink(), "saved_model.pb is missing"),
    (lambda folder: (folder / "variables/variables.index").unlink(), "variables.index is missing"),
    (lambda folder: (folder / METADATA).unlink(), "tfmtl2r.json is missing.*tfmtl2r did not write it"),
    (lambda folder: (folder / WARMUP).unlink(), "tf_serving_warmup_requests is missing"),
    (lambda folder: (folder / METADATA).write_text("{"), "tfmtl2r.json.*cannot be read"),
    (lambda folder: (folder / METADATA).write_text("{}"), "an older tfmtl2r wrote it; export again"),
    (lambda folder: (folder / WARMUP).write_bytes(b"\x1f\x8b" + b"zipped" * 9), "warmup_requests cannot be read"),
    (lambda folder: (folder / "saved_model.pb").write_bytes(b"broken"), "session loader refused the export"),
    (lambda folder: (folder / "variables/variables.data-00000-of-00001").unlink(), "session loader refused the export"),
], ids=range(9))
def test_files(copied, spoil, reason, capsys):
    spoil(copied)
    assert cli.main(["export-check", str(copied.parent)]) == 1
    said = capsys.readouterr().err
    assert f"TensorFlow Serving could not serve {copied} correctly" in said
    with pytest.raises(ExportError, match=reason):
        check(copied.parent)


def spoil_graph(folder, change):
    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    change(model.meta_graphs[0])
    path.write_bytes(model.SerializeToString())


def unknown_input(graph):
    next(node for node in graph.graph_def.node if node.op == "Const").input.append("nowhere")


def output_without_a_tensor(graph):
    graph.signature_def["rank"].outputs["score"].composite_tensor.type_spec.type_spec_class = 1


def output_that_is_nowhere(graph):
    graph.signature_def["rank"].outputs["score"].name = "nowhere:0"


@pytest.mark.parametrize(("spoil", "reason"), [
    (lambda folder: spoil_graph(folder, unknown_input), "session loader refused the export"),
    (lambda folder: spoil_graph(folder, output_without_a_tensor), "'rank': 'score' is no dense tensor"),
    (lambda folder: spoil_graph(folder, output_that_is_nowhere), "'rank': 'score' refers to 'nowhere:0', which is"),
    (lambda folder: spoil_metadata(folder, lambda m: m["signatures"]["rank"].pop("method")), "lacks signatures"),
    (lambda folder: spoil_metadata(folder, lambda m: m["signatures"]["rank"].update(inputs=3)), "lacks signatures"),
    (lambda folder: spoil_metadata(folder, lambda m: m.update(tolerance="x")), "lacks signatures"),
    (lambda folder: (folder / METADATA).write_text("3"), "the content must be a table, not 3"),
], ids=range(7))
def test_damage_is_a_reason_and_no_crash(copied, spoil, reason):
    spoil(copied)
    assert [found for found in problems(copied) if reason in found]


@pytest.mark.slow
def test_a_version_that_is_out_stays_out(tmp_path, monkeypatch, caplog):
    """What cannot be written beside it is a warning: the version may be served already."""
    (tmp_path / "README.md").mkdir()
    monkeypatch.setattr(exporting, "planned", raw_only)
    assert tfmtl2r.export(make_ranker(SCHEMA, TASKS), tmp_path).is_dir()
    assert "is published, but a file beside it could not be written" in caplog.text


def test_the_highest_number_is_checked_finished_or_not(copied, capsys):
    (copied.parent / "12").mkdir()
    assert cli.main(["export-check", str(copied.parent)]) == 1
    assert "saved_model.pb is missing" in capsys.readouterr().err
    assert cli.main(["export-check", str(copied.parent / "nowhere")]) == 1
    assert "does not exist" in capsys.readouterr().err
    named = copied.rename(copied.parent / "v7")
    assert "the folder is called 'v7'" in problems(named)[0]


@pytest.fixture
def subject(exported):
    metadata = json.loads((exported.folder / METADATA).read_text())
    return checks.Subject(exported.loaded, metadata, list(warmup.read(exported.folder / WARMUP)))


def test_signatures_other_than_planned(subject):
    signatures = json.loads(json.dumps(subject.metadata["signatures"]))
    signatures["predict_features"]["inputs"]["price"] = {"dtype": "float64", "shape": [None, 5]}
    signatures["rank"]["outputs"]["extra"] = {"dtype": "float32", "shape": [None]}
    signatures["regress"]["method"] = "tensorflow/serving/predict"
    signatures["more"] = signatures.pop("classify")
    metadata = {**subject.metadata, "signatures": signatures}
    reasons = list(checks.signatures_as_planned(dataclasses.replace(subject, metadata=metadata)))
    for reason in ("'predict_features': input 'price' should be float64(None, 5), but is float32(None, None)",
                   "'rank': output 'extra' should be float32(None,), but is missing",
                   "'regress': the method should be 'tensorflow/serving/predict', but is 'tensorflow/serving/regress'",
                   "'more' is missing", "'classify' is not planned"):
        assert [r for r in reasons if reason in r], reason
    assert len(reasons) == 5


class Altered:
    """An opened export whose definition was changed in one place."""

    def __init__(self, export, change):
        self.meta_graph = type(export.meta_graph)()
        self.meta_graph.CopyFrom(export.meta_graph)
        change(self.meta_graph.signature_def)


def half_scores(definitions):
    definitions["rank"].outputs["score"].dtype = tf.float16.as_datatype_enum


def fixed_batch(definitions):
    definitions["rank"].inputs["price"].tensor_shape.dim[0].size = 4


def scalar(definitions):
    definitions["rank"].outputs["score"].tensor_shape.ClearField("dim")


def sparse(definitions):
    definitions["rank"].inputs["price"].coo_sparse.values_tensor_name = "x"


def two_outputs(definitions):
    definitions["regress"].outputs["more"].CopyFrom(definitions["regress"].outputs["outputs"])


@pytest.mark.parametrize(("change", "reason"), [
    (half_scores, "'score' is float16, which the server cannot write"),
    (fixed_batch, "'price' has the shape \\[4, None\\]; its first axis must be open"),
    (scalar, "'score' has the shape \\[\\]; its first axis must be open"),
    (sparse, "'price' is no dense tensor"),
    (two_outputs, "'tensorflow/serving/regress' cannot have the inputs and outputs"),
])
def test_signatures_that_the_server_cannot_batch(subject, change, reason):
    assert not list(checks.batchable_signatures(subject))
    altered = dataclasses.replace(subject, export=Altered(subject.export, change))
    (found,) = checks.batchable_signatures(altered)
    assert re.search(reason, found)


def test_warmup_that_the_server_refuses(subject):
    records = [record for record in subject.records if record.signature != "rank"]
    records.append(dataclasses.replace(records[0], signature="gone"))
    reasons = list(checks.warmup_covers(dataclasses.replace(subject, records=records)))
    assert [r for r in reasons if "no record for 'rank'" in r]
    assert [r for r in reasons if "a record for 'gone', which is no signature" in r]
    assert len(reasons) == 2
    (reason,) = checks.warmup_covers(dataclasses.replace(subject, records=subject.records * 40))
    assert "with more than 1000" in reason


def test_other_answers_are_noticed(subject):
    for name, output in [("predict_features", "score_click"), ("regress", "outputs"), ("classify", "scores")]:
        record = next(record for record in subject.records if record.signature == name)
        outputs = {**record.outputs, output: record.outputs[output] + np.float32(1e-3)}
        spoilt = dataclasses.replace(subject, records=[dataclasses.replace(record, outputs=outputs)])
        (reason,) = checks.replays_warmup(spoilt)
        assert f"signature {name!r}, warm-up record 0: {output!r} is off from model.predict by up to 0.001" in reason


class PadsWithZero:
    """An opened export that answers a merged request as one that takes its lists for longer than they are."""

    def __init__(self, export):
        self.meta_graph, self._export = export.meta_graph, export

    def run(self, signature, inputs):
        if "list_size" in inputs and len(inputs["list_size"]) > 3:
            inputs = {**inputs, "list_size": np.full_like(inputs["list_size"], inputs["price"].shape[1])}
        return self._export.run(signature, inputs)


def test_answers_that_depend_on_other_requests_are_noticed(subject):
    assert not list(checks.ignores_padding(subject))
    reasons = list(checks.ignores_padding(dataclasses.replace(subject, export=PadsWithZero(subject.export))))
    assert {r.split(",")[0] for r in reasons} == {
        f"signature {name!r}" for name in ("serving_default", "predict_features", "predict_blended",
                                           "predict_preferred", "rank")}
    assert all("the same merged with others" in reason for reason in reasons)


def test_differences():
    def reasons(found, expected):
        return list(differences("a", "b", {"score": np.float32(found)}, {"score": np.float32(expected)}, 1e-5))

    assert not reasons([1e5 + 0.5, -1e9], [1e5, -1e9])  # relative to the largest real score
    assert reasons([0.5, -1e9], [0.0, -1e9])  # and not to the filling
    assert reasons([0.0, 5.0], [0.0, -1e9])
    assert "not finite" in reasons([np.nan], [0.0])[0]
    assert "not finite" in reasons([np.inf], [0.0])[0]
    assert "shape" in reasons([0.0], [0.0, 1.0])[0]
    assert "off from b" in reasons([0.0], [np.nan])[0]
    assert "off from b" in reasons([0.0], [np.inf])[0]
    assert "missing" in next(iter(differences("a", "b", {}, {"score": np.zeros(1)}, 1e-5)))
    assert "not expected" in next(iter(differences("a", "b", {"score": np.zeros(1)}, {}, 1e-5)))


@pytest.mark.parametrize(("transform", "mean", "sd"), [("log1p", 2.0, 4.0), (None, 0.0, 1e4), ("log1p", 0.1, 0.1)])
def test_an_allowed_error_of_a_score_is_allowed_in_its_value(transform, mean, sd):
    task = tfmtl2r.Task("dwell", kind="regression", transform=transform, statistics=LabelStatistics(mean, sd))
    answers = Answers((task,), Blend({"dwell": 1.0}), True, readings_of([task], True))

    def answer(scores):
        found = answers.scores({"dwell": tf.constant(scores)}, tf.constant([[True, True, False]]), {})
        return {name: value.numpy() for name, value in found.items()}

    scores = np.float32([[1e-4, -2e-4 if transform is None else 3.0, np.nan]])
    expected = answer(scores)
    factors = exporting.factors(expected, answer(next(exporting.moved({"dwell": scores}, 1e-5))["dwell"]), 1e-5)
    assert set(factors) == {"score", "value_dwell"}
    found = answer(scores + np.float32(9e-6))
    assert not list(differences("a", "b", found, expected, 1e-5, factors))
    assert bool(list(differences("a", "b", found, expected, 1e-5))) is (sd > 1)
    assert list(differences("a", "b", answer(scores + np.float32(1e-3)), expected, 1e-5, factors))


def test_differences_of_rankings():
    expected = {"indices": np.array([[2, 0, 1, 3, -1]]), "ids": np.array([[b"c", b"a", b"b", b"d", b""]], object),
                "score": np.float32([[4, 2, 2, 1, -1e9]]), "valid": np.array([[True] * 4 + [False]])}

    def reasons(**changes):
        return list(differences("a", "b", {**expected, **changes}, expected, 1e-5))

    assert not reasons()
    assert not reasons(indices=np.array([[2, 1, 0, 3, -1]])), "items that tie may change places"
    assert not reasons(indices=np.array([[2, 0, 1, 4, -1]])), "the last may tie with one that is not shown"
    (reason,) = reasons(indices=np.array([[1, 0, 1, 3, -1]]))
    assert "'indices' differs from b in 1 of 5 places, such as (0, 0)" in reason
    assert "'ids'" in reasons(ids=np.array([[b"x", b"a", b"b", b"d", b""]], object))[0]
    assert "'indices'" in reasons(indices=np.array([[2, 0, 1, 3, 0]]))[0], "padding ties with nothing"
    assert "'valid'" in reasons(valid=np.array([[True] * 5]))[0]


def test_answers_that_are_not_finite_have_no_factor():
    """Their comparison refuses them; no warning comes before."""
    bad = {"value_dwell": np.float32([[np.inf, np.nan]])}
    assert exporting.factors(bad, bad, 1e-5) == {}
