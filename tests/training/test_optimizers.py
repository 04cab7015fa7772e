"""Optimizers for tables: Keras' arithmetic on the rows of the batch, all else untouched, saved with the model."""

import numpy as np
import pytest

from tfmtl2r import Adagrad, Category, Dense, LazyAdam, MultiTaskRanker, Schema, Task
from tfmtl2r._backend import keras, tf
from tfmtl2r.training import optimizers

ROWS, WIDTH = 6, 3


def slices(rng, rows):
    return tf.IndexedSlices(
        tf.constant(rng.normal(size=(len(rows), WIDTH)), tf.float32), tf.constant(rows), tf.constant([ROWS, WIDTH])
    )


def table(rng):
    return keras.Variable(rng.normal(size=(ROWS, WIDTH)).astype(np.float32), name="embeddings")


def test_lazy_adam_is_adam_while_every_row_is_read(rng):
    """Every row in every step: the lazy rule and the dense one are the same, repeated rows summed."""
    ours, theirs = table(rng), keras.Variable(np.zeros((ROWS, WIDTH)))
    theirs.assign(ours)
    lazy, dense = LazyAdam(0.05), keras.optimizers.Adam(0.05)
    for _ in range(4):
        gradient = slices(rng, [0, 1, 2, 3, 4, 5, 2, 2])
        lazy.apply([gradient], [ours])
        dense.apply([tf.convert_to_tensor(gradient)], [theirs])
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_lazy_adam_leaves_other_rows_alone(rng):
    variable = table(rng)
    before = variable.numpy()
    optimizer = LazyAdam(0.05)
    for _ in range(3):
        optimizer.apply([slices(rng, [1, 4, 1])], [variable])
    moved = np.abs(variable.numpy() - before).max(axis=1) > 0
    assert moved.tolist() == [False, True, False, False, True, False]
    assert (optimizer._momentums[0].numpy()[[0, 2, 3, 5]] == 0).all()
    assert (optimizer._velocities[0].numpy()[[1, 4]] > 0).all()


def test_dense_gradients_are_keras_own(rng):
    for ours, theirs in ((LazyAdam(0.1), keras.optimizers.Adam(0.1)), (Adagrad(0.1), keras.optimizers.Adagrad(0.1))):
        start = rng.normal(size=(4, 2))
        one, two = keras.Variable(start), keras.Variable(start)
        for _ in range(3):
            gradient = tf.constant(rng.normal(size=(4, 2)), tf.float32)
            ours.apply([gradient], [one])
            theirs.apply([gradient], [two])
        np.testing.assert_array_equal(one, two)


def test_adagrad_has_one_number_per_row(rng):
    variable = table(rng)
    before = variable.numpy()
    optimizer = Adagrad(0.5, initial_accumulator_value=0.1)
    gradient = slices(rng, [1, 4, 1])
    optimizer.apply([gradient], [variable])
    assert optimizer._accumulators[0].shape == (ROWS, 1)
    summed = tf.convert_to_tensor(gradient).numpy()
    total = 0.1 + (summed**2).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(optimizer._accumulators[0], total, rtol=1e-5)
    np.testing.assert_allclose(variable, before - 0.5 * summed / np.sqrt(total + 1e-7), rtol=1e-5, atol=1e-6)


def test_names():
    assert type(optimizers.get("adam")) is LazyAdam
    assert type(optimizers.get("Adagrad")) is Adagrad
    assert type(optimizers.get("sgd")) is keras.optimizers.SGD
    own = keras.optimizers.Adam()
    assert optimizers.get(own) is own
    with pytest.raises(ValueError, match="no amsgrad"):
        LazyAdam(amsgrad=True)


def trained(optimizer, method="mgda", mode="parameters", epochs=2):
    keras.utils.set_random_seed(2)
    schema = Schema([Dense("x"), Category("brand", vocabulary=tuple("abcdefgh"), dim=WIDTH)])
    model = MultiTaskRanker({"name": "shared_bottom", "units": [4], "head_units": []},
                            [Task("click", kind="binary", loss="bce"), Task("buy", kind="binary", loss="bce")], schema)
    model.compile(optimizer, method=method, gradients=mode)
    fit(model, epochs)
    return model


def fit(model, epochs):
    rng = np.random.default_rng(0)
    x = {"x": rng.normal(size=12).astype(np.float32), "brand": rng.integers(1, 5, 12).astype(np.int32)}
    y = {"click": rng.integers(0, 2, 12).astype(np.float32), "buy": rng.integers(0, 2, 12).astype(np.float32)}
    model.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(6), epochs=epochs, verbose=0)


@pytest.mark.parametrize(("name", "mode"), [("adam", "parameters"), ("adam", "features"), ("adagrad", "parameters")])
def test_rows_that_no_batch_reads_keep_their_start(name, mode):
    model = trained(name, mode=mode)
    keras.utils.set_random_seed(2)
    start = trained(keras.optimizers.SGD(0.0), mode=mode, epochs=1)
    (ours,), (theirs,) = ([v.numpy() for v in m.trainable_variables if optimizers.is_table(v)] for m in (model, start))
    moved = np.abs(ours - theirs).max(axis=1) > 0
    assert moved.tolist() == [False, True, True, True, True, False, False, False, False]


@pytest.mark.parametrize("name", ["adam", "adagrad"])
def test_saved_with_the_model(tmp_path, name):
    straight = trained(name)
    straight.save(tmp_path / "model.keras")
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    assert type(resumed.optimizer) is type(straight.optimizer)
    for model in (straight, resumed):
        fit(model, 1)
    for ours, theirs in zip(resumed.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-7)


@pytest.mark.parametrize("mode", ["parameters", "features"])
def test_no_step_reads_a_whole_table(mode):
    """TensorFlow copies a variable that an optimizer writes row by row whenever somebody reads all of it."""
    model = trained("adam", mode=mode, epochs=1)
    (table,) = [v for v in model.trainable_variables if optimizers.is_table(v)]
    rng = np.random.default_rng(0)
    batch = ({"x": rng.normal(size=6).astype(np.float32), "brand": rng.integers(1, 5, 6).astype(np.int32)},
             {name: np.ones(6, np.float32) for name in ("click", "buy")})
    step = tf.function(model.train_step, autograph=False)
    graph = step.get_concrete_function(tf.nest.map_structure(tf.constant, batch)).graph
    slots = [v.value for v in model.optimizer.variables if v.shape == table.shape]
    assert len(slots) == 2
    for variable in (table.value, *slots):
        (inside,) = [placeholder for handle, placeholder in graph.captures if handle is variable.handle]
        readers = {op.type for op in inside.consumers()}
        assert "ResourceGather" in readers
        assert "ReadVariableOp" not in readers
