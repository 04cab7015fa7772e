"""One model for all preferences: what it reads, that it learns trade-offs, and that the default is the compiled one."""

import numpy as np
import pytest

from tfmtl2r import Dense, MultiTaskRanker, Schema, Task, architectures
from tfmtl2r._backend import keras, tf
from tfmtl2r.architectures.base import Architecture, Group
from tfmtl2r.batch import Batch
from tfmtl2r.layers.mlp import MLP
from tfmtl2r.preferences import drawn, per_list
from tfmtl2r.training import drawing
from tfmtl2r.training.method_state import Clock
from tfmtl2r.training.objectives import TaskLosses
from tfmtl2r.training.replicas import Replicas

TASKS = [Task("a", kind="regression", loss="mse", metrics=("mse",)),
         Task("b", kind="regression", loss="mse", metrics=("mse",))]
SMALL = {"name": "shared_bottom", "units": [16], "head_units": []}


def ranker(architecture=SMALL, conditioned=1.0, method="linear_scalarization", preference=None, **options):
    keras.utils.set_random_seed(4)
    model = MultiTaskRanker(architecture, TASKS, Schema([Dense("x", shape=(3,))]), conditioned=conditioned)
    model.compile(keras.optimizers.Adam(0.01), method=method, preference=preference, **options)
    return model


@pytest.fixture
def batch(rng):
    x = {"x": rng.normal(size=(4, 5, 3)).astype(np.float32), "list_size": np.array([5, 2, 4, 1], np.int32)}
    y = {name: rng.normal(size=(4, 5)).astype(np.float32) for name in ("a", "b")}
    return x, y


def test_drawn_preferences_are_dirichlet():
    draws = np.array([drawn(3, 1.0, (1, step)) for step in range(600)])
    np.testing.assert_allclose(draws.sum(1), 1, atol=1e-6)
    assert draws.min() > 0
    np.testing.assert_allclose(draws.mean(0), 1 / 3, atol=0.04)
    np.testing.assert_allclose(draws.var(0), 2 / 9 / 4, rtol=0.2)  # a (a0 - a) / a0^2 / (a0 + 1)


def test_requests_that_are_no_preference_get_the_default():
    asked = [[2, 6], [0, 3], [0, 0], [np.nan, 1], [np.inf, 1], [-1, 2], [3e38, 3e38]]
    found = per_list(tf.constant(asked, tf.float32), tf.constant([0.4, 0.6]), len(asked))
    np.testing.assert_allclose(found, [[0.25, 0.75], [0, 1], *[[0.4, 0.6]] * 5], atol=1e-6)


def test_every_list_has_its_own_draw(batch):
    """The preference times the losses is exactly the mean over lists of each list's preference times its losses."""
    rng = np.random.default_rng(0)
    scores = {name: tf.constant(rng.normal(size=(4, 5)), tf.float32) for name in ("a", "b")}
    clock = Clock(tf.constant(3), tf.constant(0), (1, 2), tf.constant([0.5, 0.5]))
    plain = Batch.of(tf.nest.map_structure(tf.constant, batch), Schema([Dense("x", shape=(3,))]), clock.preference)
    (ours, mean), (again, _) = (drawing.per_list(plain, clock, 1.0, (5, 6), Replicas()) for _ in range(2))
    rows = ours.preference.numpy()
    np.testing.assert_allclose(rows.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(mean.preference, rows.mean(0), rtol=1e-6)
    np.testing.assert_array_equal(again.preference, rows)
    assert len(np.unique(rows[:, 0])) == 4
    losses = TaskLosses(TASKS, has_lists=True)
    values, _ = losses.per_list(plain, scores)
    expected = np.mean(np.sum(rows.T * values.numpy(), 0))
    np.testing.assert_allclose(np.sum(mean.preference * losses(ours, scores, Replicas()).total), expected, rtol=1e-5)


def test_draws_do_not_depend_on_the_division_of_a_batch(batch):
    class Second(Replicas):
        """The second of two replicas; the first has three lists."""

        def sum(self, tensors):
            return tensors + 3

        def places(self, numbers, size):
            return numbers + 3

    clock = Clock(tf.constant(3), tf.constant(0), (1, 2), tf.constant([0.5, 0.5]))
    data = Batch.of(tf.nest.map_structure(tf.constant, batch), Schema([Dense("x", shape=(3,))]), clock.preference)
    whole, mean = drawing.per_list(data, clock, 1.0, (5, 6), Replicas())
    last = {name: part[3:] for name, part in batch[0].items()}, {name: part[3:] for name, part in batch[1].items()}
    part = Batch.of(tf.nest.map_structure(tf.constant, last), Schema([Dense("x", shape=(3,))]), clock.preference)
    ours, again = drawing.per_list(part, clock, 1.0, (5, 6), Second())
    np.testing.assert_array_equal(ours.preference, whole.preference[3:])
    np.testing.assert_array_equal(again.preference, mean.preference)


def test_training_draws_by_list_only_where_the_method_is_linear(batch, monkeypatch):
    seen, called = [], Architecture.call

    def call(self, batch, training=False):
        seen.append(batch.preference.numpy())
        return called(self, batch, training)

    monkeypatch.setattr(Architecture, "call", call)
    for method in ("linear_scalarization", "soft_weighted_chebyshev"):
        model = ranker(method=method, run_eagerly=True)
        model.prepare(batch)
        model.train_step(batch)
    assert len(np.unique(seen[0][:, 0])) == 4
    assert len(np.unique(seen[1][:, 0])) == 1


TWO_GRADIENTS = {"name": "sdmgrad", "solve": "stochastic"}


@pytest.mark.parametrize(("method", "mode"), [
    ("upgrad", "parameters"), *(pytest.param(*case, marks=pytest.mark.slow) for case in [
        (TWO_GRADIENTS, "parameters"), ("linear_scalarization", "parameters"), ("upgrad", "features"),
        ("cosmos", "parameters"),
    ]),
])  # fmt: skip
def test_trains_in_every_mode(batch, method, mode):
    model = ranker(method=method, gradients=mode)
    data = tf.data.Dataset.from_tensors(batch).repeat(20)
    history = model.fit(data, epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


def test_a_method_without_preference_cannot_teach_one():
    with pytest.raises(ValueError, match="learns what the preference means from the method, but MGDA has"):
        ranker(method="mgda")


@pytest.mark.slow
def test_the_preference_is_that_of_the_last_compile_whatever_weights_are_loaded(batch, tmp_path):
    x, y = batch
    model = ranker(preference=[0.2, 0.8])
    model.fit(tf.data.Dataset.from_tensors((x, y)).repeat(10), epochs=1, verbose=0)
    before = model.scores(x)["a"].numpy()
    model.save_weights(tmp_path / "first.weights.h5")
    model.compile(keras.optimizers.Adam(0.01), preference=[0.9, 0.1])
    np.testing.assert_allclose(model.scores(x)["a"], model(x)["a"], atol=1e-6)
    assert np.abs(model.scores(x)["a"] - before).max() > 1e-4
    other = ranker(preference=[0.9, 0.1])
    other.prepare((x, y))
    other.load_weights(tmp_path / "first.weights.h5")
    np.testing.assert_allclose(other.get_compile_config()["preference"], [0.9, 0.1], rtol=1e-6)
    np.testing.assert_allclose(other.scores(x)["a"], model.scores(x)["a"], atol=1e-6)
    other.set_preference([0.2, 0.8])
    np.testing.assert_allclose(other.scores(x)["a"], before, atol=1e-6)
    np.testing.assert_allclose(other.get_compile_config()["preference"], [0.2, 0.8], rtol=1e-6)
    predicted = other.predict(x)["a"][0]
    first = tf.data.Dataset.from_tensors(tf.nest.map_structure(lambda values: values[:1], (x, y)))
    mse = other.evaluate(first, verbose=0, return_dict=True)["a_mse"]
    assert mse == pytest.approx(np.mean((predicted - y["a"][0]) ** 2), rel=1e-5)


def test_a_preference_before_compile_is_an_error():
    model = MultiTaskRanker(SMALL, TASKS, conditioned=1.0)
    with pytest.raises(ValueError, match="compile the ranker first"):
        model.set_preference([1, 1])
    model.compile()
    model.set_preference([1, 3])
    np.testing.assert_allclose(model.preference, [0.25, 0.75])


@pytest.mark.slow
def test_the_preference_changes_the_scores_and_the_default_is_the_compiled_one(batch):
    x, y = batch
    model = ranker(preference=[0.2, 0.8])
    model.fit(tf.data.Dataset.from_tensors((x, y)).repeat(30), epochs=2, verbose=0)
    plain, rows = model.scores(x), np.array([[1, 0], [0.2, 0.8], [0, 1], [2, 8]], np.float32)
    asked = model.scores({**x, "preference": rows})
    for task in ("a", "b"):
        np.testing.assert_allclose(asked[task].numpy()[[1, 3]], plain[task].numpy()[[1, 3]], atol=1e-6)
        assert np.abs(asked[task][0] - plain[task][0]).max() > 1e-3
    np.testing.assert_allclose(model.predict(x, preference=[2, 8])["a"], model.predict(x)["a"], atol=1e-6)
    np.testing.assert_allclose(model.predict(x, preference=[3, 0])["b"][0], asked["b"][0], atol=1e-6)
    model.set_preference([0.5, 0.5])
    assert np.abs(model.scores(x)["a"] - plain["a"]).max() > 1e-5
    np.testing.assert_allclose(model(x)["a"], model.scores(x)["a"], atol=1e-6)


@pytest.mark.slow
def test_saved_and_loaded(batch, tmp_path):
    x, y = batch
    model = ranker({"name": "mmoe", "num_experts": 2, "expert_units": [6], "head_units": [4]}, preference=[0.3, 0.7])
    model.fit(tf.data.Dataset.from_tensors((x, y)).repeat(5), epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for request in (x, {**x, "preference": np.tile([[0.9, 0.1]], (4, 1)).astype(np.float32)}):
        np.testing.assert_allclose(loaded.scores(request)["b"], model.scores(request)["b"], atol=1e-6)


class OneOutput(Architecture):
    """A score for two tasks that want 0 and 1 of it: what one gains the other loses."""

    def connect(self, tasks, schema, **options):
        super().connect(tasks, schema, **options)
        self.modulation.trainable = False  # with it the tasks could part
        self.net = MLP((16, 1), activation="tanh", name="net")
        self.net.build((None, self.encoder.width))

    def shared(self, batch, training):
        return [self.net(self.encoder(batch=batch, training=training))]

    def heads(self, cut, batch, training):
        scores = batch.as_lists(cut[0].copies()[..., 0])
        return dict(zip(self.tasks, tf.unstack(scores, num=2), strict=True))

    def variable_groups(self):
        return [Group((0, 1), [*self.encoder.trainable_variables, *self.net.trainable_variables])]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["linear_scalarization", "cosmos", "soft_weighted_chebyshev"])
def test_the_whole_front_from_one_training(method, registered):
    """Losses y^2 and (1 - y)^2 weighed by r: the front is y = r_b, of hypervolume 5/6 towards (1, 1)."""
    model = ranker(registered(architectures.registry, OneOutput)(), method=method)
    x = {"x": np.zeros((8, 1, 3), np.float32), "list_size": np.ones(8, np.int32)}
    y = {"a": np.zeros((8, 1), np.float32), "b": np.ones((8, 1), np.float32)}
    model.fit(tf.data.Dataset.from_tensors((x, y)).repeat(1000), epochs=1, verbose=0)
    shares = np.linspace(0, 1, 21, dtype=np.float32)
    asked = np.stack([1 - shares, shares], axis=1)
    one = {"x": np.zeros((21, 1, 3), np.float32), "list_size": np.ones(21, np.int32), "preference": asked}
    found = model.scores(one)["a"].numpy()[:, 0]
    assert (np.diff(found) > 0).all(), "monotone along the preference"
    assert volume_of(found) >= 0.97 * volume_of(shares)


def volume_of(outputs):
    """Hypervolume of the points (y^2, (1 - y)^2) towards (1, 1), for rising y."""
    volume, before = 0.0, 1.0
    for y in np.clip(outputs, 0, 1):
        volume += (1 - y**2) * max(0.0, before - (1 - y) ** 2)
        before = min(before, (1 - y) ** 2)
    return volume


def test_a_training_batch_has_no_preference_of_its_own(batch):
    """The ranker would read that one, and be trained for another."""
    x, y = batch
    given = {**x, "preference": np.tile([[0.9, 0.1]], (4, 1)).astype(np.float32)}
    model = ranker()
    with pytest.raises(ValueError, match="a training batch has 'preference'"):
        model.fit(tf.data.Dataset.from_tensors((given, y)), epochs=1, verbose=0)
    model.evaluate(tf.data.Dataset.from_tensors((given, y)), verbose=0)


def test_errors():
    with pytest.raises(ValueError, match="concentration of a Dirichlet distribution, above 0, not 0"):
        ranker(conditioned=0.0)
    with pytest.raises(ValueError, match="a feature may not be called 'preference'"):
        MultiTaskRanker(SMALL, TASKS, Schema([Dense("preference")]), conditioned=1.0)


@pytest.mark.parametrize("preference", [[0.5, 0.5], [0.9, 0.1]])
def test_the_logged_loss_is_weighted_by_the_default_preference_and_not_by_the_last_one_drawn(preference, batch):
    logs = ranker(preference=preference).fit(*batch, batch_size=2, epochs=3, verbose=0).history
    losses = np.stack([logs["a_loss"], logs["b_loss"]])
    np.testing.assert_allclose(logs["loss"], 2 * np.array(preference) @ losses, rtol=1e-5)
