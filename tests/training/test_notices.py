"""What goes wrong while a training runs is said once, when it happens, with task and step."""

import logging
import types

import numpy as np
import pytest

from tfmtl2r import Dense, MultiTaskRanker, Schema, Task
from tfmtl2r._backend import keras
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
