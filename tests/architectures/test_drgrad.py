"""DRGrad: Split-MMoE, its variable groups, and routing in training, saving, exports and replicas."""

import numpy as np
import pytest

import tfmtl2r
from tfmtl2r import Category, Dense, MultiTaskRanker, Schema, Task, architectures
from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import Batch
from tfmtl2r.methods.base import GramMethod
from tfmtl2r.serving.session import LoadedExport
from tfmtl2r.training.engine import Engine
from tfmtl2r.training.method_state import Clock
from tfmtl2r.training.objectives import TaskLosses
from tfmtl2r.training.replicas import Replicas

NAMES = ("click", "buy", "like")
TASKS = tuple(Task(name, kind="binary", loss="bce", metrics=()) for name in NAMES)
SCHEMA = Schema([
    Category("user", vocabulary=tuple("abc"), dim=3, context=True),
    Dense("x", shape=(4,)),
    Category("item", buckets=5, dim=2),
])
SIZES = np.array([5, 2, 1, 4], np.int32)
LENGTH = 5
VALID = tf.sequence_mask(SIZES, LENGTH)
SMALL = {"num_experts": 3, "expert_units": (7, 6), "head_units": (5,), "activation": "tanh"}
OFF = {"router": False, "updater": False}


def connected(names=NAMES, draw=True, **options):
    keras.utils.set_random_seed(5)
    architecture = architectures.get("drgrad", **{**SMALL, **options})
    architecture.connect(names, SCHEMA)
    if draw:
        rng = np.random.default_rng(5)
        for weight in architecture.trainable_variables:
            weight.assign(rng.normal(size=weight.shape) * 0.5)
    return architecture


@pytest.fixture
def data(rng):
    x = {
        "x": tf.constant(rng.normal(size=(4, LENGTH, 4)), tf.float32),
        "user": tf.constant(rng.integers(0, 4, 4), tf.int32),
        "item": tf.constant(rng.integers(0, 5, (4, LENGTH)), tf.int32),
        "list_size": tf.constant(SIZES),
    }
    return x, {name: tf.constant(rng.integers(0, 2, (4, LENGTH)), tf.float32) for name in NAMES}


@pytest.fixture
def features(data):
    return {name: value for name, value in data[0].items() if name != "list_size"}


def gradients_of(tape, totals, variables):
    per_total = [tape.gradient(t, [v.value for v in variables], unconnected_gradients="zero") for t in totals]
    return {id(v): np.array([tf.convert_to_tensor(g) for g in rows])
            for v, *rows in zip(variables, *per_total, strict=True)}


@pytest.mark.parametrize("options", [{}, {"primary": "buy", "personal": ("item", "user")}, {"head_units": ()}], ids=str)
def test_groups_say_what_the_gradients_say(features, options):
    architecture = connected(**options)
    groups = architecture.variable_groups()
    listed = [id(v) for group in groups for v in group.variables]
    assert sorted(listed) == sorted(id(v) for v in architecture.trainable_variables), "each variable in one group"
    with tf.GradientTape(persistent=True) as tape:
        scores = architecture(batch=Batch(features, valid=VALID))
        totals = [tf.reduce_sum(scores[task] ** 2) for task in NAMES]
    rows = gradients_of(tape, totals, architecture.trainable_variables)
    primary = NAMES.index(options.get("primary", "click"))
    for group in groups:
        for variable in group.variables:
            reached = rows[id(variable)] != 0
            if group.stacked:
                assert group.tasks == (primary, 0, 1, 2)
                blocks = reached.reshape(3, 4, -1).any(axis=2)
                np.testing.assert_array_equal(blocks.T, np.eye(3, dtype=bool)[list(group.tasks)], err_msg=variable.path)
            else:
                by_task = reached.reshape(3, -1).any(axis=1)
                np.testing.assert_array_equal(np.flatnonzero(by_task), group.tasks, err_msg=variable.path)


class Weights(GramMethod):
    """Given weights through the machinery of a Gram method."""

    def __init__(self, values):
        object.__setattr__(self, "values", tf.constant(values, tf.float32))

    def weigh(self, signals, state):
        return self.values, state


def test_routed_variables():
    architecture = connected()
    assert [v.path for v in architecture.routed_variables()] == [architecture.towers.dense[0].kernel.path]
    architecture = connected(scope="tower")
    everything = {v.path for layer in (architecture.towers, architecture.scorers) for v in layer.variables}
    assert {v.path for v in architecture.routed_variables()} == everything
    assert not connected(**OFF).routed_variables()


@pytest.mark.parametrize("mode", ["parameters", "features"])
@pytest.mark.parametrize("options", [OFF, {}, {"scope": "tower", "personal": ("user",), "primary": "like"}], ids=str)
def test_engine_weighs_and_routes(data, options, mode):
    """Weighted gradients of the shared variables, plain ones of the others; of the routed ones what ``route`` says."""
    architecture = connected(**options)
    architecture.lead.assign(0.3)
    batch, losses = Batch.of(data, SCHEMA), TaskLosses(TASKS, has_lists=True)
    with tf.GradientTape(persistent=True) as tape:
        values = tf.unstack(losses(batch, architecture(batch=Batch(batch.features, valid=VALID)), Replicas()).local)
    rows = gradients_of(tape, values, architecture.trainable_variables)
    weights = np.array([0.5, 2.0, 1.0])
    engine = Engine(architecture, losses, Weights(weights), mode)
    clock = Clock(0, 0, tf.constant([0, 0]), tf.fill([3], 1 / 3))
    step = engine.step(batch, clock, [{}])
    shared = {id(v) for v in engine.shared_variables}
    expected = {key: np.tensordot(weights if key in shared else np.ones(3), row, 1) for key, row in rows.items()}
    routed = architecture.routed_variables()
    plain = [expected[id(v)] for v in routed]
    state = {key: tf.convert_to_tensor(variable) for key, variable in architecture.routing_state().items()}
    after, state = architecture.route([tf.constant(g, tf.float32) for g in plain], state)
    for variable, gradient, before in zip(routed, after, plain, strict=True):
        expected[id(variable)] = gradient
        twin = 1 + architecture.primary
        others = [i for i in range(4) if i not in (0, twin)]
        np.testing.assert_array_equal(gradient.numpy()[others], before.astype(np.float32)[others])
        assert (gradient.numpy()[0] != before[0]).any()
    for gradient, variable in step.gradients:
        np.testing.assert_allclose(tf.convert_to_tensor(gradient), expected[id(variable)], rtol=1e-3, atol=2e-6,
                                   err_msg=variable.path)
    assert step.routing.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_allclose(step.routing[key], value, rtol=1e-4)


@pytest.mark.parametrize(("scope", "routed"), [("first_kernel", 1), ("tower", 1), ("per_variable", 4)])
def test_routing_is_open_to_inspection(data, features, scope, routed):
    """After a step: the cosines of the gradients, and the matrix that made the towers' updates of them."""
    model = ranker(options={"scope": scope, "updater": False, "primary": "buy"})
    model.prepare(data)
    before = model.architecture.inspect(Batch(features, valid=VALID))
    np.testing.assert_array_equal(before["routing"], np.broadcast_to(np.eye(4), (routed, 4, 4)))
    variables = model.architecture.routed_variables()
    start = [np.array(v) for v in variables]
    with tf.GradientTape() as tape:
        losses = TaskLosses(TASKS, has_lists=True)(Batch.of(data, SCHEMA), model(data[0], training=True), Replicas())
        total = tf.reduce_sum(losses.local)
    rows = [np.reshape(tf.convert_to_tensor(g), (4, -1)) for g in tape.gradient(total, [v.value for v in variables])]
    model.train_step(data)
    seen = {key: value.numpy() for key, value in model.architecture.inspect(Batch(features, valid=VALID)).items()}
    assert seen["cosines"].shape == (routed, 3)
    joined = [np.concatenate(rows, axis=1)] if scope == "tower" else rows
    for place, row in enumerate(joined):
        unit = row / np.linalg.norm(row, axis=1, keepdims=True)
        np.testing.assert_allclose(seen["cosines"][place], unit[1:] @ unit[0], rtol=1e-3, atol=1e-5)
    for place, (variable, old, row) in enumerate(zip(variables, start, rows, strict=True)):
        update = (old - np.array(variable)).reshape(4, -1) / 0.1
        routing = seen["routing"][0 if scope == "tower" else place]
        np.testing.assert_allclose(update, routing @ row, rtol=1e-3, atol=2e-6)


def test_it_is_a_split_mmoe(features):
    """Scores written out with NumPy, mu and the personalised gate included."""
    architecture = connected(primary="buy", personal=("item",), router=False)
    architecture.lead.assign(1.5)
    x = architecture.encoder(batch=Batch(features, valid=VALID)).numpy()
    outputs = x[None]
    for dense in architecture.experts.dense:
        outputs = np.tanh(outputs @ dense.kernel.numpy() + dense.bias.numpy())

    def mixture(gate):
        logits = np.exp(x @ gate.logits.kernel[0].numpy() + gate.logits.bias[0].numpy())
        return np.einsum("ne,end->nd", logits / logits.sum(axis=1, keepdims=True), outputs)

    def tower(i, inputs):
        (dense,), scorer = architecture.towers.dense, architecture.scorers
        hidden = np.tanh(inputs @ dense.kernel[i].numpy() + dense.bias[i].numpy())
        return (hidden @ scorer.kernel[i].numpy() + scorer.bias[i].numpy())[:, 0]

    ids = architecture.encoder.embeddings["item"](features["item"][VALID]).numpy()
    gate = 2 / (1 + np.exp(-ids @ architecture.personal_gate.kernel.numpy()))
    own, common = mixture(architecture.own_gate), gate * mixture(architecture.shared_gate)
    mu = 1 / (1 + np.exp(-1.5))
    expected = [tower(1, common), mu * tower(0, own) + (1 - mu) * tower(2, common), tower(3, common)]
    scores = architecture(batch=Batch(features, valid=VALID))
    for task, values in zip(NAMES, expected, strict=True):
        np.testing.assert_allclose(scores[task][VALID], values, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(architecture.inspect(Batch(features, valid=VALID))["mu"], (mu, 1 - mu), rtol=1e-6)


def test_personalised_gate_starts_open(features):
    """W = 0: the same scores as without the gate."""
    with_gate, without = connected(personal=("user",), draw=False), connected(draw=False)
    np.testing.assert_array_equal(with_gate.personal_gate.kernel, tf.zeros([3, 6]))
    sources = [w for w in with_gate.trainable_variables if "personal_gate" not in w.path]
    for source, target in zip(sources, without.trainable_variables, strict=True):
        target.assign(source)
    for task, scores in with_gate(batch=Batch(features, valid=VALID)).items():
        np.testing.assert_array_equal(scores, without(batch=Batch(features, valid=VALID))[task])


@pytest.mark.parametrize(("options", "message"), [
    ({"reading": "other"}, "reading must be one of 'matched', 'typeset', not 'other'"),
    ({"scope": "all"}, "scope must be one of 'first_kernel', .*not 'all'"),
    ({"gamma": 0.0}, "gamma must be above 0"),
    ({"updater_temperature": -1.0}, "updater_temperature must be above 0"),
    ({"updater_decay": 1.5}, r"updater_decay must lie in \(0, 1\], not 1.5"),
    ({"num_experts": 0}, "at least one expert"),
    ({"primary": "share"}, "primary task 'share' is not among the tasks: click, buy, like"),
    ({"personal": ("x",)}, "must name category features.*'x' is not among them: user, item"),
    ({"names": ("click",)}, "at least one auxiliary task, got click"),
])
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        connected(**options)


def ranker(strategy=None, options=(), **compiled):
    keras.utils.set_random_seed(7)
    with (strategy or tf.distribute.get_strategy()).scope():
        model = MultiTaskRanker({"name": "drgrad", **SMALL, "personal": ["user"], **dict(options)}, TASKS, SCHEMA)
        model.compile(keras.optimizers.SGD(0.1), train_metrics=False, **compiled)
    return model


def test_without_router_and_updater_training_is_that_of_split_mmoe(data):
    """The step of plain gradients; with the router, only the primary's towers move otherwise at first."""
    after = {}
    for name, options in (("off", OFF), ("router", {"updater": False})):
        model = ranker(options=options)
        model.prepare(data)
        model.train_step(data)
        after[name] = [v.numpy() for v in model.architecture.trainable_variables]
    with tf.GradientTape() as tape:
        plain = ranker(options=OFF)
        batch = Batch.of(data, SCHEMA)
        losses = TaskLosses(TASKS, has_lists=True)(batch, plain(data[0], training=True), Replicas())
        total = tf.reduce_sum(losses.local)
    variables = plain.architecture.trainable_variables
    gradients = tape.gradient(total, [v.value for v in variables])
    for variable, gradient, off, routed in zip(variables, gradients, after["off"], after["router"], strict=True):
        expected = variable.numpy() - 0.1 * tf.convert_to_tensor(gradient).numpy()
        np.testing.assert_allclose(off, expected, atol=1e-7, err_msg=variable.path)
        same = routed == off
        if variable is plain.architecture.towers.dense[0].kernel:
            assert not same[0].all()
            assert same[2:].all()
        else:
            assert same.all(), variable.path


@pytest.mark.slow
def test_trained_and_saved(data, tmp_path):
    model = ranker()
    model.fit(*data, epochs=3, verbose=0, batch_size=4)
    lead = float(model.architecture.lead)
    assert lead != 0
    model.save(tmp_path / "model.keras")
    again = tfmtl2r.load(tmp_path / "model.keras")
    assert float(again.architecture.lead) == lead
    for task, scores in model(data[0]).items():
        np.testing.assert_array_equal(again(data[0])[task], scores)
    for trained in (again, model):  # the next step is the same
        trained.prepare(data)
        trained.train_step(data)
    assert float(again.architecture.lead) == float(model.architecture.lead) != lead
    model.architecture.lead.assign(50.0)
    assert (model(data[0])["click"] != scores).numpy().any()


@pytest.mark.slow
def test_session_loader_gives_what_the_ranker_gives(data, tmp_path):
    model = ranker()
    model.architecture.lead.assign(2.0)
    folder = tfmtl2r.export(model, tmp_path)
    raw = {k: v.numpy() for k, v in data[0].items()}
    raw |= {"user": np.array(["?", "a", "b", "c"])[raw["user"]], "item": np.array(list("vwxyz"))[raw["item"]]}
    looked_up = tfmtl2r.layers.features.Lookup(SCHEMA)({k: tf.constant(v) for k, v in raw.items()})
    with LoadedExport(folder) as loaded:
        answer = loaded.run("serving_default", raw)
    for task, scores in model(looked_up).items():
        np.testing.assert_allclose(answer[f"score_{task}"][VALID], scores[VALID], atol=1e-5)


@pytest.mark.slow
def test_two_replicas_route_alike(data, mirrored):
    """Routing is not linear: the replicas' gradients are added up before it. The last batch is 3 lists, 2 + 1."""

    trained = []
    for strategy in (tf.distribute.get_strategy(), mirrored()):
        model = ranker(strategy, options={"scope": "tower"})
        model.fit(tf.data.Dataset.from_tensor_slices(data).batch(3), epochs=3, verbose=0)
        assert abs(np.array(model.architecture.lead)) > 1e-3
        trained.append(model.architecture.get_weights())
    for one, two in zip(*trained, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-5)
