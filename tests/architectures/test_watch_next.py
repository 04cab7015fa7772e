"""watch_next: position explains clicks in training, is never seen by the experts and not asked for afterwards."""

import numpy as np
import pandas as pd
import pytest
from architecture_problem import VALID, check_gradients, connected

import tfmtl2r
from tfmtl2r import Category, Dense, MultiTaskRanker, Schema, Task, architectures
from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import Batch
from tfmtl2r.layers import randomness
from tfmtl2r.testing.architecture import LENGTH, TASKS, make_features

SCHEMA = Schema([
    Dense("position"), Dense("x", shape=(3,)), Category("device", vocabulary=("a", "b"), dim=2, context=True),
    Category("brand", vocabulary=("a", "b", "c"), dim=2),
])
OPTIONS = {"position": ("position", "device")}


@pytest.fixture
def features(rng):
    found = make_features(rng)
    found.pop("age")
    places = tf.tile(tf.range(1.0, LENGTH + 1)[None], [3, 1])
    return {**found, "position": places, "device": tf.constant([1, 2, 0])}


def ready(**options):
    return connected("watch_next", schema=SCHEMA, **{"activation": "tanh", **OPTIONS, **options})


def elsewhere(features):
    return {**features, "position": features["position"][:, ::-1] * 2.0, "device": tf.constant([0, 1, 1])}


def train(architecture, features, seed=7):
    with randomness.scope(tf.constant([seed, 8])):
        return architecture(batch=Batch(features, valid=VALID), training=True)


def test_position_changes_scores_in_training_only(features):
    architecture = ready(position_dropout=0.0)
    before, after = train(architecture, features), train(architecture, elsewhere(features))
    scores, moved = (architecture(batch=Batch(x, valid=VALID)) for x in (features, elsewhere(features)))
    without = architecture(batch=Batch({"x": features["x"], "brand": features["brand"]}, valid=VALID))
    for task in TASKS:
        assert (np.abs(before[task] - after[task])[VALID] > 1e-4).all()
        np.testing.assert_array_equal(scores[task], moved[task])
        np.testing.assert_array_equal(scores[task], without[task])
        np.testing.assert_array_equal(scores[task][~VALID], 0)
    assert architecture.schema.names == ("x", "brand")


def test_outside_training_the_shallow_term_is_one_number_per_task(features):
    architecture = ready()
    scores = architecture(batch=Batch(features, valid=VALID))
    for layer in (architecture.shallow_scorers,):
        layer.set_weights([np.zeros_like(w) for w in layer.get_weights()])
    for task, plain in architecture(batch=Batch(features, valid=VALID)).items():
        shift = (scores[task] - plain)[VALID].numpy()
        assert abs(shift[0]) > 1e-4
        np.testing.assert_allclose(shift, shift[0], atol=1e-6)


def test_a_wiped_shallow_tower_leaves_mmoe(features):
    architecture = ready()
    plain = connected("mmoe", schema=Schema([SCHEMA.features[1], SCHEMA.features[3]]), activation="tanh")
    for name in ("encoder", "experts", "gates", "towers", "scorers"):
        getattr(plain, name).set_weights(getattr(architecture, name).get_weights())
    architecture.shallow_scorers.set_weights([np.zeros_like(w) for w in architecture.shallow_scorers.get_weights()])
    for training in (False, True):
        scores = architecture(batch=Batch(features, valid=VALID), training=training)
        for task, expected in plain(batch=Batch(features, valid=VALID), training=training).items():
            np.testing.assert_array_equal(scores[task], expected)


def test_position_and_item_only_add_up(features, rng):
    """What the position adds is the same whatever the item is: nothing else in the model sees it."""
    architecture = ready(position_dropout=0.0)
    others = {**features, "x": tf.constant(rng.normal(size=(3, LENGTH, 3)), tf.float32)}
    added = [
        {task: a - b for (task, a), b in zip(train(architecture, x).items(),
                                             train(architecture, elsewhere(x)).values(), strict=True)}
        for x in (features, others)
    ]
    for task in TASKS:
        np.testing.assert_allclose(added[0][task], added[1][task], atol=1e-5)


def test_only_biased_tasks_are_shifted(features):
    architecture = ready(position_dropout=0.0, biased=["buy"])
    before, after = train(architecture, features), train(architecture, elsewhere(features))
    for task in TASKS:
        assert (before[task] != after[task]).numpy().any() == (task == "buy")


def test_dropped_and_unknown_positions_are_missing(features):
    """Per item and for all tasks at once, as often as asked; the missing position is the one of evaluation."""
    architecture = ready(position_dropout=0.3)
    rows = {"x": tf.zeros([4000, 3]), "brand": tf.zeros([4000], tf.int32),
            "position": tf.fill([4000], 3.0), "device": tf.ones([4000], tf.int32)}
    with randomness.scope(tf.constant([1, 2])):
        scores = architecture(batch=Batch(rows), training=True)
    missing = {task: np.abs(scores[task] - served) < 1e-6 for task, served in architecture(batch=Batch(rows)).items()}
    np.testing.assert_allclose(missing["click"].mean(), 0.3, atol=0.03)
    np.testing.assert_array_equal(missing["click"], missing["like"])
    nowhere = {**features, "position": tf.fill([3, LENGTH], float("nan"))}
    served = architecture(batch=Batch(features, valid=VALID))
    for task, scores in train(architecture, nowhere).items():
        np.testing.assert_allclose(scores, served[task], atol=1e-6)


@pytest.mark.parametrize("biased", [pytest.param((), marks=pytest.mark.slow), ("buy",), ("click", "like")])
def test_every_path_crosses_the_cut(features, rng, biased):
    """Embedded positions, of all tasks or of some; in training, where they count."""
    options = {**OPTIONS, "biased": biased}
    check_gradients("watch_next", options, SCHEMA, features, groups=False)
    architecture = ready(biased=biased)
    groups = architecture.groups()
    listed = [id(v) for group in groups for v in group.variables]
    assert sorted(listed) == sorted(id(v) for v in architecture.trainable_variables)
    with tf.GradientTape(persistent=True) as tape:
        totals = [tf.reduce_sum(scores**2) for scores in train(architecture, features).values()]
    for group in groups:
        values = [v.value for v in group.variables]
        reached = [[np.any(tf.convert_to_tensor(g)) for g in tape.gradient(total, values, unconnected_gradients="zero")]
                   for total in totals]
        for column in np.transpose(reached):
            np.testing.assert_array_equal(np.flatnonzero(column), group.tasks)


@pytest.mark.slow
def test_trained_saved_and_asked_without_positions(features, tmp_path):
    tasks = [Task(task, kind="binary", loss="bce", metrics=()) for task in TASKS]
    model = MultiTaskRanker({"name": "watch_next", "num_experts": 2, "expert_units": [4], "head_units": [4], **OPTIONS},
                            tasks, SCHEMA)
    model.compile("adam", method="mgda", gradients="features", train_metrics=False)
    x = {**features, "list_size": tf.reduce_sum(tf.cast(VALID, tf.int32), axis=1)}
    y = {task: tf.cast(features["x"][..., 0] > 0, tf.float32) for task in TASKS}
    before = model.get_weights()
    model.fit(tf.data.Dataset.from_tensors((x, y)).repeat(3), epochs=2, verbose=0)
    for weight, start in zip(model.architecture.trainable_variables, before, strict=False):
        assert (weight.numpy() != start).any(), weight.path
    model.evaluate(tf.data.Dataset.from_tensors((x, y)), verbose=0)
    served = {name: x[name] for name in ("x", "brand", "list_size")}
    scores = model.predict(served)
    model.save(tmp_path / "model.keras")
    again = tfmtl2r.load(tmp_path / "model.keras")
    for task in TASKS:
        np.testing.assert_allclose(again.predict(served)[task], scores[task], atol=1e-6)
        np.testing.assert_allclose(again.scores(x)[task][VALID], scores[task][VALID], atol=1e-6)


@pytest.mark.slow
def test_takes_the_blame_for_clicks_on_top(rng):
    """An old ranker put the good items below: plain MMoE believes it, watch_next finds what items are worth."""
    worth = rng.normal(size=6000).astype(np.float32)
    position = np.clip(np.round(5.5 + 1.5 * worth + 2.0 * rng.normal(size=6000)), 1, 10).astype(np.float32)
    click = rng.random(6000) < 1.0 / (1.0 + np.exp(position - 5.5 - worth))
    rows = {"worth": worth, "position": position}
    data = tf.data.Dataset.from_tensor_slices((rows, {"click": click.astype(np.float32)})).batch(1000)
    position = Dense("position", mean=(5.5,), variance=(8.0,))
    tasks, slopes = [Task("click", kind="binary", loss="bce", metrics=())], {}
    for name, features in (("mmoe", [Dense("worth")]), ("watch_next", [Dense("worth"), position])):
        model = MultiTaskRanker({"name": name, "num_experts": 2, "expert_units": [8], "head_units": [4]}, tasks,
                                Schema(features))
        model.compile(keras.optimizers.Adam(0.02), train_metrics=False)
        model.fit(data, epochs=40, verbose=0)
        low, high = model.predict({"worth": np.float32([-1.0, 1.0])})["click"]
        slopes[name] = (high - low) / 2
    assert slopes["mmoe"] < 0.0 < 0.5 < slopes["watch_next"] < 1.1


def test_a_frame_needs_no_position():
    schema = Schema([Dense("position"), Dense("price")])
    model = MultiTaskRanker({"name": "watch_next", "expert_units": [4]}, ["click"], schema)
    frame = pd.DataFrame({"price": [1.0, 2.0, 3.0], "query": [1, 1, 2]})
    assert model.predict(frame, list_id="query").shape == (3, 1)


def test_what_does_not_fit(features):
    for options, message in [
        ({"position": "position"}, "must name one or more features"), ({"position": ()}, "must name one or more"),
        ({"position_dropout": 1.0}, r"position_dropout must lie in \[0, 1\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            architectures.get("watch_next", **options)
    for options, message in [
        ({"position": ("place",)}, "there is no feature 'place' among position, x, device, brand"),
        ({"biased": ["clicks"]}, "the biased task 'clicks' is not among the tasks: click, buy, like"),
        ({"position": SCHEMA.names}, "the architecture needs others"),
    ]:
        with pytest.raises(ValueError, match=message):
            ready(**options)
    with pytest.raises(ValueError, match="beside the towers"):
        architectures.get("dml", base="watch_next")
    features.pop("position")
    with pytest.raises(KeyError, match="position feature 'position' is missing"):
        train(ready(), features)
