"""Small heads: a second, linear head per task in training, which predictions never see."""

import functools

import numpy as np
import pytest
from architecture_problem import VALID, connected

import tfmtl2r
from tfmtl2r import MultiTaskRanker, Task, architectures, methods
from tfmtl2r._backend import keras, tf
from tfmtl2r.architectures.base import small_head_of
from tfmtl2r.batch import Batch
from tfmtl2r.layers import randomness
from tfmtl2r.testing.architecture import LENGTH, NUMBERS, SCHEMA, TASKS, Ones, make_features
from tfmtl2r.training.engine import Engine
from tfmtl2r.training.method_state import Clock
from tfmtl2r.training.objectives import TaskLosses
from tfmtl2r.training.replicas import Replicas

NAMES = [name for name in architectures.names() if name != "ensemble"]  # its base has the option
GAMMA = 0.7
SMOOTH = {"shared_bottom": {"activation": "tanh"}, "drgrad": {"activation": "tanh", "router": False, "updater": False},
          "esmm": {"activation": "tanh"}, "aitm": {"activation": "tanh", "calibrator": 0.0},
          "deepmtl2r": {"heads": "shared"}}  # fmt: skip
RANKING = tuple(Task(task, kind="binary", loss="bce", metrics=()) for task in TASKS)


@pytest.fixture
def features(rng):
    return make_features(rng)


@pytest.fixture
def labels(rng):
    return {task: tf.constant(rng.integers(0, 2, (3, LENGTH)), tf.float32) for task in TASKS}


@functools.cache
def pair(name="shared_bottom", **options):
    """An architecture without and with small heads, of the same weights."""
    found = []
    for gamma in (0.0, GAMMA):
        keras.utils.set_random_seed(3)
        found.append(connected(name, small_heads=gamma, **options))
    return found


def same_draws(architecture, features, training):
    with randomness.scope(tf.constant([7, 8], tf.int32)):
        return architecture(batch=Batch(features, valid=VALID), training=training)


def by_path(variables, gradients):
    return {v.path: np.array(tf.convert_to_tensor(g)) for v, g in zip(variables, gradients, strict=True)}


def test_every_architecture_has_the_option():
    for name in NAMES:
        assert "small_heads" in [option.name for option in architectures.registry.options(name)]


@pytest.mark.product
@pytest.mark.parametrize("name", NAMES)
def test_only_training_sees_them(features, name):
    architecture = connected(name, small_heads=GAMMA)
    small = [small_head_of(task) for task in TASKS]
    scores = architecture(batch=Batch(features, valid=VALID), training=True)
    assert list(scores) == [*TASKS, *small]
    assert all(scores[key].shape == (3, LENGTH) and scores[key].dtype == tf.float32 for key in small)
    assert list(architecture(batch=Batch(features, valid=VALID))) == list(TASKS)
    listed = [id(v) for group in architecture.groups() for v in group.variables]
    assert sorted(listed) == sorted(id(v) for v in architecture.trainable_variables)


def test_small_heads_of_watch_next_explain_the_position_away(features):
    """A small head shapes the experts, so it must not have to explain by them what the position explains."""
    architecture = connected("watch_next", small_heads=GAMMA, biased=("click",), position_dropout=0.0)
    batches = (Batch({**features, "age": tf.fill([3], age)}, valid=VALID) for age in (1.0, 9.0))
    near, far = (architecture(batch=batch, training=True) for batch in batches)
    for task in TASKS:
        moved = [(far[key] - near[key]).numpy()[VALID] for key in (task, small_head_of(task))]
        np.testing.assert_allclose(moved[0], moved[1], atol=1e-5)
        assert np.abs(moved[0]).max() > 1e-3 if task == "click" else not moved[0].any()


@pytest.mark.product
@pytest.mark.parametrize("name", NAMES)
def test_same_weights_same_predictions(features, name):
    """Made with the same seed, too: the small heads are drawn last."""
    plain, helped = pair(name, **SMOOTH.get(name, {}))
    assert len(helped.weights) == len(plain.weights) + 2
    for training in (False, True):
        expected, scores = (same_draws(each, features, training) for each in (plain, helped))
        for task in TASKS:
            np.testing.assert_array_equal(scores[task], expected[task])


@pytest.mark.parametrize(("name", "mode"), [
    ("shared_bottom", "ls"), ("shared_bottom", "parameters"),
    *((name, "features") for name in SMOOTH),
    *(pytest.param(name, "parameters", marks=pytest.mark.slow) for name in SMOOTH if name != "shared_bottom"),
])  # fmt: skip
def test_gradients_are_those_of_the_sum(features, labels, name, mode):
    """Shared: g + gamma g_small; towers: g; small heads: gamma g_small. Item weights count for both."""
    helped = pair(name, **SMOOTH[name])[1]
    weights = {"click": tf.constant(np.linspace(0.5, 2.0, 3 * LENGTH).reshape(3, LENGTH), tf.float32)}
    batch, plain_losses = Batch(features, labels, weights, valid=VALID), TaskLosses(RANKING, has_lists=True)
    variables = helped.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        scores = helped(batch=Batch(features, valid=VALID), training=True)
        small = {task: scores[small_head_of(task)] for task in TASKS}
        parts = [plain_losses(batch, {task: s[task] for task in TASKS}, Replicas()) for s in (scores, small)]
        totals = [tf.reduce_sum(part.local) for part in parts]
    main, aside = (by_path(variables, tape.gradient(total, [v.value for v in variables], unconnected_gradients="zero"))
                   for total in totals)
    method = methods.get("ls") if mode == "ls" else Ones()
    clock = Clock(0, 0, tf.constant([0, 0], tf.int32), tf.fill([3], 1 / 3))
    engine = Engine(helped, TaskLosses(RANKING, True, GAMMA), method, "parameters" if mode == "ls" else mode)
    step = engine.step(batch, clock, [{} for _ in engine.shared_groups])
    np.testing.assert_allclose(step.losses.total, parts[0].total, rtol=1e-5)  # what bounds and logs are about
    assert sum(np.abs(g).max() > 0 for g in aside.values()) > 2
    for gradient, variable in step.gradients:
        path = variable.path
        np.testing.assert_allclose(
            tf.convert_to_tensor(gradient), main[path] + GAMMA * aside[path], atol=2e-6, err_msg=path
        )


@pytest.mark.slow
def test_trained_and_dropped(features, labels, tmp_path):
    """They learn, what evaluation reports is without them, and a loaded ranker goes on with them."""
    model = MultiTaskRanker({"name": "shared_bottom", "units": [6], "head_units": [4], "small_heads": GAMMA}, RANKING,
                            SCHEMA)
    model.compile("adam", method="mgda", gradients="features", train_metrics=False)
    x = {**features, "list_size": tf.reduce_sum(tf.cast(VALID, tf.int32), axis=1)}
    data = tf.data.Dataset.from_tensors((x, labels)).repeat(2)
    before = model.architecture.small.get_weights()
    model.fit(data, epochs=1, verbose=0)
    for start, now in zip(before, model.architecture.small.get_weights(), strict=True):
        assert (start != now).any()
    scores = model(x)
    expected = TaskLosses(RANKING, True)(Batch(features, labels, valid=VALID), scores, Replicas()).total
    logs = model.evaluate(data, verbose=0, return_dict=True)
    for task, value in zip(TASKS, expected, strict=True):
        np.testing.assert_allclose(logs[f"{task}_loss"], value, rtol=1e-5)
    model.save(tmp_path / "model.keras")
    again = tfmtl2r.load(tmp_path / "model.keras")
    for now, then in zip(again.architecture.small.get_weights(), model.architecture.small.get_weights(), strict=True):
        np.testing.assert_array_equal(now, then)
    for task in TASKS:
        np.testing.assert_allclose(again(x)[task], scores[task], atol=1e-6)


def test_what_does_not_fit():
    for weight in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="small_heads must be a finite number of 0 or more"):
            architectures.get("mmoe", small_heads=weight)
    for name in ("esmm", "aitm"):  # nothing but their own weights would be trained
        with pytest.raises(ValueError, match="have no variables, since all features are numbers"):
            connected(name, schema=NUMBERS, small_heads=GAMMA)
    with pytest.raises(ValueError, match="give small_heads to dml"):
        architectures.get("dml", base={"name": "mmoe", "small_heads": 0.5})
