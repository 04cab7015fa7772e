"""MSSM: against numpy with open and closed gates, field gates, connectivity, groups and gradients."""

import itertools

import numpy as np
import pytest
from architecture_problem import VALID, check_gradients, connected

from tfmtl2r import MultiTaskRanker, architectures
from tfmtl2r._backend import tf
from tfmtl2r.batch import Batch
from tfmtl2r.layers.field_gates import FieldGates
from tfmtl2r.testing.architecture import NUMBERS, SCHEMA, TASKS, make_features

OPEN, SHUT = 20.0, -20.0
WIDTH = 5


@pytest.fixture
def features(rng):
    return make_features(rng)


SLOW = [({"levels": 2}, NUMBERS), ({"levels": 3, "task_experts": 1}, NUMBERS), ({"field_gates": True}, SCHEMA)]


@pytest.mark.parametrize(
    ("options", "schema"),
    [({"levels": 3, "field_gates": True}, SCHEMA), *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
    ids=["three levels", "two", "single experts", "one level"],
)
def test_gradients_and_groups_of_several_levels(features, rng, options, schema):
    check_gradients("mssm", options, schema, features)


def test_a_gate_for_every_number(features, rng):
    """One level: each task sums linear maps of its own and the shared experts, number by number as its gates say."""
    architecture = connected("mssm", activation="tanh")
    level = architecture.levels[0]
    shape = level.task_connections.gates.log_alpha.shape
    assert shape == (3, 4, WIDTH)
    open_gates = rng.integers(0, 2, shape).astype(float)
    level.task_connections.gates.log_alpha.assign(np.where(open_gates > 0, OPEN, SHUT))
    x = architecture.encoder(batch=Batch(features, valid=VALID))
    own, common = level.own(x[None], False).numpy(), level.common(x[None], False).numpy()
    kernel = np.asarray(level.task_connections.kernel)
    mixed = []
    for task in range(3):
        seen = [own[2 * task], own[2 * task + 1], *common]
        mixed.append(sum(open_gates[task, j] * (output @ kernel[task, j]) for j, output in enumerate(seen)))
    expected = architecture.tower_scores(tf.constant(np.stack(mixed), tf.float32), training=False)
    for task, scores in enumerate(architecture(batch=Batch(features, valid=VALID)).values()):
        np.testing.assert_allclose(scores[VALID], expected[task][:, 0], rtol=1e-4, atol=1e-5)


def test_levels_hand_on_through_all_experts(features):
    """Open for the shared reader is one expert of task 0 alone: through it, task 2 learns from task 0."""
    architecture = connected("mssm", levels=2, schema=NUMBERS, activation="tanh")
    first, last = architecture.levels
    gates = np.full((1, 8, WIDTH), SHUT)
    gates[:, 0] = OPEN  # the first expert of task 0
    first.to_shared.gates.log_alpha.assign(gates)
    own_only = np.full((3, 4, WIDTH), SHUT)
    own_only[:, 2:] = OPEN  # every task reads the shared experts of the last level alone
    last.task_connections.gates.log_alpha.assign(own_only)
    with tf.GradientTape() as tape:
        scores = architecture(batch=Batch(features, valid=VALID))
        total = tf.reduce_sum(scores["like"][VALID])
    gradient = tape.gradient(total, first.task_experts.dense[0].kernel.value).numpy()
    assert np.abs(gradient[0]).max() > 0
    np.testing.assert_array_equal(gradient[1:], 0)


def test_field_gates_are_those_of_the_definition(rng):
    fields, x = (3, 1, 2), rng.normal(size=(2, 7, 6)).astype(np.float32)
    layer = FieldGates(4, fields)
    directions = np.asarray(layer.directions)
    outputs = layer(tf.constant(x)).numpy()
    assert outputs.shape == (4, 7, 6)
    starts = np.cumsum([0, *fields])
    dropped = 0
    for network in range(4):
        for item in range(7):
            for begin, end in itertools.pairwise(starts):
                encoded = x[network // 2, item, begin:end]
                gate = max(np.tanh(encoded @ directions[network, begin:end]), 0.0)
                dropped += gate == 0
                np.testing.assert_allclose(outputs[network, item, begin:end], gate * encoded, rtol=1e-4, atol=1e-6)
    assert 0 < dropped < 4 * 7 * 3


def test_a_feature_behind_a_shut_gate_is_not_read(features):
    architecture = connected("mssm", field_gates=True)
    assert architecture.encoder.fields == (3, 1, 2)
    for layer in (architecture.levels[0].task_fields, architecture.levels[0].common_fields):
        directions = np.array(layer.directions)
        directions[:, 3] = 0.0
        layer.directions.assign(directions)
    scores = architecture(batch=Batch(features, valid=VALID))
    for task, other in architecture(batch=Batch({**features, "age": features["age"] + 3.0}, valid=VALID)).items():
        np.testing.assert_array_equal(other, scores[task])
    seen = architecture.inspect(Batch(features, valid=VALID))
    assert seen["task_fields"].shape == (6, 3)
    np.testing.assert_array_equal(seen["task_fields"][:, 1], 0)


def test_penalty_counts_open_gates():
    architecture = connected("mssm", levels=2, penalty=0.01)
    gates = (2 * 3 * 4 + 8) * WIDTH
    np.testing.assert_allclose(sum(map(float, architecture.losses)), 0.01 * gates * 0.83182, rtol=1e-5)


def test_options_out_of_range():
    for options in ({"levels": 0}, {"task_experts": 0}, {"shared_experts": 0}, {"expert_units": ()}):
        with pytest.raises(ValueError, match="MSSM needs at least one level"):
            architectures.get("mssm", **options)
    with pytest.raises(ValueError, match="beta > 0"):
        architectures.get("mssm", beta=0.0)
    with pytest.raises(ValueError, match="weight single features, but a list encoder mixes them"):
        architectures.get("mssm", field_gates=True, encoder="transformer")


def test_the_preference_is_a_field_of_a_conditioned_ranker(features):
    described = {"name": "mssm", "expert_units": [WIDTH], "field_gates": True}
    model = MultiTaskRanker(described, TASKS, SCHEMA, conditioned=1.0)
    assert model.architecture.levels[0].task_fields.directions.shape == (3, 6 + 3)
    lists = {**features, "list_size": tf.reduce_sum(tf.cast(VALID, tf.int32), axis=1)}
    scores = [model({**lists, "preference": tf.constant([row] * 3)}) for row in ([1.0, 0.0, 0.0], [0.0, 0.0, 1.0])]
    assert (scores[0]["click"] != scores[1]["click"])[VALID].numpy().any()
