"""Whatever Keras' methods and optimizers take is honoured, or refused by its name: no argument changes nothing."""

import inspect

import numpy as np
import pytest

from tfmtl2r import LazyAdam, MultiTaskRanker, Schema, Task
from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import NotFiniteError
from tfmtl2r.features.dense import Dense

TASKS = (Task("click", kind="binary", loss="bce"), Task("buy", kind="binary", loss="bce", metrics=()))
RNG = np.random.default_rng(0)
X = {"x": RNG.normal(size=(12, 3)).astype(np.float32), "list_size": np.full(12, 3, np.int32)}
Y = {task.name: RNG.integers(0, 2, (12, 3)).astype(np.float32) for task in TASKS}


def data(size=4):
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(size)


def part(start, size=4):
    return tuple({name: values[start:start + size] for name, values in side.items()} for side in (X, Y))


class Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return part(4 * index)


def generator():
    yield from (part(start) for start in (0, 4, 8))


def made(optimizer="sgd", **options):
    keras.utils.set_random_seed(0)
    ranker = MultiTaskRanker({"name": "shared_bottom", "units": [2], "head_units": []}, TASKS, Schema([Dense("x")]))
    ranker.compile(optimizer, run_eagerly=True, **options)
    return ranker


@pytest.fixture(scope="module")
def ranker():
    return made()


REFUSED = {
    "loss": "mse", "loss_weights": [1, 2], "metrics": ["auc"], "weighted_metrics": ["auc"], "auto_scale_loss": False,
}
OWN = {"optimizer", "run_eagerly", "steps_per_execution", "jit_compile"}


def test_every_argument_of_compile_is_known(ranker):
    assert set(inspect.signature(keras.Model.compile).parameters) - {"self"} == OWN | set(REFUSED)
    for name, value in REFUSED.items():
        with pytest.raises(ValueError, match=f"compile has no argument {name}: .*(Task|preference|mixed_bfloat16)"):
            ranker.compile(**{name: value})
        ranker.compile("sgd", run_eagerly=True, **{name: None})
    with pytest.raises(TypeError, match="optimiser"):
        ranker.compile(optimiser="sgd")


@pytest.mark.parametrize(("options", "message"), [
    ({"x": (X, Y), "class_weight": {0: 1.0}}, "no argument class_weight: labels have a weight per task"),
    ({"x": data, "batch_size": 3}, "no argument batch_size: the data are batches already"),
    ({"x": Sequence, "batch_size": 3}, "no argument batch_size: the data are batches already"),
    ({"x": generator, "batch_size": 3}, "no argument batch_size: the data are batches already"),
    ({"x": data, "validation_steps": 1}, "no argument validation_steps: without validation_data"),
    ({"x": data, "validation_freq": 2}, "no argument validation_freq: without validation_data"),
    ({"x": data, "validation_data": data, "validation_batch_size": 1}, "no argument validation_batch_size"),
    ({"x": data, "validation_data": data, "validation_split": 0.5}, "no argument validation_split: there is"),
    ({"x": data, "epoch": 3}, "epoch"),
])
def test_arguments_of_fit_without_effect_are_refused(ranker, options, message):
    """Every other argument of ``fit`` has an effect in Keras itself."""
    options = {name: value() if callable(value) else value for name, value in options.items()}
    with pytest.raises((ValueError, TypeError), match=message):
        ranker.fit(verbose=0, **options)


@pytest.mark.slow
def test_data_sets_sequences_generators_and_arrays_train_alike():
    found = []
    for x in (data(), Sequence(), generator()):
        ranker = made()
        ranker.fit(x, verbose=0, steps_per_epoch=3, **({"shuffle": False} if isinstance(x, Sequence) else {}))
        found.append(ranker.get_weights())
    ranker = made()
    ranker.fit(X, Y, 4, 1, 0, None, 0.0, None, False)  # positions are those of Keras
    found.append(ranker.get_weights())
    for weights in found[1:]:
        for ours, theirs in zip(weights, found[0], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    values = [ranker.evaluate(x, steps=3, verbose=0) for x in (data(), Sequence(), generator())]
    np.testing.assert_allclose(values[1:], [values[0]] * 2, rtol=1e-5)
    scores = [ranker.predict(x)["click"] for x in (data(), Sequence(), generator(), X)]
    np.testing.assert_allclose(scores[1:], [scores[0]] * 3, rtol=1e-5)


@pytest.mark.slow
def test_a_generator_connects_a_ranker_without_a_schema():
    ranker = MultiTaskRanker("shared_bottom", TASKS)
    ranker.compile("sgd", run_eagerly=True)
    history = ranker.fit(generator(), steps_per_epoch=3, validation_data=Sequence(), verbose=0).history
    assert "val_loss" in history
    assert ranker.schema.names == ("x",)


@pytest.mark.slow
def test_names_belong_to_the_values_of_evaluate(ranker):
    """Also before the first evaluation, and in ``test_on_batch`` and ``train_on_batch``."""
    fresh = made()
    assert fresh.metrics_names == ["loss", "click_loss", "buy_loss"]  # lists or rows: not known yet
    for model in (ranker, fresh):
        named = model.evaluate(data(), verbose=0, return_dict=True)
        assert dict(zip(model.metrics_names, model.evaluate(data(), verbose=0), strict=True)) == named
        assert model.evaluate(data(), verbose=0)[0] == named["loss"]
        named = model.test_on_batch(*part(0), return_dict=True)
        assert dict(zip(model.metrics_names, model.test_on_batch(*part(0)), strict=True)) == named
    assert len(made(train_metrics=False).train_on_batch(*part(0))) == 3


class Watching(keras.callbacks.Callback):
    def __init__(self, stop_at=None):
        super().__init__()
        self.stop_at, self.seen = stop_at, []

    def on_predict_batch_end(self, batch, logs=None):
        self.seen.append(logs["click"].shape)  # Keras flattens the outputs
        if batch == self.stop_at:
            self.model.stop_predicting = True


def test_arguments_of_predict(ranker, capsys):
    assert list(inspect.signature(ranker.predict).parameters)[:5] == list(
        inspect.signature(keras.Model.predict).parameters)[1:]
    watching, stopping = Watching(), Watching(stop_at=1)
    assert ranker.predict(data(), verbose=0, steps=1, callbacks=[watching])["click"].shape == (4, 3)
    assert watching.seen == [(4, 3)]
    assert ranker.predict(X, 5, 0, callbacks=stopping)["click"].shape == (10, 3)
    assert capsys.readouterr().out == ""
    ranker.predict(data(), verbose=1)
    assert "3/3" in capsys.readouterr().out
    with pytest.raises(ValueError, match="predict has no argument batch_size for data that are batches already"):
        ranker.predict(data(), batch_size=3)
    assert ranker.predict_on_batch(X)["click"].shape == (12, 3)


@pytest.mark.parametrize("eager", [True, False])
def test_data_without_batches_are_one_line(eager):
    ranker = MultiTaskRanker({"name": "shared_bottom", "units": [2]}, TASKS, Schema([Dense("x", shape=(3,))]))
    ranker.compile("sgd", run_eagerly=eager)
    rows = tf.data.Dataset.from_tensor_slices(({"x": X["x"]}, {name: values[:, 0] for name, values in Y.items()}))
    for call in (ranker.fit, ranker.evaluate, ranker.predict):
        with pytest.raises(ValueError, match=r"^feature 'x': expected 2 axes .* got a tensor of shape \(3,\)$"):
            call(rows, verbose=0)


@pytest.mark.slow
def test_epochs_count_whatever_the_callbacks_are(ranker):
    before = int(ranker.method_state.epoch)
    whole = keras.callbacks.CallbackList([Watching()], add_history=True, model=ranker)
    for callbacks in (None, Watching(), [Watching()], whole, whole):
        ranker.fit(data(), callbacks=callbacks, verbose=0)
    assert int(ranker.method_state.epoch) == before + 5


def test_run_eagerly_also_holds_in_predict(ranker, monkeypatch):
    eager = []
    call = ranker.call
    monkeypatch.setattr(ranker, "call", lambda inputs, training=False: eager.append(tf.executing_eagerly()) or call(
        inputs, training))
    ranker.predict(X)
    assert eager == [True]


@pytest.mark.parametrize("optimizer", [
    lambda **options: keras.optimizers.Adam(**options), lambda **options: LazyAdam(**options),
    lambda **options: keras.optimizers.SGD(**options),
])
def test_options_of_optimizers_are_refused_before_anything_changes(ranker, optimizer):
    before = ranker.optimizer
    for option in ({"gradient_accumulation_steps": 2}, {"loss_scale_factor": 2.0}):
        with pytest.raises(ValueError, match=f"a ranker takes no {next(iter(option))}, since"):
            ranker.compile(optimizer(learning_rate=0.1, **option))
    with pytest.raises(ValueError, match="mixed_float16 scales the loss"):
        ranker.compile(keras.optimizers.LossScaleOptimizer(optimizer(learning_rate=0.1)))
    assert ranker.optimizer is before


def test_saved_models_and_h5_files_point_to_what_works(ranker, tmp_path):
    for write in (ranker.export, lambda path: tf.saved_model.save(ranker, str(path))):
        with pytest.raises(ValueError, match=r"use tfmtl2r\.export\(ranker, folder\).*\.keras"):
            write(tmp_path / "served")
    with pytest.raises(ValueError, match=r"save it to a \.keras file, or serve it .* tfmtl2r\.export"):
        ranker.save(tmp_path / "model.h5")
    assert not list(tmp_path.iterdir())


@pytest.mark.product
@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["data set", "generator", "arrays", "validation", "sequence"])
def test_an_infinite_feature_is_an_error_and_a_missing_one_is_none(ranker, kind, value):
    """Also in a later batch than the first; the name may contain whatever it likes."""
    bad = X["x"].copy()
    bad[9, 1] = value

    def given(x):
        return {"data set": lambda: tf.data.Dataset.from_tensor_slices(({**X, "x": x}, Y)).batch(4),
                "generator": lambda: (part_of(x, start) for start in (0, 4, 8)),
                "validation": lambda: tf.data.Dataset.from_tensor_slices(({**X, "x": x}, Y)).batch(4),
                "sequence": lambda: Changed(x),
                "arrays": lambda: {**X, "x": x}}[kind]()

    class Changed(Sequence):
        def __getitem__(self, index):
            return part_of(x=self.x, start=4 * index)

        def __init__(self, x):
            super().__init__(workers=2)
            self.x = x

    def part_of(x, start):
        features, labels = part(start)
        return {**features, "x": x[start:start + 4]}, labels

    def run(x):
        options = {"validation": lambda: {"x": data(), "validation_data": given(x)},
                   "arrays": lambda: {"x": given(x), "y": Y}}.get(kind, lambda: {"x": given(x)})()
        ranker.fit(verbose=0, steps_per_epoch=None if kind == "arrays" else 3, **options)

    with pytest.raises(ValueError, match="feature 'x' is infinite in a batch of the data: mark a missing value"):
        run(bad)
    run(np.where(np.isinf(bad), np.nan, bad))


def test_an_infinite_feature_of_one_batch_is_an_error(ranker):
    bad = np.full((12, 3), np.inf, np.float32)
    for method in (ranker.train_on_batch, ranker.test_on_batch):
        with pytest.raises(ValueError, match="feature 'x' is infinite in a batch"):
            method({**X, "x": bad}, Y)
    ranker.train_on_batch({**X, "else": bad}, Y)  # no feature of the ranker
    for x in ({**X, "x": bad}, tf.data.Dataset.from_tensor_slices({**X, "x": bad}).batch(4)):
        with pytest.raises(ValueError, match="feature 'x' is infinite in a batch"):
            ranker.predict(x)
    with pytest.raises(ValueError, match="train_on_batch has no argument class_weight: labels have a weight per task"):
        ranker.train_on_batch(X, Y, class_weight={0: 1.0, 1: 2.0})


@pytest.mark.slow
def test_a_step_finds_an_infinite_feature_where_nothing_before_it_can(mirrored):
    """Distributed data, and loops of one's own."""
    bad = np.full((12, 3), np.inf, np.float32)
    strategy = mirrored()
    with strategy.scope():
        ranker = made()
    good, wrong = (strategy.experimental_distribute_dataset(
        tf.data.Dataset.from_tensor_slices(({**X, "x": x}, Y)).batch(4)) for x in (X["x"], bad))
    with pytest.raises(NotFiniteError, match="feature 'x' is infinite in a batch of the data: mark a missing value"):
        ranker.fit(wrong, epochs=1, steps_per_epoch=3, verbose=0)
    ranker.fit(good, epochs=1, steps_per_epoch=3, verbose=0)
    with pytest.raises(NotFiniteError, match="feature 'x' is infinite"):
        ranker.evaluate(wrong, steps=3, verbose=0)
    alone = made()
    alone.prepare(data())
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"x.* is infinite in a batch of the data"):
        tf.function(alone.train_step)(({**X, "x": bad}, Y))
