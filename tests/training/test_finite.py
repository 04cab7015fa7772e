"""Numbers that are not finite: a step with them changes nothing, and weights with them are never used."""

import numpy as np
import pytest
import tensorflow as tf

import tfmtl2r
from tfmtl2r import Dense, MultiTaskRanker, Schema, Task
from tfmtl2r._backend import keras
from tfmtl2r.errors import NotFiniteError
from tfmtl2r.training.loop import Limits, Loop
from tfmtl2r.training.stages import OneStage

TASKS = [Task("click", kind="binary"), Task("dwell", kind="regression")]
X = {"price": np.linspace(-1, 1, 24, dtype=np.float32).reshape(6, 4), "list_size": np.full(6, 4, np.int32)}
Y = {"click": np.tile(np.float32([0, 1, 0, 1]), (6, 1)), "dwell": np.ones((6, 4), np.float32)}


def ranker(method="linear_scalarization", gradients="parameters", on_nan="error", optimizer="sgd"):
    made = MultiTaskRanker({"name": "shared_bottom", "units": [4]}, TASKS, Schema([Dense("price", clip=1e38)]))
    made.compile(optimizer, method=method, gradients=gradients, on_nan=on_nan, train_metrics=False)
    return made


def data(rows=2, **changed):
    """Lists with features and labels from (list, value). A price of 1e25 gives finite clicks and an infinite dwell."""
    x, y = ({name: value.copy() for name, value in part.items()} for part in (X, Y))
    for name, (place, value) in changed.items():
        (x if name in x else y)[name][place] = value
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(rows)


def weights(model):
    return [v.numpy() for v in (*model.trainable_variables, *model.method_state.weights)]


@pytest.mark.parametrize(("method", "gradients"), [
    ("linear_scalarization", "parameters"), ("mgda", "parameters"), ("nash_mtl", "features"), ("db_mtl", "parameters"),
])
def test_such_a_step_ends_the_training_and_changes_nothing(method, gradients):
    model = ranker(method, gradients)
    model.fit(data(), epochs=1, verbose=0)
    before = weights(model)
    with pytest.raises(NotFiniteError, match=r"step \d+: the loss of task dwell is inf, first in list 1 of the batch, "
                       r"where the feature price is as large as 1\.000e\+25; correct the data or take a smaller"):
        model.fit(data(price=(1, 1e25)), epochs=1, verbose=0)
    for one, two in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.slow
def test_a_gradient_can_be_infinite_although_the_losses_are_not():
    model = ranker()
    for variable in model.trainable_variables:
        if variable.path.endswith("kernel"):
            variable.assign(np.full_like(variable, 1e-25 if "scorers" in variable.path else 1e-3))
    huge = {**X, "price": np.full((6, 4), 1e28, np.float32)}
    with pytest.raises(NotFiniteError, match="a gradient is not finite, although all losses are"):
        model.train_on_batch(huge, {"click": Y["click"], "dwell": np.full((6, 4), 1e15, np.float32)})


@pytest.mark.parametrize("method", [
    "linear_scalarization", pytest.param("famo", marks=pytest.mark.slow), pytest.param("modo", marks=pytest.mark.slow),
])
def test_a_batch_is_left_out(method):
    bad, good = ranker(method, on_nan="skip_batch"), ranker(method, on_nan="skip_batch")
    good.set_weights(bad.get_weights())
    history = bad.fit(data(price=(5, 1e25)), epochs=1, verbose=0).history
    good.fit(data().take(2), epochs=1, verbose=0)
    for one, two in zip(weights(bad), weights(good), strict=True):
        np.testing.assert_array_equal(one, two)
    assert (history["click_skipped"], history["dwell_skipped"]) == ([1.0], [1.0])
    assert np.isfinite(history["loss"]).all()
    assert int(bad.optimizer.iterations.numpy()) == 2


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mgda", "famo"])
def test_only_the_task_is_left_out(method):
    bad, good = ranker(method, on_nan="drop_task"), ranker(method, on_nan="drop_task")
    good.set_weights(bad.get_weights())
    history = bad.fit(data(6, price=(5, 1e25)), epochs=1, verbose=0).history
    good.fit(data(6, price=(5, 1e25), dwell=(slice(None), np.nan)), epochs=1, verbose=0)
    for one, two in zip(weights(bad), weights(good), strict=True):
        np.testing.assert_array_equal(one, two)
    assert (history["click_skipped"], history["dwell_skipped"]) == ([0.0], [1.0])
    bad.trainable_variables[-1].assign(np.full_like(bad.trainable_variables[-1], np.nan))  # no task is left
    before = weights(bad)
    bad.train_on_batch(X, Y)
    for one, two in zip(before, weights(bad), strict=True):
        np.testing.assert_array_equal(one, two)


def test_what_on_nan_accepts(tmp_path):
    with pytest.raises(ValueError, match="on_nan must be one of 'error', 'skip_batch', 'drop_task', not 'ignore'"):
        ranker(on_nan="ignore")
    model = ranker(on_nan="skip_batch")
    model.fit(data(), epochs=1, verbose=0)
    model.save(tmp_path / "m.keras")
    assert tfmtl2r.load(tmp_path / "m.keras").get_compile_config()["on_nan"] == "skip_batch"


class TestWeights:
    """The graph may turn NaN into plausible constants: relu(NaN) is 0 in a fused product."""

    @pytest.fixture
    def broken(self):
        model = ranker()
        model.fit(data(), epochs=1, verbose=0)
        kernel = model.trainable_variables[0]
        kernel.assign(np.full_like(kernel, np.nan))
        return model

    def test_they_are_not_evaluated(self, broken):
        with pytest.raises(NotFiniteError, match=r"evaluate: the weights .*kernel hold NaN or infinite values"):
            broken.evaluate(data(), verbose=0)

    @pytest.mark.slow
    def test_an_epoch_with_them_is_never_the_best(self):
        class Spoil(tf.keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                kernel = self.model.trainable_variables[0]
                kernel.assign(np.full_like(kernel, np.nan))

        for options in ({"validation_data": data()}, {}):
            with pytest.raises(NotFiniteError, match=r"hold NaN|the loss of task click is nan"):
                ranker().fit(data(), epochs=3, verbose=0, callbacks=[Spoil()], **options)

    def test_they_are_not_saved_or_exported(self, broken, tmp_path):
        with pytest.raises(NotFiniteError, match=r"m\.keras is not written: the weights"):
            broken.save(tmp_path / "m.keras")
        with pytest.raises(NotFiniteError, match="is not written: the weights"):
            tfmtl2r.export(broken, tmp_path / "served")
        assert list(tmp_path.iterdir()) == []

    def test_scores_that_are_nan_have_no_metric(self):
        model = ranker()
        model.trainable_variables[-1].assign(np.full_like(model.trainable_variables[-1], np.nan))
        with pytest.raises(NotFiniteError, match="the scores of task click are NaN"):
            model.test_on_batch(X, Y)


def test_brackets_in_a_name_cut_no_message():
    model = MultiTaskRanker({"name": "shared_bottom", "units": [4]}, TASKS, Schema([Dense("price [EUR]", clip=1e38)]))
    model.compile("sgd", train_metrics=False, run_eagerly=True)
    x = {"price [EUR]": np.full((6, 4), 1e25, np.float32), "list_size": X["list_size"]}
    with pytest.raises(NotFiniteError, match=r"where the feature price \[EUR\] is as large as 1\.000e\+25; .*drop"):
        model.train_on_batch(x, Y)


def test_averages_begin_with_the_first_step():
    model = ranker(on_nan="skip_batch", optimizer=keras.optimizers.Adam(use_ema=True))
    before = model.trainable_variables[0].numpy()
    Loop(model, data(6, price=(slice(None), 1e25)), None, OneStage(model), Limits(epochs=1)).run()
    np.testing.assert_array_equal(model.trainable_variables[0].numpy(), before)


@pytest.mark.slow
def test_a_step_that_xla_compiles():
    rows = {"price": X["price"].ravel()}, {"click": Y["click"].ravel(), "dwell": Y["dwell"].ravel()}
    model = MultiTaskRanker({"name": "shared_bottom", "units": [4]}, TASKS, Schema([Dense("price")]), has_lists=False)
    model.compile("sgd", jit_compile=True, train_metrics=False)
    history = model.fit(tf.data.Dataset.from_tensor_slices(rows).batch(24), epochs=2, verbose=0).history["loss"]
    assert history[1] < history[0]
