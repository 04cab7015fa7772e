"""Floors of validation metrics, kept by multipliers that change the preference in training."""

import logging

import numpy as np
import pytest

import tfmtl2r
from tfmtl2r import MultiTaskRanker, Task, architectures
from tfmtl2r._backend import keras, tf
from tfmtl2r.settings import Constraint
from tfmtl2r.training.floors import FloorStages, fit_with_floors
from tfmtl2r.training.loop import Saving
from tfmtl2r.training.state import Training

TASKS = (Task("a", metrics=["ndcg@5"]), Task("b", metrics=["ndcg@5", "mrr"]))


def lists(seed, count=96, items=8, cosine=-0.5):
    """Two tasks whose best scores are linear in two features, and nearly opposed."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(count, items, 2)).astype(np.float32)
    other = x[..., 0] * cosine + x[..., 1] * np.sqrt(1 - cosine**2)
    y = {name: np.digitize(score + 0.3 * draw.normal(size=score.shape), [0.3, 1.0, 1.6]).astype(np.float32)
         for name, score in (("a", x[..., 0]), ("b", other))}
    inputs = {"x": x, "list_size": np.full(count, items, np.int32)}
    return tf.data.Dataset.from_tensor_slices((inputs, y)).batch(32)


def ranker(method="linear_scalarization", seed=1, preference=(0.5, 0.5)):
    """One shared unit, for which the tasks compete."""
    keras.utils.set_random_seed(seed)
    bottom = architectures.get("shared_bottom", units=[1], head_units=[])
    model = MultiTaskRanker(bottom, TASKS)
    model.compile(keras.optimizers.Adam(0.05), method=method, preference=preference)
    return model


def trained(seed, floors, epochs=12, preference=(0.5, 0.5), **options):
    model = ranker(seed=seed, preference=preference)
    history = fit_with_floors(model, lists(seed), lists(100 + seed), floors=floors, epochs=epochs, **options)
    return model, history, model.evaluate(lists(100 + seed), verbose=0, return_dict=True)


@pytest.mark.slow
def test_a_bound_in_units_of_the_metric_is_kept_and_the_rest_goes_to_the_other_task():
    free = ranker(preference=(0.1, 0.9))
    free.fit(lists(1), epochs=12, verbose=0)
    plain = free.evaluate(lists(101), verbose=0, return_dict=True)
    model, history, found = trained(1, [Constraint("a", "ndcg@5", loses_at_most=0.02)], preference=(0.1, 0.9))
    best = max(history["val_a_ndcg@5"][:12])
    assert plain["a_ndcg@5"] < best - 0.02 <= found["a_ndcg@5"]
    assert history["val_b_ndcg@5"][11] < found["b_ndcg@5"] < plain["b_ndcg@5"]
    assert history["stage"] == [1.0] * 12 + [2.0] * 12
    assert max(history["a_multiplier"]) > 0 == max(history["a_multiplier"][:12])
    assert model.preference.numpy() == pytest.approx([0.1, 0.9])
    np.testing.assert_allclose(history["a_violation"][12:], best - 0.02 - np.array(history["val_a_ndcg@5"][12:]),
                               atol=1e-6)


@pytest.mark.slow
def test_a_floor_that_is_never_in_danger_changes_nothing():
    _, history, found = trained(1, [Constraint("a", "ndcg@5", floor=0.01)], epochs=2)
    free = ranker()
    plain = free.fit(lists(1), validation_data=lists(101), epochs=2, verbose=0).history
    assert history["a_multiplier"] == [0.0, 0.0]
    np.testing.assert_allclose(history["loss"], plain["loss"], rtol=1e-6)
    np.testing.assert_allclose(history["val_stop_on"], plain["val_stop_on"], rtol=1e-6)
    assert found["stop_on"] == pytest.approx(max(plain["val_stop_on"]))


def test_multipliers_follow_the_formula_and_a_floor_that_cannot_be_kept_is_told(caplog):
    with caplog.at_level(logging.WARNING, "tfmtl2r"):
        _, history, found = trained(1, [Constraint("b", "mrr", floor=0.9999)], epochs=2)
    multiplier, expected = 0.0, []
    for value in history["val_b_mrr"]:
        multiplier = max(multiplier + 20 * (0.9999 - value) / 0.9999, 0.0)
        expected.append(multiplier)
    np.testing.assert_allclose(history["b_multiplier"], expected, rtol=1e-5)
    assert "no epoch keeps all floors (val_b_mrr >= 0.9999)" in caplog.text
    assert found["b_mrr"] == pytest.approx(max(history["val_b_mrr"]))


@pytest.mark.slow
def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(tmp_path):
    floors = [Constraint("a", "ndcg@5", loses_at_most="2%")]
    whole, history, _ = trained(1, floors, epochs=3)

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 4:
                raise KeyboardInterrupt

    saving = Saving(tmp_path, steps=1)
    with pytest.raises(KeyboardInterrupt):
        trained(1, floors, epochs=3, saving=saving, callbacks=[Stop()])
    again, later, _ = trained(1, floors, epochs=3, saving=saving)
    assert later["a_multiplier"] == history["a_multiplier"]
    for one, other in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(("method", "bound", "message"), [
    ("mgda", {"floor": 0.5}, "change the preference in training, and MGDA has none: choose another method"),
    ("pbi", {"loses_at_most": 0.1}, "PBI divides by the preference: give floor, or choose another method"),
    ("linear_scalarization", {"task": "c", "floor": 0.5}, "'c' is no task of this ranker"),
    ("linear_scalarization", {"metric": "map", "floor": 0.5}, "the metrics of this task are ndcg@5: choose one of"),
])
def test_floors_that_cannot_be_trained_are_refused(method, bound, message):
    bound = {"task": "a", "metric": "ndcg@5", **bound}
    model = ranker(method)
    model.prepare(lists(1, count=4))
    with pytest.raises(ValueError, match=message):
        FloorStages(model, [Constraint(**bound)], lists(2, count=4), 0)


def test_a_metric_without_a_value_is_refused_before_training():
    model = ranker()
    unlabelled = lists(1, count=8).map(lambda x, y: (x, {**y, "a": tf.fill(tf.shape(y["a"]), float("nan"))}))
    with pytest.raises(ValueError, match="val_a_ndcg@5 has no value on the validation data"):
        fit_with_floors(model, lists(1, count=8), unlabelled, floors=[Constraint("a", "ndcg@5", floor=0.5)])


@pytest.mark.slow
def test_an_experiment_keeps_floors_without_tuned_weights(tmp_path):
    experiment = tfmtl2r.Experiment(
        name="floors", data={"name": "kuairand_excerpt"}, directory=str(tmp_path), training={"epochs": 1},
        constraints=[{"task": "click", "metric": "ndcg@5", "floor": 0.2}])
    _, card = experiment.run(verbose=0)
    assert {"click_multiplier", "click_violation", "kept"} <= {*card.history}


def test_a_plan_without_relative_bounds_has_one_stage():
    model = ranker()
    model.prepare(lists(1, count=4))
    plan = FloorStages(model, [Constraint("a", "ndcg@5", floor=0.5)], lists(2, count=4), 0)
    training = Training()
    assert plan.begin(training, resumed=False)
    training.next_stage()
    assert not plan.begin(training, resumed=False)
