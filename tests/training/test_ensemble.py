"""Ensembles: k members in one step are k networks, whose losses are averaged and whose scores are merged."""

import json

import numpy as np
import pytest
from engine_steps import CLOCK, Ones

import tfmtl2r
from tfmtl2r import Category, Dense, MultiTaskRanker, Schema, Task, architectures, losses, methods
from tfmtl2r._backend import keras, tf
from tfmtl2r.architectures.ensemble import batch_ensemble
from tfmtl2r.batch import Batch
from tfmtl2r.data import Lists
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.file_scores import item_scores
from tfmtl2r.layers.numbers import standardised
from tfmtl2r.serving.check import METADATA
from tfmtl2r.serving.examples import requests
from tfmtl2r.serving.session import LoadedExport
from tfmtl2r.settings import Settings
from tfmtl2r.training.engine import Engine
from tfmtl2r.training.members import merge, uncertainty_of
from tfmtl2r.training.objectives import TaskLosses
from tfmtl2r.training.readings import readings_of
from tfmtl2r.training.replicas import Replicas

SCHEMA = Schema([Dense("price", mean=(3.0,), variance=(4.0,)), Category("brand", vocabulary=("acme", "b"), dim=3)])
TASKS = (Task("click", metrics=()), Task("buy", kind="binary", loss="bce", metrics=()),
         Task("dwell", kind="regression", transform="log1p", metrics=()))
BASE = {"name": "mmoe", "num_experts": 2, "expert_units": (4,), "head_units": (3,), "activation": "tanh"}
SHARES = ("none", "trunk", "kernels")
SIZES = np.int32([4, 2, 3])


def data(seed=0):
    rng = np.random.default_rng(seed)
    x = {"price": np.float32(rng.normal(size=(3, 4))), "brand": rng.integers(0, 3, (3, 4)).astype(np.int32),
         "list_size": SIZES}
    return x, {task.name: np.float32(rng.integers(0, 2, (3, 4))) for task in TASKS}


def make(share="none", members=3, train_metrics=False):
    keras.utils.set_random_seed(7)
    own = share if isinstance(share, dict) else {"share": share}
    described = BASE if members is None else {"name": "ensemble", "base": BASE, "members": members, **own}
    ranker = MultiTaskRanker(described, TASKS, SCHEMA, has_lists=True)
    ranker.compile(keras.optimizers.SGD(0.1), method="mgda", train_metrics=train_metrics)
    return ranker


def trained(ranker, steps):
    x, y = data()
    ranker.fit(tf.data.Dataset.from_tensors((x, y)), epochs=steps, verbose=0)
    return ranker


def shaken(ranker):
    """A ranker whose weights are none of an untrained network."""
    rng = np.random.default_rng(3)
    for variable in ranker.trainable_variables:
        variable.assign_add(rng.normal(size=variable.shape, scale=0.2))
    return ranker


def batch():
    x, y = data()
    x = {name: tf.constant(values) for name, values in x.items()}
    return Batch.of((x, {task: tf.constant(values) for task, values in y.items()}), SCHEMA)


def test_golden_values_of_the_layer():
    x = tf.Variable([[1.0, 2.0], [-1.0, 0.5]])
    w = tf.Variable([[1.0, 0.0, 2.0], [1.0, -1.0, 0.5]])
    r, s = tf.Variable([[1.0, -1.0], [1.0, 1.0]]), tf.Variable([[2.0, 1.0, 0.5], [1.0, 1.0, 1.0]])
    b = tf.Variable([[0.5, 0.0, -1.0], [0.0, 0.0, 0.0]])
    with tf.GradientTape() as tape:
        kernels = [batch_ensemble(w, r[m], s[m]) for m in range(2)]
        y = tf.stack([x @ kernel + b[m] for m, kernel in enumerate(kernels)])
        loss = tf.reduce_sum(y**2) / 2
    np.testing.assert_allclose(y[:, 0], [(-1.5, 2, -0.5), (3, -2, 3)])
    np.testing.assert_allclose(y[:, 1], [(-2.5, 0.5, -2.125), (-0.5, -0.5, -1.75)])
    assert float(loss) == 21.5390625
    np.testing.assert_allclose(kernels[0], [(2, 0, 1), (-2, 1, -0.25)])
    for found, expected in zip(tape.gradient(loss, [w, r, s, b, x]), [
        ((5.5, 0, 5.5625), (14.25, -8.5, 6.15625)), ((3.625, -13.265625), (13, 12.5625)),
        ((5.25, 4.25, 4.28125), (9.25, 4.25, 12.0625)), ((-4, 2.5, -2.625), (2.5, -2.5, 1.25)),
        ((5.5, 11.625), (-11.125, 5.15625)),
    ], strict=True):  # fmt: skip
        np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(("z", "loss", "gradient", "p"), [
    ((2, -1), 0.720094849, (-0.059601461, -0.365529289), 0.574869250),
    ((0.1, 2.55), 0.359789943, (-0.237510406, -0.036213243), 0.726276351),
])  # fmt: skip
def test_the_mean_of_losses_and_the_mean_of_probabilities(z, loss, gradient, p):
    tasks = (Task("buy", kind="binary", loss="bce"),)
    scores = tf.reshape(tf.constant(z, tf.float32), [2, 1, 1])
    one = Batch({"price": tf.zeros([1, 1])}, {"buy": tf.ones([1, 1])}, valid=tf.constant([[True]]))
    with tf.GradientTape() as tape:
        tape.watch(scores)
        total = TaskLosses(tasks, has_lists=True)(one, {"buy": scores}, Replicas()).total[0]
    np.testing.assert_allclose(total, loss, rtol=1e-6)
    np.testing.assert_allclose(tf.reshape(tape.gradient(total, scores), [-1]), gradient, rtol=1e-5)
    readings = readings_of(tasks, has_lists=True)
    merged = merge(readings, {"buy": scores}, 2, one.valid)
    np.testing.assert_allclose(readings["buy"].value(merged["buy"]), [[p]], rtol=1e-6)


def test_merged_scores_and_their_uncertainty():
    """The mean of list scores without their padding; values, and the deviation of values with the divisor k."""
    readings = readings_of(TASKS, has_lists=True)
    members = [(3, 1, 2, 0, np.nan), (100, 101, 99, 100, 5), (0.1, 0.1, 0.1, 0.1, 7)]
    valid = tf.sequence_mask([4], 5)
    p = np.array([0.9, 0.6, 0.3])
    found = merge(readings, {"click": tf.constant(members)[:, None], "dwell": tf.constant(members)[:, None],
                             "buy": tf.tile(tf.constant(np.log(p / (1 - p)), tf.float32)[:, None, None], [1, 1, 5])},
                  3, valid)
    expected = (0.447213595, 0.322333322, -0.322333322, -0.447213595, 0)
    np.testing.assert_allclose(found["click"], [expected], rtol=1e-5)
    np.testing.assert_allclose(readings["buy"].value(found["buy"]), np.full((1, 5), 0.6), rtol=1e-6)
    np.testing.assert_allclose(found[uncertainty_of("buy")], np.full((1, 5), 0.244948974), rtol=1e-5)
    np.testing.assert_allclose(found["dwell"][0, :4], np.mean(members, 0)[:4], rtol=1e-6)
    assert uncertainty_of("click") not in found


def test_a_link_without_a_known_mean_is_refused():
    class Odd(type(losses.get("mse"))):
        def value(self, scores):
            return scores**3

    with pytest.raises(InputError, match="neither linear, exponential nor the sigmoid"):
        Odd().averaged(tf.zeros([2, 1]))


@pytest.mark.parametrize("name", losses.names())
def test_the_value_of_averaged_scores_is_the_mean_of_the_values(name, rng):
    loss = losses.get(name)
    scores = tf.constant(rng.normal(size=(3, 6)) * 3, tf.float32)
    if loss.value(scores) is not None:
        expected = tf.reduce_mean(loss.value(scores), 0)
        np.testing.assert_allclose(loss.value(loss.averaged(scores)), expected, rtol=2e-5)


def test_one_member_is_the_plain_network():
    def stepped(ranker):
        step = Engine(ranker.architecture, TaskLosses(TASKS, True), Ones(), "parameters").step(batch(), CLOCK, [{}])
        found = {id(v): tf.convert_to_tensor(g) for g, v in step.gradients}
        return ranker(data()[0]), step.losses.total, [found[id(v)] for v in ranker.trainable_variables]

    expected = stepped(make(members=None))
    for share in SHARES:
        tf.nest.map_structure(np.testing.assert_array_equal, stepped(make(share, 1)), expected)


def plain_members(ensemble):
    """Each member as an architecture of its own, with its weights."""
    for number in range(ensemble.members):
        with ensemble._as(number):
            weights = [tf.identity(v.value) for v in ensemble.base.trainable_variables]
        one = architectures.get(BASE)
        one.connect(ensemble.tasks, SCHEMA)
        for variable, weight in zip(one.trainable_variables, weights, strict=True):
            variable.assign(weight)
        yield one


@pytest.mark.parametrize(("share", "mode"), [
    ("none", "parameters"), ("trunk", "features"), ("kernels", "parameters"),
    pytest.param("none", "features", marks=pytest.mark.slow),
    pytest.param("trunk", "parameters", marks=pytest.mark.slow),
    pytest.param("kernels", "features", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_step_is_the_mean_of_the_steps_of_plain_networks(share, mode):
    ensemble = shaken(make(share)).architecture
    engines = [Engine(one, TaskLosses(TASKS, True), methods.get("ls"), mode) for one in plain_members(ensemble)]
    each = [engine.step(batch(), CLOCK, [{}]) for engine in engines]
    step = Engine(ensemble, TaskLosses(TASKS, True), Ones(), mode).step(batch(), CLOCK, [{}])
    np.testing.assert_allclose(step.losses.total, np.mean([one.losses.total for one in each], axis=0), rtol=1e-5)
    for task in ensemble.tasks:
        np.testing.assert_allclose(step.scores[task], [one.scores[task] for one in each], atol=1e-6)
        assert np.ptp(step.scores[task].numpy()[:, 0, 0]) > 1e-3, "members differ"
    ours = {id(v): tf.convert_to_tensor(g) for g, v in step.gradients}
    of_members = [{id(v): tf.convert_to_tensor(g) for g, v in one.gradients} for one in each]
    for place, variable in enumerate(ensemble.base.trainable_variables):
        theirs = [found[id(engine.architecture.trainable_variables[place])]
                  for found, engine in zip(of_members, engines, strict=True)]
        made = [part for member in ensemble._others for part in member.parts if part.of is variable]
        if share == "kernels" and variable.name == "kernel":
            expected = sum(g * batch_ensemble(tf.ones_like(g), part.r.value, part.s.value)
                           for g, part in zip(theirs, made, strict=True))
            np.testing.assert_allclose(ours[id(variable)], expected / 3, atol=2e-6, err_msg=variable.path)
            for g, part in zip(theirs, made, strict=True):
                expected = tf.reduce_sum(g * variable.value * part.s.value[..., None, :], -1) / 3
                np.testing.assert_allclose(ours[id(part.r)], expected, atol=2e-6, err_msg=variable.path)
        elif made:
            for found, g in zip([variable, *(part.variable for part in made)], theirs, strict=True):
                np.testing.assert_allclose(ours[id(found)], g / 3, atol=2e-6, err_msg=variable.path)
        else:
            np.testing.assert_allclose(ours[id(variable)], sum(theirs) / 3, atol=2e-6, err_msg=variable.path)


def of_each(batches):
    """A batch with the lists of several batches in turn: the list at place i is one of batch i mod members."""
    places = np.arange(len(batches) * 3).reshape(len(batches), 3).T.ravel()
    whole = tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *batches)
    return Batch.of(tf.nest.map_structure(lambda part: tf.gather(part, places), whole), SCHEMA)


@pytest.mark.parametrize(("share", "mode"), [
    ("none", "parameters"), ("trunk", "features"), pytest.param("kernels", "parameters", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_step_of_own_batches_is_the_mean_of_steps_on_them(share, mode):
    """The same lists for all members give the step of a common batch; other items of one member change it alone."""
    common, own = (shaken(make({"share": share, "batches": batches})) for batches in ("same", "own"))
    for variable, value in zip(own.variables, common.variables, strict=True):
        variable.assign(value)

    def step(ranker, given):
        made = Engine(ranker.architecture, TaskLosses(TASKS, True), Ones(), mode).step(given, CLOCK, [{}])
        found = {id(v): tf.convert_to_tensor(g) for g, v in made.gradients}
        return made, [found[id(v)] for v in ranker.trainable_variables]

    expected, gradients = step(common, batch())
    found, same = step(own, of_each([data()] * 3))
    np.testing.assert_allclose(found.losses.total, expected.losses.total, rtol=1e-5)
    for task in own.architecture.tasks:
        assert found.scores[task].shape == (1, 9, 4)
        np.testing.assert_allclose(found.scores[task][0, 1::3], expected.scores[task][1], atol=1e-6)
    for one, two in zip(same, gradients, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    _, other = step(own, of_each([data(), (data(1)[0], data()[1]), data()]))
    second = {id(part.variable) for part in own.architecture._others[0].parts} if share != "kernels" else set()
    for variable, one, two in zip(own.trainable_variables, same, other, strict=True):
        if id(variable) in second:
            assert np.abs(one - two).max() > 0
        elif share == "none":
            np.testing.assert_array_equal(one, two)


@pytest.mark.slow
def test_own_batches_train_and_score_as_ever():
    """Outside of training, and with one member, nothing differs."""
    ranker = make({"share": "none", "batches": "own"}, train_metrics=True)
    x, y = data()
    ranker.fit(tf.data.Dataset.from_tensors((x, y)), validation_data=tf.data.Dataset.from_tensors((x, y)), verbose=0)
    found = ranker.predict(x)
    each = [one(batch=batch()) for one in plain_members(ranker.architecture)]
    p = np.mean([tf.sigmoid(scores["buy"]) for scores in each], axis=0)
    real = np.isfinite(found["buy"])
    np.testing.assert_allclose(ranker.values(found)["buy"].numpy()[real], p[real], rtol=1e-5)
    one, plain = (trained(make(*options), 1) for options in (({"batches": "own"}, 1), ("none", None)))
    np.testing.assert_allclose(one.predict(x)["dwell"][real], plain.predict(x)["dwell"][real], rtol=1e-5)


@pytest.fixture(scope="module", params=[pytest.param(share, marks=pytest.mark.slow) for share in SHARES])
def exported(request, tmp_path_factory):
    ranker = shaken(make(request.param))
    return ranker, tfmtl2r.export(ranker, tmp_path_factory.mktemp("exports") / "one")


def test_exports_and_files_score_like_the_ranker(exported, tmp_path):
    ranker, folder = exported
    request = requests(SCHEMA, seed=5)[1]
    given = tfmtl2r.layers.features.Lookup(SCHEMA)({name: tf.constant(v) for name, v in request.items()})
    expected = ranker.predict(given, batch_size=9)
    with LoadedExport(folder) as loaded:
        answer = loaded.run("serving_default", request)
    real = np.isfinite(expected["click"])
    values = ranker.values(expected)
    for task in ranker.architecture.tasks:
        np.testing.assert_allclose(answer[f"score_{task}"][real], expected[task][real], atol=1e-5)
        assert (f"uncertainty_{task}" in answer) == (task in values) == (task != "click")
        if task in values:
            uncertain = expected[uncertainty_of(task)]
            np.testing.assert_allclose(answer[f"uncertainty_{task}"][real], uncertain[real], rtol=1e-4, atol=1e-5)
            assert uncertain[real].min() >= 0
            assert uncertain[real].max() > 1e-4
    columns = {name: request[name][real] for name in ("price", "brand")}  # a column for each item
    scored = item_scores(ranker, Lists(columns, offsets=np.cumsum([0, *filter(None, request["list_size"])])))
    assert {*scored} == {*answer} - {"valid"}
    for name, values in scored.items():
        np.testing.assert_allclose(values, answer[name][real], rtol=1e-4, atol=1e-5)
    metadata = json.loads((folder / METADATA).read_text())
    assert metadata["members"] == 3
    assert set(metadata["left_out"]) == {"regress", "classify"}  # a click score depends on its list
    ranker.save(tmp_path / "one.keras")
    again = tfmtl2r.load(tmp_path / "one.keras").predict(given, batch_size=9)
    for name, scores in expected.items():
        np.testing.assert_allclose(again[name][real], scores[real], atol=1e-6)


@pytest.mark.slow
def test_the_scores_of_the_ranker_are_those_of_its_members():
    ranker = trained(make("none"), 1)
    x, _ = data()
    found = ranker.predict(x)
    each = [one(batch=batch()) for one in plain_members(ranker.architecture)]
    z = [standardised(scores["click"], batch().valid) for scores in each]
    real = np.isfinite(found["click"])
    np.testing.assert_allclose(found["click"][real], np.mean(z, axis=0)[real], atol=1e-5)
    p = np.mean([tf.sigmoid(scores["buy"]) for scores in each], axis=0)
    np.testing.assert_allclose(ranker.values(found)["buy"].numpy()[real], p[real], rtol=1e-5)


def test_what_cannot_be_an_ensemble():
    for described, message in [
        ({"members": 0}, "members must be 1 or more"), ({"share": "some"}, "share must be one of 'none', 'trunk'"),
        ({"batches": "mine"}, "batches must be one of 'same', 'own'"),
        ({"base": {"name": "ensemble"}}, "no ensembles"), ({"small_heads": 0.1}, "give them to the base"),
        ({"base": "drgrad"}, "DRGrad routes the gradients of one network"),
    ]:
        with pytest.raises(InputError, match=message):
            MultiTaskRanker({"name": "ensemble", **described}, TASKS, SCHEMA)
    with pytest.raises(InputError, match="task 'grade': its loss leaves the level of the scores free, and without"):
        MultiTaskRanker({"name": "ensemble", "base": BASE}, [Task("grade", loss={"name": "ordinal", "levels": 4})],
                        SCHEMA, has_lists=False)


def test_the_section_of_the_experiment():
    base = {"data": {"name": "mslr"}, "architecture": BASE}
    given = Settings.of({**base, "ensemble": {"members": 4}}).ensemble
    assert given.around(BASE) == {"name": "ensemble", "base": BASE, "members": 4, "share": "none"}
    assert Settings.of(base).ensemble.around(BASE) == BASE
    own = Settings.of({**base, "ensemble": {"members": 4, "batches": "own"}}).ensemble
    assert own.around(BASE)["batches"] == "own"
    assert (own.draws, given.draws) == (4, 1)
    with pytest.raises(InputError, match=r"training\.buckets does not go with ensemble\.batches"):
        Settings.of({**base, "ensemble": {"members": 4, "batches": "own"}, "training": {"buckets": "auto"}})
    for wrong, message in [({"share": "trunk"}, "share has no effect without members"),
                           ({"batches": "own"}, "batches has no effect without members"),
                           ({"members": 0}, "must be at least 1")]:
        with pytest.raises(InputError, match=message):
            Settings.of({**base, "ensemble": wrong})
