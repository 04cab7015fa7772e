"""Position features beside any architecture: they explain clicks in training, and nothing else ever reads them."""

import numpy as np
import pandas as pd
import pytest
from architecture_problem import VALID, check_gradients, connected

import tfmtl2r
from tfmtl2r import Category, Dense, MultiTaskRanker, Schema, architectures
from tfmtl2r._backend import tf
from tfmtl2r.architectures.base import small_head_of
from tfmtl2r.batch import Batch
from tfmtl2r.experiment import Experiment
from tfmtl2r.layers import randomness
from tfmtl2r.settings.values import SettingError
from tfmtl2r.sweeps.planning import single_tasks
from tfmtl2r.testing.architecture import LENGTH, TASKS, make_features

SCHEMA = Schema([
    Dense("x", shape=(3,)), Dense("position"), Dense("age", context=True),
    Category("device", vocabulary=("a", "b"), dim=2, context=True),
    Category("brand", vocabulary=("a", "b", "c"), dim=2),
])
BIAS = {"features": ["position", "device"], "position_dropout": 0.0}
NAMES = [name for name in architectures.registry.names() if name not in ("watch_next", "ensemble")]
"""Without those whose parts have the option."""


@pytest.fixture
def features(rng):
    places = tf.tile(tf.range(1.0, LENGTH + 1)[None], [3, 1])
    return {**make_features(rng), "position": places, "device": tf.constant([1, 2, 0])}


def train(architecture, features, seed=7):
    with randomness.scope(tf.constant([seed, 8])):
        return architecture(batch=Batch(features, valid=VALID), training=True)


@pytest.mark.product
@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_adds_one_term_per_task_in_training_only(features, rng, name):
    """The term depends on the position alone; without position the scores are those of any position."""
    architecture = connected(name, schema=SCHEMA, small_heads=0.5, bias_features=BIAS)
    assert architecture.schema.names == ("x", "age", "brand")
    elsewhere = {"position": features["position"][:, ::-1] * 2.0, "device": tf.constant([0, 1, 1])}
    added = []
    for x in (features, {**features, **make_features(rng)}):
        near, far = train(architecture, x), train(architecture, {**x, **elsewhere})
        added.append({key: (near[key] - far[key]).numpy() for key in near})
    assert len(added[0]) == 2 * len(TASKS)
    for key, term in added[0].items():
        assert (np.abs(term[VALID]) > 1e-4).all()
        assert not term[~VALID].any()
        np.testing.assert_allclose(term, added[1][key], atol=2e-5)
        np.testing.assert_allclose(term, added[0][key.split("\0")[0]], atol=2e-5)  # small heads are shifted alike
    plain = {key: value for key, value in features.items() if key in architecture.schema.names}
    served = architecture(batch=Batch(plain, valid=VALID))
    for task, scores in architecture(batch=Batch(features, valid=VALID)).items():
        np.testing.assert_array_equal(scores, served[task])
        np.testing.assert_array_equal(scores[~VALID], 0)
    listed = [id(v) for group in architecture.groups() for v in group.variables]
    assert sorted(listed) == sorted(id(v) for v in architecture.trainable_variables)
    assert small_head_of("click") in added[0]


@pytest.mark.parametrize(("name", "tasks"), [
    ("shared_bottom", []), ("esmm", ["buy"]),
    *(pytest.param(name, [], marks=pytest.mark.slow) for name in ("aitm", "deepmtl2r", "drgrad", "single_task")),
])  # fmt: skip
def test_every_path_crosses_the_cut(features, name, tasks):
    """No variable that reads a position is shared, so balancing at the cut misses nothing."""
    check_gradients(name, {"bias_features": {**BIAS, "biased": tasks}}, SCHEMA, features, groups=False)


def test_the_position_adds_to_the_logit():
    """``sigmoid(f + g)`` in training, ``sigmoid(f)`` without a position, if ``g`` of a missing position is 0."""
    schema = Schema([Dense("x"), Dense("position")])
    made = architectures.get("shared_bottom", units=[1], head_units=[], activation="linear",
                             bias_features={"features": ["position"], "position_units": [], "position_dropout": 0.0})
    made.connect(["click"], schema)
    for variable in made.trainable_variables:
        variable.assign(np.ones(variable.shape) * ("bias" not in variable.path))
    made.shallow_scorers.set_weights([np.reshape([1.0, 0.0], w.shape) if np.size(w) == 2 else np.zeros_like(w)
                                      for w in made.shallow_scorers.get_weights()])
    rows = Batch({"x": tf.constant([0.4, -0.2]), "position": tf.constant([0.8, 0.0])})
    with randomness.scope(tf.constant([1, 2])):
        clicks = tf.sigmoid(made(batch=rows, training=True)["click"])
    np.testing.assert_allclose(clicks, [0.768524783, 0.450166003], atol=1e-6)
    served = tf.sigmoid(made(batch=Batch({"x": rows.features["x"]}))["click"])
    np.testing.assert_allclose(served, [0.598687660, 0.450166003], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "options"), [
    ("mgda", {"gradients": "features"}), ("cagrad", {"gradients": "parameters", "accumulate": 2}),
])
def test_conditioned_rankers_train_and_are_saved(features, tmp_path, method, options):
    architecture = {"name": "shared_bottom", "units": [4], "head_units": [], "bias_features": BIAS}
    model = MultiTaskRanker(architecture, TASKS, SCHEMA, conditioned=1.0 if method == "cagrad" else None)
    model.compile("adam", method=method, run_eagerly=True, **options)
    x = {**features, "list_size": tf.reduce_sum(tf.cast(VALID, tf.int32), axis=1)}
    y = {task: tf.cast(features["x"][..., 0] > 0, tf.float32) for task in TASKS}
    before = [np.array(v) for v in model.architecture.trainable_variables]
    model.fit(tf.data.Dataset.from_tensors((x, y)), epochs=2, verbose=0)
    moved = [v.path for v, w in zip(model.architecture.trainable_variables, before, strict=True)
             if (np.array(v) != w).any()]
    assert sum("position" in path or "shallow" in path for path in moved) >= 4
    served = {name: value for name, value in x.items() if name not in BIAS["features"]}
    model.save(tmp_path / "m.keras")
    again = tfmtl2r.load(tmp_path / "m.keras")
    for task, scores in model.predict(served).items():
        np.testing.assert_allclose(again.predict(served)[task], scores, atol=1e-6)


def log(rng, folder):
    """A log of 40 sessions in which items at the top are clicked more often."""
    sessions, place = np.repeat(np.arange(40), 5), np.tile(np.arange(1, 6), 40)
    frame = pd.DataFrame({"session": sessions, "place": place, "price": rng.random(200)})
    for task in ("click", "like"):
        frame[task] = (rng.random(200) < 1 / place).astype(int)
    path = folder / "log.csv"
    frame.to_csv(path, index=False)
    return path


def experiment(path, **settings):
    return Experiment.of({
        "data": {"files": str(path), "list_id": "session"}, "name": "a", "directory": str(path.parent / "runs"),
        "architecture": {"name": "shared_bottom", "units": [4]},
        "tasks": [{"name": "click", "kind": "binary"}, {"name": "like", "kind": "binary"}],
        "training": {"epochs": 1, "telemetry_every": 0, "bias_features": ["place"]}, **settings})


def test_the_key_of_the_experiment_reaches_any_architecture(rng, tmp_path):
    chosen = experiment(log(rng, tmp_path), architecture={"name": "dml", "base": {"name": "mmoe", "expert_units": [4]}})
    assert chosen.tree()["training"]["bias_features"] == ["place"]
    model = chosen.model(chosen.dataset())
    assert model.architecture.schema.names == ("price",)
    assert model.schema.names == ("place", "price")
    mine = experiment(tmp_path / "log.csv", architecture={"name": "mmoe", "bias_features": ["place"]})
    with pytest.raises(SettingError, match="the architecture has the option bias_features, too"):
        mine.model(chosen.dataset())
    for name, message in (("price", "needs others"), ("rank", "there is no feature 'rank' among place, price")):
        other = chosen.but(training={"bias_features": ["place", name]})
        with pytest.raises(ValueError, match=message):
            other.model(chosen.dataset())
    watch = experiment(tmp_path / "log.csv", architecture="watch_next")
    assert watch.model(chosen.dataset()).architecture.schema.names == ("price",)


def test_a_single_task_of_a_sweep_has_its_own_tower_or_none(rng, tmp_path):
    bias = {"features": ["place"], "biased": ["click"]}
    base = experiment(log(rng, tmp_path), training={"epochs": 1},
                      architecture={"name": "mmoe", "expert_units": [4], "bias_features": bias})
    dataset = base.dataset()
    towers = [bool(run.model(dataset).architecture.bias.of_tasks()) for run in single_tasks(base)]
    assert towers == [True, False]


@pytest.mark.slow
def test_a_run_in_stages_is_evaluated_and_exported_without_positions(rng, tmp_path):
    tasks = [{"name": "click", "kind": "binary", "priority": 2}, {"name": "like", "kind": "binary", "priority": 1}]
    chosen = experiment(log(rng, tmp_path), tasks=tasks, staged=True, method="nmt")
    model, card = chosen.run(verbose=0)
    assert card.config["training"]["bias_features"] == ["place"]
    frame = pd.read_csv(tmp_path / "log.csv")
    lists = {"price": frame["price"].to_numpy(np.float32).reshape(40, 5), "list_size": np.full(40, 5, np.int32)}
    path = tfmtl2r.export(model, tmp_path / "export")
    served = tf.saved_model.load(str(path)).signatures["serving_default"]
    assert not [name for name in served.structured_input_signature[1] if "place" in name]
    found = served(**{name: tf.constant(value) for name, value in lists.items()})
    np.testing.assert_allclose(found["score_click"], model.predict(lists)["click"], atol=1e-5)


def test_what_does_not_fit(features):
    for bias, message in [
        ("position", "must name one or more features"), ({"position_units": [3]}, "must name one or more features"),
        ({"features": ["position"], "width": 3}, "has no option 'width'; its options are features, position"),
        ({**BIAS, "position_dropout": 1.0}, r"position_dropout must lie in \[0, 1\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            architectures.get("mmoe", bias_features=bias)
    with pytest.raises(ValueError, match="the biased task 'clicks' is not among the tasks"):
        connected("mmoe", schema=SCHEMA, bias_features={**BIAS, "biased": ["clicks"]})
    with pytest.raises(ValueError, match="give it to dml, not to its base"):
        architectures.get("dml", base={"name": "mmoe", "bias_features": ["position"]})
    with pytest.raises(ValueError, match="name the same thing"):
        architectures.get("watch_next", position=["device"], bias_features=["position"])
    features.pop("position")
    with pytest.raises(KeyError, match="position feature 'position' is missing"):
        train(connected("mmoe", schema=SCHEMA, bias_features=BIAS), features)
