"""Reports about Keras models with several outputs."""

import json
import zipfile

import numpy as np
import pytest

import tfmtl2r
from tfmtl2r import Dense, Schema
from tfmtl2r._backend import keras, tf

SCHEMA = Schema([Dense("x")])
RNG = np.random.default_rng(0)
X = {"x": RNG.normal(size=(8, 3)).astype(np.float32), "list_size": np.full(8, 3, np.int32)}
Y = {"click": np.tile(np.float32([1, 0, 0]), (8, 1)), "dwell": RNG.normal(size=(8, 3)).astype(np.float32)}


def evaluated(ranker, y=Y, weights=None):
    parts = (X, y) if weights is None else (X, y, weights)
    return ranker.evaluate(tf.data.Dataset.from_tensor_slices(parts).batch(4), verbose=0, return_dict=True)


@pytest.fixture(scope="module")
def ranker(make):
    return make(SCHEMA)


def test_weights_of_one_output_change_another(ranker):
    """Class weights of one output lower the accuracy of the others
    (https://github.com/keras-team/keras/issues/12404)."""
    plain = evaluated(ranker)
    weighted = evaluated(ranker, weights={"click": np.float32(1 + 9 * Y["click"])})
    assert weighted["click_loss"] != pytest.approx(plain["click_loss"], rel=1e-3)
    assert weighted["dwell_loss"] == pytest.approx(plain["dwell_loss"], rel=1e-6)


def test_an_output_cannot_ignore_some_samples(ranker):
    """A regression that counts only for positives of another output needs weights of 0
    (https://github.com/keras-team/keras/issues/4151)."""
    only = evaluated(ranker, {**Y, "dwell": np.where(Y["click"] > 0, Y["dwell"], np.nan)})
    by_weight = evaluated(ranker, weights={"dwell": Y["click"]})
    assert only == pytest.approx(by_weight, rel=1e-5)


def test_weights_have_one_number_per_sample(ranker):
    """Weights are one number per sample, and cannot be a matrix (https://github.com/keras-team/keras/issues/2592)."""
    rows = RNG.uniform(0.5, 2, (8, 1)).astype(np.float32)
    per_list = evaluated(ranker, weights={"dwell": rows[:, 0]})
    per_item = evaluated(ranker, weights={"dwell": np.tile(rows, (1, 3))})
    assert per_item == pytest.approx(per_list, rel=1e-5)


def test_a_batch_without_a_label_of_an_output_has_the_loss_nan(make):
    """TerminateOnNaN stops a training whose loss is NaN (https://github.com/keras-team/keras/issues/4848)."""
    some = {**Y, "dwell": np.where(np.arange(8)[:, None] < 4, np.nan, Y["dwell"])}
    data = tf.data.Dataset.from_tensor_slices((X, some)).batch(4)
    history = make(SCHEMA).fit(data, epochs=2, callbacks=[keras.callbacks.TerminateOnNaN()], verbose=0).history
    assert len(history["loss"]) == 2
    assert np.isfinite(history["loss"]).all()


@pytest.mark.slow
def test_early_stopping_with_a_metric_that_is_nan_fails(make, caplog):
    """``restore_best_weights`` fails where no epoch has a value (https://github.com/keras-team/keras/issues/13658).

    A plain ``fit`` says once which task has no value.
    """
    ranker, none = make(SCHEMA, (tfmtl2r.Task("click", kind="binary"),)), {"click": 0 * Y["click"]}
    stopping = keras.callbacks.EarlyStopping("val_stop_on", patience=1, mode="max", restore_best_weights=True)
    for callbacks in ([stopping], None):
        ranker.fit(X, {"click": Y["click"]}, validation_data=(X, none), epochs=3, callbacks=callbacks, verbose=0)
    assert [record.getMessage() for record in caplog.records if "no value" in record.getMessage()] == [
        f"task click: {metric} has no value on the validation data: it is NaN, as for labels that are missing or all "
        f"the same{leaves}"
        for metric, leaves in (("ndcg@5", "; the task does not count in stop_on"), ("auc", ""))]


@pytest.mark.parametrize("frozen", [(), ("saved",), ("loaded",), ("saved", "loaded")])
def test_weights_of_frozen_layers_are_loaded_in_another_order(make, tmp_path, frozen):
    """Weights that were saved while a layer was frozen land in other layers
    (https://github.com/keras-team/keras/issues/10777)."""
    saved, loaded = make(SCHEMA), make(SCHEMA)
    loaded.set_weights([w + 1 for w in loaded.get_weights()])
    for name, ranker in (("saved", saved), ("loaded", loaded)):
        if name in frozen:
            next(iter(ranker.architecture._flatten_layers(include_self=False))).trainable = False
    saved.save_weights(tmp_path / "a.weights.h5")
    loaded.load_weights(tmp_path / "a.weights.h5")
    for mine, theirs in zip(loaded.get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_file_contains_json_that_no_other_language_reads(make, tmp_path):
    """Saved configurations contain Infinity, which is no JSON
    (https://github.com/tensorflow/tensorflow/issues/41797)."""
    ranker = tfmtl2r.MultiTaskRanker("shared_bottom", ["click"])
    ranker.compile("sgd", run_eagerly=True)
    ranker.fit(X, {"click": Y["click"]}, verbose=0)
    ranker.save(tmp_path / "model.keras")

    def refused(word):
        raise AssertionError(f"the configuration contains {word}")

    with zipfile.ZipFile(tmp_path / "model.keras") as file:
        json.loads(file.read("config.json"), parse_constant=refused)
