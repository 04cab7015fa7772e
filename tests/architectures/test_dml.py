"""DML around other architectures: what each task's loss reaches, in the gradients and in the variable groups."""

import numpy as np
import pytest

import tfmtl2r
from tfmtl2r import Category, Dense, MultiTaskRanker, Schema, Task, architectures
from tfmtl2r._backend import keras, tf
from tfmtl2r.architectures.mmoe import MMoE
from tfmtl2r.batch import Batch
from tfmtl2r.layers import randomness
from tfmtl2r.methods.base import GramMethod
from tfmtl2r.serving.session import LoadedExport
from tfmtl2r.training.engine import Engine
from tfmtl2r.training.method_state import Clock
from tfmtl2r.training.objectives import TaskLosses
from tfmtl2r.training.replicas import Replicas

NAMES = ("click", "buy", "like")
TASKS = tuple(Task(name, kind="binary", loss="bce", metrics=()) for name in NAMES)
SCHEMA = Schema([Dense("x", shape=(4,)), Dense("age", context=True), Category("brand", vocabulary=tuple("abc"), dim=3)])
SIZES = np.array([5, 2, 1, 4], np.int32)
LENGTH = 5
VALID = tf.sequence_mask(SIZES, LENGTH)
BASES = {
    "shared_bottom": {"name": "shared_bottom", "units": [7, 6], "activation": "tanh"},
    "mmoe": {"name": "mmoe", "num_experts": 3, "expert_units": [7, 6], "activation": "tanh"},
    "ple": {"name": "ple", "expert_units": [6], "activation": "tanh"},
    "single_task": {"name": "single_task", "units": [7, 6], "activation": "tanh"},
    "omoe": {"name": "omoe", "num_experts": 3, "expert_units": [7, 6], "activation": "tanh"},
    "cgc": {"name": "cgc", "expert_units": [6], "activation": "tanh"},
    "cross_stitch": {"name": "cross_stitch", "units": [7, 6], "activation": "tanh"},
    "snr": {"name": "snr", "num_subnets": 3, "activation": "tanh"},
    "mssm": {"name": "mssm", "activation": "tanh"},
}
ABLATIONS = {
    "ctfm": {"gkd": False},
    "ctfm, no stop": {"gkd": False, "stop_gradient": False},
    "gkd": {"ctfm": False},
    "full": {},
    "full, no stop": {"stop_gradient": False},
}
FAST = {("mmoe", "full"), ("mmoe", "full, no stop"), ("single_task", "full")}
CASES = [
    pytest.param(base, ABLATIONS[name], id=f"{base}: {name}",
                 marks=[] if (base, name) in FAST else [pytest.mark.long])
    for base in BASES for name in (ABLATIONS if base == "mmoe" else ("full", "full, no stop"))
]


def connected(base="mmoe", **options):
    keras.utils.set_random_seed(5)
    base = BASES[base] if isinstance(base, str) else base
    architecture = architectures.get("dml", base=base, **{"head_units": [6], "activation": "tanh", **options})
    architecture.connect(NAMES, SCHEMA)
    return drawn(architecture)


def drawn(architecture):
    """Weights large enough that nothing is nearly symmetric, and no ReLU of so few units is dead for all items."""
    rng = np.random.default_rng(5)
    for weight in architecture.trainable_variables:
        weight.assign(rng.normal(size=weight.shape) * 0.4 + (0.2 if "bias" in weight.path else 0))
    return architecture


@pytest.fixture
def data(rng):
    x = {
        "x": tf.constant(rng.normal(size=(4, LENGTH, 4)), tf.float32),
        "age": tf.constant(rng.normal(size=4), tf.float32),
        "brand": tf.constant(rng.integers(0, 4, (4, LENGTH)), tf.int32),
        "list_size": tf.constant(SIZES),
    }
    return x, {name: tf.constant(rng.integers(0, 2, (4, LENGTH)), tf.float32) for name in NAMES}


@pytest.fixture
def features(data):
    return {name: value for name, value in data[0].items() if name != "list_size"}


class Weights(GramMethod):
    """Given weights through the machinery of a Gram method."""

    def __init__(self, values):
        object.__setattr__(self, "values", tf.constant(values, tf.float32))

    def weigh(self, signals, state):
        return self.values, state


def gradients_of(tape, totals, variables):
    """id of a variable -> its gradient for every total, ``[T, ...]``."""
    per_total = [tape.gradient(t, [v.value for v in variables], unconnected_gradients="zero") for t in totals]
    return {id(v): np.array([tf.convert_to_tensor(g) for g in rows])
            for v, *rows in zip(variables, *per_total, strict=True)}


@pytest.mark.product
@pytest.mark.parametrize(("base", "options"), CASES)
def test_groups_say_what_the_gradients_say(features, base, options):
    """For every variable (every slice of a stacked one): the tasks of its group are those whose scores reach it."""
    architecture = connected(base, **options)
    groups = architecture.variable_groups()
    listed = [id(v) for group in groups for v in group.variables]
    assert sorted(listed) == sorted(id(v) for v in architecture.trainable_variables), "each variable in one group"
    with tf.GradientTape(persistent=True) as tape:
        scores = architecture(batch=Batch(features, valid=VALID))
        totals = [tf.reduce_sum(scores[task] ** 2) for task in NAMES]
    rows = gradients_of(tape, totals, architecture.trainable_variables)
    for group in groups:
        for variable in group.variables:
            reached = rows[id(variable)] != 0
            if group.stacked:
                blocks = reached.reshape(len(NAMES), len(NAMES), -1).any(axis=2)
                np.testing.assert_array_equal(blocks, np.eye(len(NAMES), dtype=bool), err_msg=variable.path)
            else:
                by_task = reached.reshape(len(NAMES), -1).any(axis=1)
                np.testing.assert_array_equal(np.flatnonzero(by_task), group.tasks, err_msg=variable.path)
    shared = [group.tasks for group in groups if group.shared]
    nothing_shared = base == "single_task" and options.get("ctfm") is False
    assert shared == ([] if nothing_shared else [(0, 1, 2)]), "what all tasks share is balanced together"


@pytest.mark.parametrize(("base", "options"), [
    case for case in CASES if case.values[0] not in ("snr", "mssm")  # their gates draw noise, in training alone
])  # fmt: skip
def test_engine_weighs_the_gradients_of_the_forward_pass(data, base, options):
    """Both modes, with unequal weights: nothing that a task's loss reaches is missed by the cut, or counted twice."""
    architecture = connected(base, **options)
    batch, losses = Batch.of(data, SCHEMA), TaskLosses(TASKS, has_lists=True)
    with tf.GradientTape(persistent=True) as tape:
        values = tf.unstack(losses(batch, architecture(batch=Batch(batch.features, valid=VALID)), Replicas()).local)
    rows = gradients_of(tape, values, architecture.trainable_variables)
    weights = [0.5, 2.0, 1.0]
    for mode in ("parameters", "features"):
        engine = Engine(architecture, losses, Weights(weights), mode)
        clock = Clock(0, 0, tf.constant([0, 0]), tf.fill([3], 1 / 3))
        step = engine.step(batch, clock, [{}])
        shared = {id(v) for v in engine.shared_variables}
        for gradient, variable in step.gradients:
            expected = np.tensordot(weights if id(variable) in shared else np.ones(3), rows[id(variable)], 1)
            assert np.abs(expected).max() > 0, variable.path
            np.testing.assert_allclose(
                tf.convert_to_tensor(gradient), expected, rtol=1e-4, atol=2e-6, err_msg=f"{mode} {variable.path}"
            )


@pytest.mark.parametrize("options", [
    {"name": "mmoe", "num_experts": 3, "expert_units": [6], "activation": "tanh", "head_units": [6], "dropout": 0.5},
    {"name": "shared_bottom", "units": [7], "activation": "elu", "head_units": [5, 4], "layer_norm": True},
], ids=lambda options: options["name"])
@pytest.mark.parametrize("ready", [False, True], ids=["by name", "ready"])
def test_without_both_parts_it_is_its_base(features, options, ready):
    """Its towers are those of the base, in training as well; what is given to both is no contradiction."""
    alone = architectures.get(options)
    alone.connect(NAMES, SCHEMA)
    drawn(alone)
    make = architectures.registry.constructor(options["name"])
    for repeated in ({}, {"head_units": options["head_units"], "dropout": options.get("dropout", 0.0)}):
        base = make(**{key: value for key, value in options.items() if key != "name"}) if ready else options
        architecture = architectures.get("dml", base=base, ctfm=False, gkd=False, **repeated)
        architecture.connect(NAMES, SCHEMA)
        drawn(architecture)
        assert [w.shape for w in architecture.weights] == [w.shape for w in alone.weights]
        for training in (False, True):
            scores = []
            for model in (architecture, alone):
                with randomness.scope(tf.constant([1, 2])):
                    scores.append(model(batch=Batch(features, valid=VALID), training=training))
            for task in NAMES:
                np.testing.assert_array_equal(scores[0][task], scores[1][task])


def test_towers_may_differ_from_the_base_where_both_are_heard():
    """The base's dropout goes to its experts, the one given to dml to the towers."""
    dml = architectures.get("dml", base={"name": "mmoe", "dropout": 0.2, "activation": "tanh"}, dropout=0.3)
    assert (dml.hidden["dropout"], dml.hidden["activation"], dml.base.hidden["dropout"]) == (0.3, "tanh", 0.2)
    assert dml.head_units == dml.base.head_units


def test_a_base_without_layers_of_its_own(features):
    """Nothing but the scorers tells its tasks apart; GKD still has hidden states of every task."""
    options = {"base": {"name": "single_task", "units": ()}, "ctfm": False, "head_units": ()}
    architecture = architectures.get("dml", **options)
    architecture.connect(NAMES, Schema(f for f in SCHEMA.features if not f.embedded))
    assert [s.shape for s in architecture(batch=Batch(features, valid=VALID)).values()] == [(4, LENGTH)] * 3


def test_the_earlier_gkd_is_an_option(features):
    """Of equal weights: the residual adds h_t v_t to the score."""
    plain, residual = connected(ctfm=False), connected(ctfm=False, gkd_residual=True)
    inputs = tf.random.stateless_normal([3, 4, 6], (1, 2))
    added = tf.matmul(plain.towers(inputs), tf.convert_to_tensor(plain.gkd.readout))
    expected = plain.tower_scores(inputs, False) + added
    np.testing.assert_allclose(residual.tower_scores(inputs, False), expected, rtol=1e-5, atol=1e-6)


def test_parts_without_readout_change_nothing(features):
    """v = 0 and no values: with zeroed parts, DML scores as its base does."""
    plain = connected(ctfm=False, gkd=False)
    full = connected()
    for target, source in ((full.base, plain.base), (full.towers, plain.towers), (full.scorers, plain.scorers)):
        target.set_weights(source.get_weights())
    full.gkd.readout.assign(tf.zeros_like(full.gkd.readout))
    full.ctfm.value.set_weights([np.zeros((6, 6)), np.zeros(6)])
    for task, scores in full(batch=Batch(features, valid=VALID)).items():
        np.testing.assert_allclose(scores, plain(batch=Batch(features, valid=VALID))[task], atol=1e-6)


def test_stop_gradient_changes_no_score_in_training_either(features):
    """The keys are computed below the cut, what the towers read above it: with the same dropout, or this fails."""
    random = {"dropout": 0.3, "mutual_dropout": 0.3, "base": {**BASES["mmoe"], "gate_dropout": 0.5, "dropout": 0.2}}
    scores = []
    for stop in (True, False):
        architecture = connected(stop_gradient=stop, **random)
        with randomness.scope(tf.constant([1, 2])):
            scores.append(architecture(batch=Batch(features, valid=VALID), training=True))
        assert (scores[-1]["click"] != architecture(batch=Batch(features, valid=VALID))["click"]).numpy().any()
    for task in NAMES:
        np.testing.assert_allclose(scores[0][task], scores[1][task], atol=1e-6)


@pytest.mark.parametrize("stop", [True, False])
def test_attention_between_tasks_can_be_inspected(features, stop):
    seen = connected(stop_gradient=stop).inspect(Batch(features, valid=VALID))
    assert {"gates", "attention"} <= set(seen)
    assert seen["attention"].shape == (3, 3)
    np.testing.assert_allclose(np.sum(seen["attention"], axis=1), 1.0, rtol=1e-6)


def test_padding_never_influences_real_items(features):
    architecture = connected()
    padding = ~VALID.numpy()
    dirty = {**features, "x": np.where(padding[..., None], np.nan, features["x"]).astype(np.float32),
             "brand": np.where(padding, 3, features["brand"])}
    clean = architecture(batch=Batch(features, valid=VALID))
    for task, scores in architecture(batch=Batch(dirty, valid=VALID)).items():
        np.testing.assert_array_equal(scores[VALID], clean[task][VALID])
        np.testing.assert_array_equal(scores[~VALID], 0)


def test_bases_that_do_not_fit():
    with pytest.raises(ValueError, match=r"ends in one tower per task.*DRGrad has no such towers"):
        architectures.get("dml", base="drgrad")
    with pytest.raises(ValueError, match="DML has no such towers, or has parts"):
        architectures.get("dml", base="dml")
    message = r"head_units=\(64,\) was given to it and \(3,\) to its base: give them to one of the two"
    for base in ({"name": "mmoe", "head_units": [3]}, MMoE(head_units=(3,))):
        with pytest.raises(ValueError, match=message):
            architectures.get("dml", base=base, head_units=(64,))
    with pytest.raises(ValueError, match="give encoder and interaction to the base"):
        architectures.get("dml", encoder="transformer")
    with pytest.raises(ValueError, match="no architecture is called 'mmo'; did you mean 'mmoe'"):
        architectures.get("dml", base="mmo")


def ranker(strategy=None, **options):
    keras.utils.set_random_seed(7)
    with (strategy or tf.distribute.get_strategy()).scope():
        model = MultiTaskRanker({"name": "dml", "base": BASES["mmoe"], "head_units": [6]}, TASKS, SCHEMA)
        model.compile(keras.optimizers.SGD(0.1), train_metrics=False, **options)
    return model


@pytest.mark.slow
def test_trained_and_saved(data, tmp_path):
    """Dropout on, in a traced step; the file holds base, parts and how they were made."""
    model = MultiTaskRanker(
        {"name": "dml", "base": {**BASES["mmoe"], "gate_dropout": 0.3}, "mutual_dropout": 0.3, "head_units": [6]},
        TASKS, SCHEMA,
    )
    model.compile("adam", train_metrics=False)
    before = model.get_weights()
    model.fit(*data, epochs=2, verbose=0, batch_size=4)
    for weight, start in zip(model.architecture.trainable_variables, before, strict=False):
        assert (weight.numpy() != start).any(), weight.path
    model.save(tmp_path / "model.keras")
    again = tfmtl2r.load(tmp_path / "model.keras")
    for task, scores in model(data[0]).items():
        np.testing.assert_array_equal(again(data[0])[task], scores)


@pytest.mark.slow
def test_session_loader_gives_what_the_ranker_gives(data, tmp_path):
    model = ranker()
    folder = tfmtl2r.export(model, tmp_path)
    raw = {**{k: v.numpy() for k, v in data[0].items()}, "brand": np.array(["?", "a", "b", "c"])[data[0]["brand"]]}
    with LoadedExport(folder) as loaded:
        answer = loaded.run("serving_default", raw)
    for task, scores in model(data[0]).items():
        np.testing.assert_allclose(answer[f"score_{task}"][VALID], scores[VALID], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["parameters", "features"])
def test_two_replicas_make_the_same_updates(data, mode, mirrored):
    """Attention's weights are shared through tensors per item, so that Gram matrices of replicas add up."""

    trained = []
    for strategy in (tf.distribute.get_strategy(), mirrored()):
        model = ranker(strategy, method="mgda", gradients=mode)
        model.fit(tf.data.Dataset.from_tensor_slices(data).batch(3), epochs=3, verbose=0)
        trained.append(model.architecture.get_weights())
    for one, two in zip(*trained, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-5)


def test_groups_of_variables_that_do_not_broadcast():
    """Experts and gates of other shapes: groups are told apart by what they are, not by the numbers in them."""
    dml = architectures.get("dml", base={"name": "mmoe", "num_experts": 4, "expert_units": (6,)}, head_units=(4,))
    dml.connect(("rating", "like"), Schema([Dense("x", shape=(5,))]))
    listed = [id(v) for group in dml.variable_groups() for v in group.variables]
    assert sorted(listed) == sorted(id(v) for v in dml.trainable_variables)
