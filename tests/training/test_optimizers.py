"""Optimizers for tables: Keras' arithmetic on the rows of the batch, all else untouched, saved with the model."""

import numpy as np
import pytest

from tfmtl2r import Adagrad, Category, Dense, LazyAdam, MultiTaskRanker, Schema, Task, settings
from tfmtl2r._backend import keras, tf
from tfmtl2r.training import optimizers, rows
from tfmtl2r.training.schedules import Schedule

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

@pytest.mark.parametrize("kind", [LazyAdam, Adagrad])
@pytest.mark.parametrize(
    "option",
    [{"amsgrad": True}, {"gradient_accumulation_steps": 2}, {"loss_scale_factor": 2.0}], ids=str,
)
def test_options_that_cannot_be_honoured_are_refused(kind, option):
    (name,) = option
    with pytest.raises(ValueError, match=rf"{kind.__name__}.* no {name}.*(use|leave it out)"):
        kind(0.1, **option)
    if name != "amsgrad":  # a ranker refuses these options of every Keras optimizer
        with pytest.raises(ValueError, match=rf"SGD: a ranker takes no {name}, since"):
            optimizers.get(keras.optimizers.SGD(0.1, **option))
    assert kind.from_config(kind(0.1, clipnorm=1.0).get_config()).clipnorm == 1.0


@pytest.mark.parametrize("option", [
    {"weight_decay": 0.1}, {"use_ema": True, "ema_momentum": 0.5}, {"use_ema": True, "ema_overwrite_frequency": 2},
], ids=str)
def test_weight_decay_and_moving_averages_are_those_of_keras(rng, option):
    """Weight decay also shrinks row 0, which no step reads."""
    pair = [(LazyAdam(0.1, **option), table(rng)), (keras.optimizers.Adam(0.1, **option), None)]
    pair[1] = pair[1][0], keras.Variable(pair[0][1].numpy(), name="embeddings")
    everywhere = [slices(rng, list(range(ROWS))) for _ in range(3)]
    for optimizer, variable in pair:
        for gradient in everywhere:
            optimizer.apply([gradient], [variable])
        optimizer.finalize_variable_values([variable])
    np.testing.assert_allclose(pair[0][1], pair[1][1], rtol=1e-5, atol=1e-6)
    if "weight_decay" in option:
        lazy, start = LazyAdam(0.1, **option), table(rng)
        before = start.numpy()
        lazy.apply([slices(rng, [1, 1])], [start])
        np.testing.assert_allclose(start[0], before[0] * (1 - 0.1 * 0.1), rtol=1e-6)


def gradients_of(optimizer):
    """What reaches the update from now on: a list of pairs of a dense gradient and the variable's shape."""
    seen, update = [], optimizer.update_step

    def update_step(gradient, variable, rate):
        seen.append((tf.convert_to_tensor(gradient).numpy(), tuple(variable.shape)))
        update(gradient, variable, rate)

    optimizer.update_step = update_step
    return seen


CLIPPING = [{"clipnorm": 0.5}, {"global_clipnorm": 0.5}, {"clipvalue": 0.25}]


@pytest.mark.parametrize("kind", [LazyAdam, Adagrad])
@pytest.mark.parametrize("option", CLIPPING, ids=str)
def test_clipping_is_that_of_the_dense_gradient(rng, kind, option):
    """Rows read several times count once, with the sum of their gradients."""
    ours, theirs = kind(0.1, **option), keras.optimizers.SGD(0.1, **option)
    seen, expected = gradients_of(ours), gradients_of(theirs)
    gradient, other = slices(rng, [1, 4, 1, 1, 4, 1]), tf.constant(rng.normal(size=2), tf.float32)
    for optimizer, first in ((ours, gradient), (theirs, tf.convert_to_tensor(gradient))):
        optimizer.apply([first, other], [table(rng), keras.Variable(np.ones(2))])
    assert np.abs(expected[0][0] - tf.convert_to_tensor(gradient)).max() > 0.1
    for (clipped, _), (dense, _) in zip(seen, expected, strict=True):
        np.testing.assert_allclose(clipped, dense, rtol=1e-5, atol=1e-7)


@pytest.fixture(scope="module")
def two_replicas(mirrored):
    return mirrored()


@pytest.mark.parametrize("option", CLIPPING, ids=str)
def test_replicas_clip_the_gradient_of_the_whole_batch(rng, two_replicas, option):
    """Row 1 is read on both replicas; each replica's share alone would be clipped less, or more."""
    read = np.array([[1, 4, 1], [1, 2, 1]])
    values = rng.normal(size=(2, 3, WIDTH)).astype(np.float32)
    start, other = rng.normal(size=(ROWS, WIDTH)).astype(np.float32), rng.normal(size=(2, 2)).astype(np.float32)

    def variables():
        return keras.Variable(start, name="embeddings"), keras.Variable(np.ones(2))

    alone, (one, two) = Adagrad(0.5, **option), variables()
    whole = tf.IndexedSlices(values.reshape(-1, WIDTH), read.reshape(-1), tf.constant([ROWS, WIDTH]))
    alone.apply([whole, tf.constant(other.sum(0))], [one, two])
    with two_replicas.scope():
        both, shared = Adagrad(0.5, **option), variables()
        both.build(list(shared))

    @tf.function
    def step():
        place = tf.distribute.get_replica_context().replica_id_in_sync_group
        part = tf.IndexedSlices(tf.gather(values, place), tf.gather(read, place), tf.constant([ROWS, WIDTH]))
        both.apply([part, tf.gather(other, place)], list(shared))

    two_replicas.run(step)
    for ours, theirs in zip((*shared, *both.variables), (one, two, *alone.variables), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("method", "mode"), [("ls", "parameters"), ("mgda", "features"), ("mgda", "parameters")])
def test_clipping_knows_no_engine(method, mode):
    """One row read 60 times; in every mode its gradient is the clipped one of the dense table."""
    found = []
    for option in ({}, {"clipnorm": 0.01}):
        model = trained(LazyAdam(0.1, **option), method, mode, epochs=0)
        seen = gradients_of(model.optimizer)
        model.train_step(({"x": tf.linspace(-1.0, 1.0, 60), "brand": tf.ones([60], tf.int32)},
                          {"click": tf.ones([60]), "buy": tf.ones([60])}))
        found.append(next(gradient for gradient, shape in seen if shape == (9, WIDTH)))
    plain, clipped = found
    assert np.linalg.norm(plain) > 0.02
    np.testing.assert_allclose(clipped, 0.01 * plain / np.linalg.norm(plain), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(
    ("kind", "option", "method", "mode"),
    [
        (LazyAdam, {"global_clipnorm": 0.1}, "mgda", "parameters"),
        (LazyAdam, {"clipvalue": 0.1}, "ls", "parameters"),
        (Adagrad, {"global_clipnorm": 0.1}, "mgda", "features"),
        (Adagrad, {"clipnorm": 0.1}, "ls", "parameters"),
        (keras.optimizers.Adam, {}, "ls", "parameters"),
    ],
)
def test_nothing_of_the_size_of_a_table_is_made(kind, option, method, mode):
    """But by Keras' own Adam, which shows that the test sees it."""
    size = 1013
    tasks = [Task("click", kind="binary", loss="bce", metrics=())]
    schema = Schema([Dense("x"), Category("id", buckets=size, dim=WIDTH)])
    model = MultiTaskRanker({"name": "shared_bottom", "units": [4], "head_units": []}, tasks, schema)
    model.compile(kind(0.1, **option), method=method, gradients=mode, train_metrics=False)
    batch = ({"x": tf.ones([6]), "id": tf.ones([6], tf.int32)}, {"click": tf.ones([6])})
    model.prepare(batch)
    assert size in {v.shape[0] for v in model.trainable_variables}
    graph = tf.function(model.train_step, autograph=False).get_concrete_function(batch).graph
    large = [op.name for op in graph.get_operations() for out in op.outputs if out.shape.rank and size in out.shape]
    assert bool(large) == (kind is keras.optimizers.Adam), large


def test_numbers_per_parameter_of_a_huge_table_are_refused(monkeypatch):
    width, tasks = 16, 5
    rows.refuse_huge("brand", tf.TensorShape([2**30 // (4 * tasks * width), width]), tasks)
    with pytest.raises(ValueError, match=r"16,777,216 x 16 embedding table 'brand' and 5 tasks .* 5\.0 GiB.*mgda"):
        rows.refuse_huge("brand", tf.TensorShape([2**24, width]), tasks)
    monkeypatch.setattr(rows, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match=r"the 9 x 3 embedding table '.*embeddings.*' and 2 tasks"):
        trained("adam", method="moco")


def trained(optimizer, method="mgda", mode="parameters", epochs=2):
    keras.utils.set_random_seed(2)
    schema = Schema([Dense("x"), Category("brand", vocabulary=tuple("abcdefgh"), dim=WIDTH)])
    model = MultiTaskRanker({"name": "shared_bottom", "units": [4], "head_units": []},
                            [Task("click", kind="binary", loss="bce"), Task("buy", kind="binary", loss="bce")], schema)
    model.compile(optimizer, method=method, gradients=mode)
    if epochs:
        fit(model, epochs)
    return model


def fit(model, epochs):
    rng = np.random.default_rng(0)
    x = {"x": rng.normal(size=12).astype(np.float32), "brand": rng.integers(1, 5, 12).astype(np.int32)}
    y = {"click": rng.integers(0, 2, 12).astype(np.float32), "buy": rng.integers(0, 2, 12).astype(np.float32)}
    model.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(6), epochs=epochs, verbose=0)


@pytest.mark.parametrize(("name", "mode"), [("adam", "parameters"), ("adam", "features"), ("adagrad", "parameters")])
@pytest.mark.slow
def test_rows_that_no_batch_reads_keep_their_start(name, mode):
    model = trained(name, mode=mode)
    keras.utils.set_random_seed(2)
    start = trained(keras.optimizers.SGD(0.0), mode=mode, epochs=1)
    (ours,), (theirs,) = ([v.numpy() for v in m.trainable_variables if optimizers.is_table(v)] for m in (model, start))
    moved = np.abs(ours - theirs).max(axis=1) > 0
    assert moved.tolist() == [False, True, True, True, True, False, False, False, False]


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.parametrize("kind", [LazyAdam, Adagrad, optimizers.SGD])
def test_adaptive_clipping_bounds_every_change_and_keeps_small_updates(kind, rng):
    """Clippy on dense variables and on the rows of a table; the direction of an update stays."""
    start = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    for rate in (1e-4, 3.0):
        free, dense, sparse = (keras.Variable(start, name="embeddings") for _ in range(3))
        gradient = tf.constant(rng.normal(size=(ROWS, WIDTH)), tf.float32)
        clipped = kind(rate, adaptive_clip=True)
        assert type(clipped).from_config(clipped.get_config()).adaptive_clip
        kind(rate).apply([gradient], [free])
        clipped.apply([gradient], [dense])
        rows = tf.IndexedSlices(gradient[1:3], tf.constant([1, 2]), tf.constant([ROWS, WIDTH]))
        kind(rate, adaptive_clip=True).apply([rows], [sparse])
        wanted, change = start - free.numpy(), start - dense.numpy()
        allowed = 0.5 * np.abs(start) + 0.01
        share = min(1, (allowed / np.abs(wanted)).min())
        assert (share < 1) == (rate > 1)
        np.testing.assert_allclose(change, share * wanted, rtol=1e-4, atol=1e-6)
        own = min(1, (allowed / np.abs(wanted))[1:3].min())
        np.testing.assert_allclose(start[1:3] - sparse.numpy()[1:3], own * wanted[1:3], rtol=1e-4, atol=1e-6)


def test_descent_reads_only_the_rows_of_a_batch(rng):
    """And is Keras' own, bit by bit; updates with momentum cannot be clipped."""
    start, gradient = rng.normal(size=(ROWS, WIDTH)), slices(rng, [1, 4, 1])
    mine, theirs = (keras.Variable(start, name="embeddings") for _ in range(2))
    optimizers.SGD(0.1).apply([gradient], [mine])
    keras.optimizers.SGD(0.1).apply([gradient], [theirs])
    np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(ValueError, match="SGD clips no update with momentum"):
        optimizers.SGD(0.1, momentum=0.9, adaptive_clip=True)


@pytest.mark.parametrize(("given", "kind"), [("sgd", optimizers.SGD), ({"name": "adagrad"}, Adagrad), ({}, LazyAdam)])
def test_the_optimizer_of_an_experiment(given, kind):
    """Every key of the section reaches the optimizer."""
    options = {"learning_rate": 0.5, "clip_norm": 2.0, "weight_decay": 0.25, "ema": 0.75, "clip": "adaptive"}
    made = optimizers.chosen(settings.Optimizer.of({**settings.Optimizer.of(given).tree(), **options}), 10)
    assert type(made) is kind
    found = (float(made.learning_rate), made.global_clipnorm, made.weight_decay, made.ema_momentum, made.adaptive_clip)
    assert found == (0.5, 2.0, 0.25, 0.75, True)


def test_schedules_grow_and_fall():
    def rates(kind, warmup):
        return [float(Schedule(2.0, kind, warmup, 6)(tf.constant(step, tf.int64))) for step in range(6)]

    np.testing.assert_allclose(rates("constant", 2), [1, 2, 2, 2, 2, 2])
    np.testing.assert_allclose(rates("linear", 0), 2 - np.arange(6) / 3, rtol=1e-6)
    np.testing.assert_allclose(rates("cosine", 2), [1, 2, *(1 + np.cos(np.pi * np.arange(4) / 4))], rtol=1e-6)
    with pytest.raises(ValueError, match="warmup_steps is 6, but the training has 6 steps: make the warm-up shorter"):
        Schedule(2.0, "constant", 6, 6)
    with pytest.raises(ValueError, match="schedule must be one of constant, linear, cosine, not 'step'"):
        Schedule(2.0, "step")
