"""What labels and scores mean: standardised targets, values in the label's unit, and the level of untrained scores.

A fitted task survives everything that a ranker goes through: files, copies, exports, warm starts and experiments.
"""

import copy
import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

import tfmtl2r
from tfmtl2r import Dense, Experiment, MultiTaskRanker, Schema, Task, architectures, losses
from tfmtl2r._backend import keras, tf
from tfmtl2r.data import Lists, batches, fit_tasks, from_frame
from tfmtl2r.evaluation.scoring import fit_residuals, score, score_slices
from tfmtl2r.evaluation.slices import slicing
from tfmtl2r.evaluation.split_metrics import evaluate
from tfmtl2r.losses.base import reads_logits
from tfmtl2r.serving.session import LoadedExport
from tfmtl2r.settings.files import load
from tfmtl2r.task import LabelStatistics
from tfmtl2r.training import readings
from tfmtl2r.training.readings import LARGEST, RESIDUALS, Reading, residual_quantiles
from tfmtl2r.transforms import of_task
from tfmtl2r.transforms.log1p import Log1p

NAN = float("nan")
SMALL = {"name": "shared_bottom", "units": (4,), "head_units": ()}
LOG = Task("dwell", kind="regression", transform="log1p", statistics=LabelStatistics(2.0, 0.5))
X = Schema([Dense("x")])
LINEAR = {"name": "ndcg", "gain": "linear"}


def reading(task=LOG, loss="mse", residuals=None):
    return Reading(task, losses.get(loss), residuals)


def test_targets_are_transformed_and_standardised():
    found = reading().target(tf.constant([0.0, np.e - 1, NAN]))
    np.testing.assert_allclose(found, [-4.0, -2.0, NAN], rtol=1e-6)
    plain = dataclasses.replace(LOG, transform=None)
    np.testing.assert_allclose(reading(plain).target(tf.constant([2.5])), [1.0])
    # A loss of grades of relevance, where negative labels are missing, must not meet standardised labels.
    np.testing.assert_allclose(reading(loss="softmax").target(tf.constant([np.e - 1])), [1.0], rtol=1e-6)
    binary = Task("click", kind="binary", statistics=LabelStatistics(0.2, 0.4))
    np.testing.assert_array_equal(reading(binary, "bce").target(tf.constant([1.0])), [1.0])


def test_a_label_that_the_transform_cannot_take_is_an_error_in_the_graph_too():
    with pytest.raises(tf.errors.InvalidArgumentError, match="task dwell: Log1p takes labels from 0 on"):
        tf.function(reading().target)(tf.constant([[1.0, -0.5]]))


def test_the_value_is_the_mean_over_residuals():
    e = np.linspace(-1, 2, RESIDUALS).astype(np.float32)
    scores = np.float32([[-1.0, 0.0, 3.0]])
    expected = np.expm1(2.0 + 0.5 * scores[..., None] + e).mean(axis=-1)
    np.testing.assert_allclose(reading(residuals=e).value(scores), expected, rtol=1e-6)
    np.testing.assert_allclose(reading().value(scores), np.expm1(2.0 + 0.5 * scores), rtol=1e-6)
    assert reading(loss="pairwise_mse").value(scores) is None
    np.testing.assert_allclose(reading(loss="pairwise_mse").best_guess(scores), np.expm1(2 + 0.5 * scores), rtol=1e-6)


@pytest.mark.parametrize(("loss", "scores", "expected"), [
    ("mse", [0.0, 500.0], [np.expm1(2.0), LARGEST]),  # far from all labels, but a number
    ("mse", [-500.0, NAN], [-1.0, NAN]),
    ("softmax", [0.5, 95.0], [0.5, 95.0]),  # a score without a level has no unit
])
def test_values_are_finite_where_scores_are(loss, scores, expected):
    for residuals in (None, np.zeros(RESIDUALS, np.float32)):
        found = reading(loss=loss, residuals=residuals).best_guess(tf.constant(scores))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    lists = Lists({"dwell": np.ones(2)}, offsets=np.array([0, 2]))
    values = {"dwell": np.array([1.0, np.inf])}
    ordered = evaluate({"dwell": np.arange(2)}, lists, [dataclasses.replace(LOG, metrics=("ndcg@5",))], values=values)
    assert ordered["dwell"]["ndcg@5"].value == 1  # no metric reads values
    with pytest.raises(ValueError, match="item 1 has no finite score"):
        evaluate({"dwell": np.arange(2)}, lists, [LOG], values=values)


def test_values_of_many_items_are_computed_in_parts(monkeypatch):
    """Also those of padded scores; a request or a batch in a graph stays whole."""
    sizes, inverse = [], Log1p.inverse
    monkeypatch.setattr(Log1p, "inverse", lambda self, values: sizes.append(values.shape) or inverse(self, values))
    monkeypatch.setattr(readings, "PART", 10)
    e, scores = np.linspace(-1, 1, RESIDUALS).astype(np.float32), np.arange(24, dtype=np.float32).reshape(4, 6) / 8
    found = reading(residuals=e).value(scores)
    assert sizes == [(10, RESIDUALS), (10, RESIDUALS), (4, RESIDUALS)]
    whole = tf.function(reading(residuals=e).value)(tf.constant(scores))
    assert sizes[3:] == [(4, 6, RESIDUALS)]
    np.testing.assert_allclose(found, whole, rtol=1e-6)


def test_smearing_makes_the_mean_right():
    random = np.random.default_rng(0)
    z = random.normal(size=20_000).astype(np.float32)
    labels = np.expm1(2 + 0.5 * z + 0.7 * random.normal(size=z.size)).clip(0)
    labels[:100] = NAN
    weights = np.ones(z.size)
    weights[100:2_000], labels[100:2_000] = 0.0, 1e9  # rows without weight do not count
    quantiles = residual_quantiles(reading(), labels, z, weights)
    used = slice(2_000, None)
    assert reading(residuals=np.float32(quantiles)).value(z[used]).numpy().mean() == pytest.approx(
        labels[used].mean(), rel=0.02)
    assert reading().value(z[used]).numpy().mean() < 0.85 * labels[used].mean()  # without it, too low
    assert residual_quantiles(reading(), np.full(3, NAN), z[:3], np.ones(3)) is None


@pytest.mark.product
@pytest.mark.parametrize("name", architectures.names())
def test_untrained_scores_start_at_the_base_rate(name):
    tasks = [Task(task, kind="binary", loss="bce", statistics=LabelStatistics(rate, 0.1))
             for task, rate in (("click", 0.2), ("buy", 0.01))]
    ranker = MultiTaskRanker(name, tasks, Schema([Dense("x"), Dense("position")]))
    for variable in ranker.architecture.trainable_variables:
        if "bias" not in variable.name and "gamma" not in variable.name:
            variable.assign(tf.zeros(variable.shape))
    x = tf.constant([[1.0, -2.0]])
    scores = ranker({"x": x, "position": x, "list_size": tf.constant([2])})
    np.testing.assert_allclose(tf.sigmoid(scores["click"]), [[0.2, 0.2]], rtol=1e-4)
    np.testing.assert_allclose(tf.sigmoid(scores["buy"]), [[0.01, 0.01]], rtol=1e-4)


def test_other_scores_start_at_0():
    tasks = [Task("click", kind="binary", loss="softmax", statistics=LabelStatistics(0.01, 0.1)), LOG]
    ranker = MultiTaskRanker(SMALL, tasks, X)
    assert not np.any(ranker.architecture.scorers.bias)
    assert all(not reads_logits(one.loss) for one in ranker.readings().values())


@pytest.mark.parametrize(("rows", "touched", "level"), [(True, False, np.log(0.01 / 0.99)), (False, False, 0.0),
                                                       (True, True, 7.0)])
def test_the_first_data_decide_where_a_ranker_without_has_lists_starts(rows, touched, level):
    """Weights that came from somewhere else stay."""
    ranker = MultiTaskRanker(SMALL, [Task("click", kind="binary", statistics=LabelStatistics(0.01, 0.1))], X)
    ranker.compile()
    if touched:
        ranker.architecture.scorers.bias.assign([[[7.0]]])
    ranker = copy.deepcopy(ranker)
    data = Lists({"x": np.ones(2), "click": np.arange(2)}, offsets=None if rows else np.array([0, 2]))
    ranker.prepare(batches(data, ranker.tasks, X))
    np.testing.assert_allclose(np.ravel(ranker.architecture.scorers.bias), [level], rtol=1e-6)


def log(lists=60, seed=0):
    """A log in which seconds with a heavy tail, far from 0, depend on x."""
    random = np.random.default_rng(seed)
    rows = 5 * lists
    x = random.normal(size=rows)
    click = (random.random(rows) < 1 / (1 + np.exp(2 - x))).astype(int)
    seconds = np.where(random.random(rows) < 0.1, NAN, 900 + np.exp(4 + x + random.normal(size=rows)))
    return pd.DataFrame({"q": np.arange(rows) // 5, "x": x, "click": click, "seconds": seconds,
                         "w": random.integers(0, 3, rows)})


TASKS = (Task("click", kind="binary", loss="bce"),
         Task("dwell", label="seconds", kind="regression", transform="log1p", weight_column="w"))


@pytest.fixture(scope="module")
def trained():
    lists = from_frame(log(), "q")
    tasks = fit_tasks(lists, TASKS)
    keras.utils.set_random_seed(0)
    ranker = MultiTaskRanker(SMALL, tasks, X, has_lists=True)
    ranker.compile(keras.optimizers.Adam(0.02), train_metrics=False)
    ranker.fit(batches(lists, tasks, X), epochs=3, verbose=0)
    fit_residuals(ranker, lists)
    return ranker, lists


def test_metrics_and_predictions_are_in_the_label_unit(trained):
    ranker, lists = trained
    frame = ranker.predict(log(), list_id="q")
    assert list(frame) == ["score_click", "score_dwell", "value_click", "value_dwell"]
    np.testing.assert_allclose(frame.value_click, 1 / (1 + np.exp(-frame.score_click)), rtol=1e-5)
    there = log().seconds.notna()
    weights = log().w[there]
    assert np.average(frame.value_dwell[there], weights=weights) == pytest.approx(
        np.average(log().seconds[there], weights=weights), rel=0.03)  # the highest residual quantile cuts the tail
    logs = ranker.evaluate(batches(lists, ranker.tasks, X), return_dict=True, verbose=0)
    expected = np.average((frame.value_dwell - log().seconds)[there] ** 2, weights=weights)
    found = score(ranker, lists)["dwell"]["mse"].value
    assert found == pytest.approx(logs["dwell_mse"], rel=1e-4) == pytest.approx(expected, rel=0.2)
    slices = score_slices(ranker, lists, [slicing(lists, "list_length")])["list_length"]["slices"]
    assert slices["5"]["results"]["dwell"]["mse"]["value"] == pytest.approx(found)
    assert found > 1_000 > 5 > logs["dwell_loss"]  # seconds squared, and a standardised loss


def test_no_value_is_computed_that_no_metric_reads(trained, monkeypatch):
    ranker, lists = trained
    monkeypatch.setattr(ranker, "tasks", tuple(dataclasses.replace(t, metrics=(LINEAR,)) for t in ranker.tasks))
    monkeypatch.setattr(Reading, "best_guess", None)
    assert 0 < score(ranker, lists)["dwell"]["ndcg"].value < 1
    assert score_slices(ranker, lists, [slicing(lists, "list_length")])


def test_a_fitted_task_survives_files_and_copies(trained, tmp_path):
    ranker, _ = trained
    expected = ranker.predict(log(3), list_id="q")
    ranker.save(tmp_path / "model.keras")
    for again in (tfmtl2r.load(tmp_path / "model.keras"), copy.deepcopy(ranker)):
        pd.testing.assert_frame_equal(again.predict(log(3), list_id="q"), expected)
    lists = from_frame(log(3), "q")
    again.compile(run_eagerly=True)
    again.fit(batches(lists, again.tasks, X), verbose=0)  # its residuals were those of other weights
    assert not np.any(again.smearing.residuals["dwell"])


@pytest.mark.slow
def test_an_export_has_the_values_of_predict(trained, tmp_path):
    ranker, _ = trained
    expected = ranker.predict(log(3), list_id="q")
    version = tfmtl2r.export(ranker, tmp_path / "served")
    with LoadedExport(version) as loaded:
        x = log(3).x.to_numpy(np.float32).reshape(3, 5)
        answer = loaded.run("serving_default", {"x": x, "list_size": np.array([5, 5, 2], np.int32)})
    assert (answer["value_dwell"][2, 2:] == 0).all()
    answer["value_dwell"][2, 2:] = expected.value_dwell[-3:]
    np.testing.assert_allclose(answer["value_dwell"].ravel(), expected.value_dwell, rtol=1e-5)


def experiment(folder, data, name="first", **options):
    goals = [{"name": "click", "kind": "binary", "loss": "bce"},
             {"name": "dwell", "label": "seconds", "kind": "regression", "transform": "log1p", "weight_column": "w",
              "only_where": {"column": "x", "below": 9}}]
    rules = {"column": "x", "above": -9}
    return Experiment(name=name, directory=str(folder), tasks=goals, architecture=SMALL, features=[{"name": "x"}],
                      data={"files": str(data), "list_id": "q", "only_where": rules},
                      training={"epochs": 1, "telemetry_every": 0}, **options)


@pytest.mark.slow
def test_an_experiment_fits_trains_and_starts_again(tmp_path):
    data = tmp_path / "log.csv"
    frame = log()
    frame.loc[7, ["x", "seconds"]] = 99, -3.0  # a rule leaves this label out before anything looks at it
    frame.loc[8, ["x", "seconds"]] = -99, np.inf  # and this row
    frame.to_csv(data, index=False)
    first, card = experiment(tmp_path, data).run(verbose=0)
    assert [weight for weight in ("w", "seconds") if weight in first.schema.names] == []
    assert np.any(first.smearing.residuals["dwell"])
    assert card.results["test"]["dwell"]["mse"]["value"] > 1_000
    assert json.loads((tmp_path / "first" / "run.json").read_text())["config"]["tasks"][1]["transform"] == "log1p"
    again = Experiment.of(load(tmp_path / "first" / "experiment.toml"))
    assert again.model(again.dataset()).tasks == first.tasks
    moved = log(seed=3)
    moved["seconds"] *= 2
    moved.to_csv(data, index=False)
    for statistics, same in (("keep", True), ("refit", False)):
        start = {"from": "first", "statistics": statistics}
        model = experiment(tmp_path, data, "second", start=start)
        assert (model.model(model.dataset()).tasks[1].statistics == first.tasks[1].statistics) is same


def test_a_label_of_a_wrong_sign_is_refused_before_training(tmp_path):
    frame = log()
    frame.loc[7, "seconds"] = -3.0
    frame.to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(ValueError, match=r"'seconds': -3.0 in row 7 .*log.csv.*Log1p takes numbers from 0"):
        experiment(tmp_path, tmp_path / "log.csv").run(verbose=0)


def test_graded_rows_are_standardised_too():
    rows = Lists({"x": np.arange(4.0), "y": np.array([0.0, 3, -1, 4])})
    [task] = fit_tasks(rows, [Task("y")])
    assert task.statistics.mean == pytest.approx(7 / 3)
    assert of_task(task) is None
    np.testing.assert_allclose(Reading(task, losses.get("mse")).value(tf.constant([0.0])), [7 / 3], rtol=1e-6)
