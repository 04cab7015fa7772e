"""What goes wrong while a training runs is said once, when it happens, with task and step."""

import logging
import types

import numpy as np
import pandas as pd
import pytest

from tfmtl2r import Dense, MultiTaskRanker, Schema, Task
from tfmtl2r._backend import keras, tf
from tfmtl2r.data import fit_schema, from_frame
from tfmtl2r.training.notices import Notices

TASKS = [Task("click", kind="binary"), Task("dwell", kind="regression", loss="mse", metrics=())]


@pytest.fixture
def notices():
    made = Notices()
    made.set_model(types.SimpleNamespace(tasks=TASKS))
    made.on_epoch_begin(0)
    return made


def test_a_loss_that_jumps(notices, caplog):
    notices.on_train_batch_end(0, {"loss": 3.0, "click_loss": 1.0, "dwell_loss": 2.0})
    for batch in (20, 40, 60):
        notices.on_train_batch_end(batch, {"loss": 9e5, "click_loss": 99.0, "dwell_loss": 4.5e5})
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert said[0].startswith("task dwell: the loss was 2 in the first steps and is 4.5e+05 after step 21 of epoch 1")


def test_a_loss_that_stands_still_and_batches_that_were_left_out(notices, caplog):
    for epoch, click in enumerate((0.7, 0.6, 0.5)):
        logs = {"click_loss": click, "dwell_loss": 4.0, "val_click_loss": 1.0, "click_skipped": 2.0}
        notices.on_epoch_end(epoch, logs)
    said = [record.getMessage() for record in caplog.records]
    assert [text.partition(":")[0] for text in said] == ["task click", "task dwell"]
    assert "2 batches of epoch 1 were left out" in said[0]
    assert "the loss is 4 in epochs 1 and 2 alike" in said[1]


def test_a_training_says_it(caplog):
    model = MultiTaskRanker({"name": "shared_bottom", "units": [4]}, TASKS, Schema([Dense("x")]))
    model.compile(keras.optimizers.SGD(1e-6), train_metrics=False)
    x = {"x": np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4), "list_size": np.full(2, 4, np.int32)}
    y = {"click": np.tile(np.float32([0, 1, 0, 1]), (2, 1)), "dwell": np.full((2, 4), 3.0, np.float32)}
    with caplog.at_level(logging.WARNING):
        model.fit(x, y, epochs=2, verbose=0, callbacks=[_Freeze()])
    assert any("alike" in record.getMessage() for record in caplog.records)


class _Freeze(keras.callbacks.Callback):
    """Puts the first weights back after each epoch, so that nothing is learnt."""

    def on_train_begin(self, logs=None):
        self.weights = self.model.get_weights()

    def on_train_batch_end(self, batch, logs=None):
        self.model.set_weights(self.weights)


@pytest.mark.parametrize("as_data_set", [False, True])
def test_a_feature_that_drowns_all_others(caplog, as_data_set):
    """A ranker without a schema reads numbers as they are."""
    rng = np.random.default_rng(0)
    x = {"price": rng.normal(size=(6, 3)).astype(np.float32), "when": np.full((6, 3), 2e5, np.float32),
         "list_size": np.full(6, 3, np.int32)}  # fmt: skip
    y = {"click": rng.integers(0, 2, (6, 3)).astype(np.float32), "dwell": np.ones((6, 3), np.float32)}
    said = "feature 'when' reaches 2e+05, and the others at most"
    for schema in (None, Schema([Dense("price"), Dense("when", mean=(2e5,), variance=(1.0,))])):
        caplog.clear()
        model = MultiTaskRanker({"name": "shared_bottom", "units": [2]}, TASKS, schema)
        model.compile(keras.optimizers.SGD(1e-12), run_eagerly=True)
        data = (tf.data.Dataset.from_tensor_slices((x, y)).batch(3),) if as_data_set else (x, y)
        model.fit(*data, epochs=1, verbose=0)
        assert any(record.getMessage().startswith(said) for record in caplog.records) == (schema is None)


def test_values_so_far_away_that_the_others_are_equal(caplog):
    usual = np.random.default_rng(0).lognormal(size=1000)
    for values, warned in ((usual, False), (np.append(usual, 1e9), True), (np.append(np.zeros(1000), 1.0), False)):
        caplog.clear()
        frame = pd.DataFrame({"x": values, "click": np.arange(len(values)) % 2})
        fit_schema(from_frame(frame), [Task("click", kind="binary")])
        assert ("values up to 1e+09 lie so far from all others" in caplog.text) == warned
