"""Calibration of a ranker: metrics of levels everywhere, tasks without a level, calibrators in files and exports."""

import copy

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import tfmtl2r
from tfmtl2r import Dense, Experiment, MultiTaskRanker, Schema, Task, calibrators, datasets, metrics
from tfmtl2r._backend import keras
from tfmtl2r.commands.evaluate import main
from tfmtl2r.data import Lists, batches
from tfmtl2r.evaluation import evaluate
from tfmtl2r.evaluation.calibration import fit_calibrators, reliability
from tfmtl2r.evaluation.file_scores import item_scores
from tfmtl2r.evaluation.scoring import described, score, score_slices
from tfmtl2r.evaluation.slices import slicing
from tfmtl2r.evaluation.stopping import check_stop_on
from tfmtl2r.report.tables import results_table, slice_tables
from tfmtl2r.serving.onnx import export_onnx
from tfmtl2r.serving.session import LoadedExport
from tfmtl2r.settings.files import load
from tfmtl2r.training.merged import Merged

SMALL = {"name": "shared_bottom", "units": (4,), "head_units": ()}
LEVELS = ("auc", "ece", "normalised_entropy", "calibration_ratio")
X = Schema([Dense("x")])


def lists(number=200, seed=0):
    """Lists of five items whose clicks depend on x, some of them missing."""
    random = np.random.default_rng(seed)
    x = random.normal(size=5 * number)
    click = (random.random(x.size) < 1 / (1 + np.exp(1 - 2 * x))).astype(float)
    click[random.random(x.size) < 0.1] = np.nan
    click[:3] = -1
    return Lists({"x": x, "click": click, "w": random.integers(0, 4, x.size).astype(float),
                  "device": np.repeat(random.integers(0, 2, number), 5), "dwell": np.exp(x)},
                 offsets=np.arange(0, x.size + 1, 5))


LISTS = lists()


def ranker_of(*tasks, epochs=2, **options):
    keras.utils.set_random_seed(0)
    ranker = MultiTaskRanker(SMALL, tasks, X, has_lists=True, **options)
    ranker.compile(keras.optimizers.Adam(0.05), train_metrics=False)
    ranker.fit(batches(LISTS, tasks, X, batch_size=64), epochs=epochs, verbose=0)
    return ranker


@pytest.fixture(scope="module")
def trained():
    return ranker_of(Task("click", kind="binary", loss="bce", metrics=LEVELS, weight_column="w"),
                     Task("dwell", kind="regression", metrics=("mse", "calibration_ratio")))


def test_metrics_of_levels_read_probabilities_everywhere(trained):
    """In training, in reports and in slices: weighted, without missing labels, and of sigmoid(score)."""
    p = 1 / (1 + np.exp(-trained.predict(batches(LISTS, (), X), layout="items")["click"]))
    y, w, device = (LISTS.columns[name] for name in ("click", "w", "device"))
    known = y >= 0
    expected = {name: metrics.get(name).exact(y[known], p[known], w[known]) for name in LEVELS[1:]}
    found = score(trained, LISTS)["click"]
    logs = trained.evaluate(batches(LISTS, trained.tasks, X), return_dict=True, verbose=0)
    slices = score_slices(trained, LISTS, [slicing(LISTS, "device")])["device"]
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, rel=1e-4)
        assert logs[f"click_{name}"] == pytest.approx(value, rel=1e-4)
        part = known & (device == 1)
        in_part = slices["slices"]["1"]["results"]["click"][name]
        assert in_part["value"] == pytest.approx(metrics.get(name).exact(y[part], p[part], w[part]), rel=1e-4)
        if name != "calibration_ratio":
            calibrated = metrics.get(name).if_calibrated()
            assert in_part["if_calibrated"] == pytest.approx(calibrated.exact(y[part], p[part], w[part]), rel=1e-4)
    dwell = np.asarray(trained.values(trained.predict(batches(LISTS, (), X), layout="items"))["dwell"])
    assert score(trained, LISTS)["dwell"]["calibration_ratio"].value == pytest.approx(
        dwell.sum() / LISTS.columns["dwell"].sum(), rel=1e-4)


def test_tables_show_what_a_calibrated_model_would_show(trained, capsys):
    results = {"mine": described(score(trained, LISTS)), "other": described(score(trained, LISTS))}
    console = Console(width=200)
    console.print(results_table(results, "test"))
    for table in slice_tables(score_slices(trained, LISTS, [slicing(LISTS, "device")])["device"], "device", 200):
        console.print(table)
    text, ece = capsys.readouterr().out, results["mine"]["click"]["ece"]
    assert f"{ece['value']:.4f} ({ece['if_calibrated']:.4f})" in text
    assert text.count("(0.") >= 2 * 2 + 2 * 2


@pytest.mark.parametrize(("task", "message"), [
    (Task("click", kind="binary", metrics=("ece",)), "ece reads probabilities, but the scores of the loss Softmax are"),
    (Task("click", kind="binary", loss="mse", metrics=("normalised_entropy",)), "of the loss MSE are none"),
    (Task("click", metrics=("ece",), loss="bce"), "of a label of 0 or 1, but the task is graded"),
    (Task("dwell", kind="regression", loss="pairwise_mse", metrics=("calibration_ratio",)),
     "calibration_ratio reads values in the label's unit, .* such as 'mse'"),
])
def test_a_task_without_a_level_is_refused_before_training(task, message):
    with pytest.raises(ValueError, match=message):
        MultiTaskRanker(SMALL, [task], X, has_lists=True)
    ranker = MultiTaskRanker(SMALL, [task], X)  # the data decide whether there are lists
    ranker.compile()
    with pytest.raises(ValueError, match=message):
        ranker.fit(batches(LISTS, [task], X), verbose=0)


def test_a_ranking_without_values_has_no_metric_of_levels():
    task = Task("click", kind="binary", metrics=LEVELS)
    scores = {"click": np.random.default_rng(0).normal(size=LISTS.num_items)}
    assert list(evaluate(scores, LISTS, [task])["click"]) == ["auc"]
    levels = {"click": np.full(LISTS.num_items, 0.5)}
    assert list(evaluate(scores, LISTS, [task], levels=levels)["click"]) == list(LEVELS)


@pytest.mark.parametrize(("names", "stop_on", "message"), [
    (("ece", "auc"), None, "ece of click has none: the base rate"),
    (("calibration_ratio",), None, "calibration_ratio of click has none"),
    (("auc", "calibration_ratio"), "val_click_calibration_ratio", "which has no better side"),
])
def test_early_stopping_needs_a_better_side(names, stop_on, message):
    ranker = MultiTaskRanker(SMALL, [Task("click", kind="binary", loss="bce", metrics=names)], X, has_lists=True)
    ranker.compile()
    with pytest.raises(ValueError, match=message):
        check_stop_on(ranker, LISTS, stop_on)
    check_stop_on(ranker, LISTS, f"val_click_{names[0]}" if names[0] == "ece" else "val_click_loss")


def calibrated_ranker(loss, kind, **options):
    task = Task("click", kind="binary", loss=loss, metrics=("ndcg@5", *LEVELS[1:]), calibration=kind)
    return ranker_of(task, epochs=4, **options)


VALI = lists(400, seed=1)


@pytest.fixture(scope="module", params=[("softmax", "platt"), ("bce", {"name": "isotonic", "points": 64})])
def calibrated(request):
    ranker = calibrated_ranker(*request.param)
    before = ranker.predict(batches(VALI, (), X), layout="items")["click"]
    values = ranker.values({"click": before})
    fit_calibrators(ranker, VALI)
    return ranker, before, values


def test_values_are_calibrated_and_scores_stay(calibrated):
    ranker, scores, before = calibrated
    np.testing.assert_array_equal(ranker.predict(batches(VALI, (), X), layout="items")["click"], scores)
    has_level = ranker.readings()["click"].has_own_level
    assert list(before) == ["click"] * has_level
    values, y = np.asarray(ranker.values({"click": scores})["click"]), VALI.columns["click"]
    known = y >= 0
    assert values[known].mean() == pytest.approx(y[known].mean(), abs=0.01)
    results = score(ranker, VALI)["click"]
    assert results["ece"].value < results["ece"].if_calibrated + 0.03
    assert results["ece"].value == pytest.approx(metrics.get("ece").exact(y, values), rel=1e-4)
    logs = ranker.evaluate(batches(VALI, ranker.tasks, X), return_dict=True, verbose=0)  # a graph from before the fit
    assert logs["click_ece"] == pytest.approx(results["ece"].value, rel=1e-3)
    frame = ranker.predict(pd.DataFrame({"x": VALI.columns["x"][:10], "q": np.arange(10) // 5}), list_id="q")
    np.testing.assert_allclose(frame["value_click"], values[:10], rtol=1e-5)


def test_files_copies_and_trainings_know_what_is_fitted(calibrated, tmp_path):
    ranker, scores, _ = calibrated
    expected = np.asarray(ranker.values({"click": scores})["click"])
    ranker.save(tmp_path / "model.keras")
    for again in (tfmtl2r.load(tmp_path / "model.keras"), copy.deepcopy(ranker)):
        np.testing.assert_array_equal(again.values({"click": scores})["click"], expected)
    again.fit(batches(LISTS, again.tasks, X, batch_size=64), verbose=0)  # the fit was that of other weights
    assert not again.calibrations.by_task["click"].is_fitted
    answers = item_scores(ranker, VALI)
    np.testing.assert_allclose(answers["value_click"], expected, rtol=1e-5)
    np.testing.assert_array_equal(answers["value_click"], answers["probability_click"])
    np.testing.assert_allclose(answers["score_click"], scores, rtol=1e-5)


def test_reliability_is_the_mean_label_of_each_bin(calibrated):
    ranker, scores, _ = calibrated
    found = reliability(ranker, VALI, bins=4)["click"]
    values, y = np.asarray(ranker.values({"click": scores})["click"], float), VALI.columns["click"]
    order = np.argsort(values[y >= 0], kind="stable")
    assert (np.diff(found["probability"]) > 0).all()
    assert len(found["label"]) <= 4
    lowest = order[:len(order) // 4]
    assert found["probability"][0] == pytest.approx(values[y >= 0][lowest].mean(), abs=0.1)
    assert found["ece"] == metrics.get("ece", bins=4).exact(y, np.asarray(ranker.values({"click": scores})["click"]))
    both = reliability(Merged([ranker, ranker]), VALI, bins=4)["click"]
    np.testing.assert_allclose(both["label"][:2], found["label"][:2], atol=0.02)
    assert reliability(MultiTaskRanker(SMALL, [Task("click", kind="binary")], X, has_lists=True), VALI) == {}


@pytest.mark.slow
def test_an_export_contains_the_calibration(calibrated, tmp_path):
    ranker, scores, _ = calibrated
    version = tfmtl2r.export(ranker, tmp_path / "served", rows=VALI)
    request = {"x": VALI.columns["x"][:10].astype(np.float32).reshape(2, 5), "list_size": np.array([5, 5], np.int32)}
    expected = np.asarray(ranker.values({"click": scores[:10]})["click"])
    with LoadedExport(version) as loaded:
        answer = loaded.run("serving_default", request)
    np.testing.assert_allclose(answer["value_click"].ravel(), expected, rtol=1e-4)
    np.testing.assert_array_equal(answer["value_click"], answer["probability_click"])
    np.testing.assert_allclose(answer["score_click"].ravel(), scores[:10], rtol=1e-4)
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    session = onnxruntime.InferenceSession(export_onnx(version, tmp_path / "ranker.onnx"),
                                           providers=["CPUExecutionProvider"])
    found = dict(zip([one.name for one in session.get_outputs()], session.run(None, request), strict=True))
    np.testing.assert_allclose(found["value_click"].ravel(), expected, rtol=1e-4)


def test_what_cannot_be_calibrated_is_left_with_a_warning(calibrated, caplog):
    """A fit that is there goes; a task without a level of its own then has no value, and no metric of levels."""
    ranker, _, before = calibrated
    ranker, own = copy.deepcopy(ranker), list(before)
    fit_calibrators(ranker, VALI.with_column("click", np.ones(VALI.num_items)))
    left = "its values are those of its loss" if own else "it has no values"
    assert f"task click is not calibrated, and {left}: on the validation split, all 2000 labels are 1" in caplog.text
    assert list(ranker.values({"click": np.float32([0.0, 1.0])})) == own
    assert np.isfinite(score(ranker, VALI)["click"]["ece"].value) == bool(own)
    assert ("value_click" in item_scores(ranker, VALI)) == bool(own)


def test_only_binary_tasks_are_calibrated():
    with pytest.raises(ValueError, match="makes probabilities of a label of 0 or 1, but the task is graded"):
        MultiTaskRanker(SMALL, [Task("click", calibration="platt")], X)
    with pytest.raises(ValueError, match="no calibrator is called 'plat'; did you mean 'platt'"):
        MultiTaskRanker(SMALL, [Task("click", kind="binary", calibration="plat")], X)
    ranker = MultiTaskRanker(SMALL, [Task("click", calibration="none")], X)
    assert ranker.calibrations is None


def experiment(folder, name="first", **options):
    return Experiment(name=name, directory=str(folder), tasks=[
        {"name": "click", "kind": "binary"}, {"name": "again", "label": "click", "kind": "binary", "loss": "bce",
                                              "calibration": "none"}, {"name": "dwell", "kind": "regression"}],
        architecture=SMALL, features=["x"], data={"files": str(folder / "log.csv"), "list_id": "q"},
        training={"epochs": 3, "telemetry_every": 0}, optimizer={"learning_rate": 0.1}, **options)


@pytest.mark.slow
def test_an_experiment_fits_on_vali_and_starts_again_without_the_fit(tmp_path, capsys, looked_at):
    frame = pd.DataFrame({**LISTS.columns, "q": np.arange(LISTS.num_items) // 5}).drop(columns=["w", "device"])
    frame.to_csv(tmp_path / "log.csv", index=False)
    ranker, card = experiment(tmp_path, calibration="platt").run(verbose=0)
    assert list(ranker.calibrations.by_task) == ["click"]
    main(["first", "--directory", str(tmp_path), "--reliability", str(tmp_path / "curve.png")])
    looked_at(tmp_path / "curve.png")
    with pytest.raises(ValueError, match=r"is a PNG file, whose name ends in \.png, not 'curve\.pdf'"):
        main(["first", "--directory", str(tmp_path), "--reliability", "curve.pdf"])
    assert "curve.png" in capsys.readouterr().out
    assert ranker.calibrations.by_task["click"].is_fitted
    assert card.config["calibration"] == {"kind": "platt"}
    again = Experiment.of(load(tmp_path / "first" / "experiment.toml"))
    assert again.calibration.kind == "platt"
    vali = again.dataset().lists("vali")
    scores = ranker.predict(batches(vali, (), ranker.schema), layout="items")["click"]
    expected = calibrators.get("platt").fit(scores, vali.columns["click"])
    np.testing.assert_allclose(ranker.calibrations.by_task["click"].numbers, expected, rtol=1e-4)
    warm = experiment(tmp_path, "second", calibration={"kind": {"name": "isotonic", "points": 20}},
                      start={"from": "first"})
    started = warm.model(warm.dataset())
    assert started.tasks[0].calibration == {"name": "isotonic", "points": 20}
    assert not started.calibrations.by_task["click"].is_fitted
    with pytest.raises(ValueError, match=r"calibration\.kind calibrates binary tasks, and there are none"):
        Experiment(name="x", data="mslr", calibration="platt").select(FakeGraded())


class FakeGraded(datasets.DataSet):
    """A data set of a graded task, which nobody reads."""

    def tasks(self):
        return (Task("relevance"),)
