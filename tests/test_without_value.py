"""A task whose metric has no value does not decide for all tasks, and a task that cannot be learnt is refused.

This holds in training (the number that early stopping looks at), and for the runs of a sweep, their front and their
comparison.
"""

import logging

import numpy as np
import pytest

from tfmtl2r import Task, datasets
from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import Batch
from tfmtl2r.data import Lists, batches
from tfmtl2r.evaluation import delta_m
from tfmtl2r.experiment import Experiment
from tfmtl2r.names import STOP_ON
from tfmtl2r.pareto.summary import summarise
from tfmtl2r.sweeps.planning import plan
from tfmtl2r.sweeps.study import tuned
from tfmtl2r.training.replicas import Replicas
from tfmtl2r.training.staged import fit_prioritised
from tfmtl2r.training.trackers import Trackers


class Clicks(datasets.DataSet):
    """Two binary tasks on plain rows; a split may lack all positives, or all labels, of the second one."""

    def __init__(self, **second):
        self.second = second

    def tasks(self):
        return (Task("click", kind="binary"), Task("buy", kind="binary"))

    def read(self, split):
        x = np.random.default_rng(self.splits.index(split)).normal(size=64).astype(np.float32)
        click = (x > 0).astype(float)
        return Lists({"x": x, "click": click, "buy": self.second.get(split, click)})


def experiment(**training):
    training = {"epochs": 4, "patience": 1, "batch_size": 32, "telemetry_every": 0, **training}
    return Experiment("a", architecture={"name": "shared_bottom", "units": [2]}, training=training,
                      optimizer={"learning_rate": 0.05})


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_training_goes_on_by_the_other_tasks_and_says_so_once(caplog):
    with caplog.at_level(logging.WARNING, "tfmtl2r"):
        _, card = experiment().run(dataset=Clicks(vali=np.zeros(64)), verbose=0)
    watched = card.history[f"val_{STOP_ON}"]
    assert np.isfinite(watched).all()
    np.testing.assert_allclose(watched, 2 * np.array(card.history["val_click_auc"]) - 1, rtol=1e-5, atol=1e-6)
    assert np.isnan(card.history["val_buy_auc"]).all()
    said = [record.getMessage() for record in caplog.records if "no value" in record.getMessage()]
    assert said == ["task buy: auc has no value on the validation data: it is NaN, as for labels that are missing "
                    "or all the same; the task does not count in stop_on"]


@pytest.mark.slow
def test_training_stops_on_the_number_that_the_user_chooses():
    _, card = experiment(stop_on="val_click_loss").run(dataset=Clicks(), verbose=0)
    np.testing.assert_allclose(card.history[f"val_{STOP_ON}"], -np.array(card.history["val_click_loss"]), rtol=1e-6)
    assert card.history["kept"][int(np.argmin(card.history["val_click_loss"]))] == 1.0


@pytest.mark.parametrize(("name", "labels", "message"), [
    ("val_buy_acu", None, "'val_buy_acu', which is no logged number.*did you mean 'val_buy_auc'"),
    ("buy_auc", None, "no logged number of the validation"),
    ("val_buy_auc", np.zeros(64), "'val_buy_auc', which has no value on vali"),
])
def test_a_number_that_cannot_stop_a_training_is_refused_before_it(name, labels, message):
    data = Clicks() if labels is None else Clicks(vali=labels)
    with pytest.raises(ValueError, match=message):
        experiment(stop_on=name).run(dataset=data, verbose=0)
    with pytest.raises(ValueError, match="stop_on has no effect with patience 0"):
        experiment(stop_on=name, patience=0)


@pytest.mark.parametrize(("split", "labels", "message"), [
    ("train", np.zeros(64), r"task 'buy', column 'buy': none of the 64 items of train has a label above 0 \(64 have"),
    ("train", np.full(64, np.nan), "none of the 64 items of train has a label, so that the task cannot be learnt"),
])
def test_a_task_that_cannot_be_learnt_is_refused(split, labels, message):
    with pytest.raises(ValueError, match=message):
        experiment().run(dataset=Clicks(**{split: labels}), verbose=0)


def test_early_stopping_without_any_value_is_refused():
    chosen = experiment().but(preference={"click": 0.0, "buy": 1.0})
    with pytest.raises(ValueError, match="no metric of buy has a value on vali"):
        chosen.run(dataset=Clicks(vali=np.zeros(64)), verbose=0)


def test_a_preference_is_shared_among_the_tasks_that_have_a_value():
    tasks = [Task(name, kind="regression", metrics=("mse",)) for name in "abc"]
    trackers = Trackers(tasks, has_lists=False)
    labels = {"a": [0.0, 2.0], "b": [np.nan, np.nan], "c": [-1.0, 1.0]}
    scores = {"a": [1.0, 1.0], "b": [0.0, 0.0], "c": [-2.0, 1.0]}  # errors of 1 and 0.5, beside a variance of 1
    trackers.update_metrics(Batch({"x": tf.zeros(2)}, {name: tf.constant(y) for name, y in labels.items()}),
                            {name: tf.constant(s) for name, s in scores.items()})
    logs = trackers.logs(np.float32([0.2, 0.5, 0.3]), Replicas())
    assert float(logs[STOP_ON]) == pytest.approx((0.2 * 0 + 0.3 * 0.5) / 0.5)
    assert np.isnan(float(trackers.logs(np.float32([0.0, 1.0, 0.0]), Replicas())[STOP_ON]))


def test_a_sweep_with_a_method_that_needs_more_epochs_is_refused_at_planning():
    base = Experiment("a", data={"name": "synthetic_conflict"}, training={"epochs": 2})
    assert len(plan(base, ["mgda"], [[0.5, 0.5]])) == 1
    with pytest.raises(ValueError, match="NMT takes 3 epochs to come to the last of 2 tasks, but epochs is 2"):
        plan(base, ["mgda", "nmt"], [[0.5, 0.5]])


def test_delta_m_leaves_out_a_metric_without_a_value():
    def results(a, b):
        return {task: {"auc": {"value": value, "direction": "max"}} for task, value in (("a", a), ("b", b))}

    assert delta_m(results(0.55, np.nan), results(0.5, np.nan)) == pytest.approx(-10)
    with pytest.raises(ValueError, match="single-task value"):
        delta_m(results(0.55, 0.5), results(0.5, np.nan))


def test_fronts_and_tuned_weights_do_without_a_task_that_has_no_value(runs):
    found = summarise(runs, "test")
    assert found.points.tasks == ("click",)
    assert len(found.points.runs) == 3
    assert found.left_out == ("task 'buy': its test objective has no value in any run; the other tasks count",)
    assert [run.card.name for run in tuned(runs)] == ["r2"]


@pytest.fixture
def runs(tmp_path):
    from tfmtl2r.runs.card import RunCard
    from tfmtl2r.runs.finished import Run

    def run(index):
        row = {task: {"auc": {"value": value, "direction": "max", "num_lists": 1, "conventions": {}}}
               for task, value in (("click", 0.5 + 0.1 * index), ("buy", np.nan))}
        history = {f"val_{task}_auc": [row[task]["auc"]["value"]] for task in row}
        config = experiment(patience=0).config() | {"tasks": [{"name": "click"}, {"name": "buy"}]}
        card = RunCard(f"r{index}", config, {"test": {"fingerprint": "f"}}, {"test": row}, history)
        return Run(tmp_path, card)

    return [run(index) for index in range(3)]


def test_one_run_that_survives_has_the_tasks_that_count_for_all(runs):
    lost = dict(runs[2].card.results["test"], click={"auc": {**runs[2].card.results["test"]["click"]["auc"],
                                                            "value": np.nan}})
    runs[2].card.results["test"] = lost
    found = summarise([runs[0], runs[2]], "test")
    assert found.points.tasks == ("click",)
    assert [run.card.name for run in found.points.runs] == ["r0"]


@pytest.mark.slow
def test_a_stage_goes_on_without_validation_data_and_without_a_label_of_one_task():
    data = Clicks(train=np.full(64, np.nan))
    tasks = data.tasks()
    model = experiment().model(data)
    model.compile(keras.optimizers.Adam(0.05), method={"name": "nmt", "priorities": (1, 1)})
    train = batches(data.lists("train"), tasks, data.schema(tasks), batch_size=32)
    (stage,) = fit_prioritised(model, train, epochs=3, verbose=0).stages
    assert np.isfinite(stage.watched)
    assert stage.kept > 0
