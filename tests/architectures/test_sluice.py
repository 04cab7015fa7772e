"""Sluice networks: against numpy, independent networks as a special case, the penalty, groups and gradients."""

import numpy as np
import pytest
from architecture_problem import VALID, check_gradients, connected

from tfmtl2r import architectures
from tfmtl2r._backend import tf
from tfmtl2r.batch import Batch
from tfmtl2r.testing.architecture import NUMBERS, SCHEMA, TASKS, make_features

WIDTH = 6


@pytest.fixture
def features(rng):
    return make_features(rng)


def draw(architecture, rng):
    for weight in architecture.trainable_variables:
        weight.assign(rng.normal(size=weight.shape) * 0.5)


def dense(layer, inputs, task, activation=np.tanh):
    kernel, bias = (np.asarray(w)[task] for w in (layer.kernel, layer.bias))
    return activation(inputs @ kernel + bias)


def test_scores_are_those_of_the_definition(features, rng):
    """Two layers, three tasks, item by item in numpy."""
    architecture = connected("sluice", num_layers=2, activation="tanh")
    draw(architecture, rng)
    x = architecture.encoder(batch=Batch(features, valid=VALID)).numpy()
    states, layers = [x] * 3, []
    for block, stitch in zip(architecture.blocks, architecture.stitches, strict=True):
        outputs = [dense(block.dense[0], states[task], task) for task in range(3)]
        halves = [half for output in outputs for half in np.split(output, 2, axis=-1)]
        alpha = np.asarray(stitch.alpha)
        mixed = [sum(alpha[row, column] * halves[column] for column in range(6)) for row in range(6)]
        states = [np.concatenate(mixed[2 * task: 2 * task + 2], axis=-1) for task in range(3)]
        layers.append(states)
    beta = np.asarray(architecture.beta)
    scores = architecture(batch=Batch(features, valid=VALID))
    for task, name in enumerate(TASKS):
        read = sum(beta[task, number] * states[task] for number, states in enumerate(layers))
        hidden = dense(architecture.towers.dense[0], read, task)
        expected = dense(architecture.scorers, hidden, task, activation=lambda v: v)[:, 0]
        np.testing.assert_allclose(scores[name][VALID], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "schema"),
    [({"num_layers": 3}, SCHEMA), pytest.param({"num_layers": 2}, NUMBERS, marks=pytest.mark.slow)],
    ids=["three", "two on numbers"],
)
def test_gradients_and_groups_of_several_layers(features, rng, options, schema):
    check_gradients("sluice", options, schema, features)


def test_identity_and_the_last_layer_alone_are_independent_networks(features, rng):
    architecture = connected("sluice", schema=NUMBERS, num_layers=2, activation="tanh")
    draw(architecture, rng)
    for stitch in architecture.stitches:
        stitch.alpha.assign(np.eye(6))
    architecture.beta.assign([[0.0, 1.0]] * 3)
    alone = connected("single_task", schema=NUMBERS, units=(WIDTH, WIDTH), activation="tanh")
    for number, block in enumerate(architecture.blocks):
        alone.trunks.dense[number].set_weights(block.dense[0].get_weights())
    alone.towers.set_weights(architecture.towers.get_weights())
    alone.scorers.set_weights(architecture.scorers.get_weights())
    expected = alone(batch=Batch(features, valid=VALID))
    for task, scores in architecture(batch=Batch(features, valid=VALID)).items():
        np.testing.assert_allclose(scores, expected[task], atol=1e-6)


def test_starts_nearly_apart():
    architecture = connected("sluice", num_layers=2)
    for stitch in architecture.stitches:
        np.testing.assert_allclose(np.diag(stitch.alpha), 0.9, rtol=1e-6)
        np.testing.assert_allclose(np.sum(stitch.alpha, axis=1), 1.0, rtol=1e-6)
        assert len(np.unique(np.asarray(stitch.alpha).round(6))) == 2
    np.testing.assert_array_equal(architecture.beta, np.full((3, 2), 0.5))


def test_penalty_is_zero_where_the_halves_are_orthogonal(rng):
    architecture = connected("sluice", num_layers=2, penalty=0.3)
    kernels = [np.asarray(block.dense[0].kernel) for block in architecture.blocks]
    expected = 0.3 * sum(
        np.sum((kernel[task][:, :3].T @ kernel[task][:, 3:]) ** 2) for kernel in kernels for task in range(3)
    )
    np.testing.assert_allclose(sum(map(float, architecture.losses)), expected, rtol=1e-5)
    basis = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0]
    for block in architecture.blocks:
        block.dense[0].kernel.assign(np.tile(basis, (3, 1, 1)))
    assert 0.0 <= sum(map(float, architecture.losses)) < 1e-9
    with tf.GradientTape() as tape:
        kernels = [block.dense[0].kernel.value for block in architecture.blocks]
        tape.watch(kernels)
        kernels[0].assign(2.0 * rng.normal(size=kernels[0].shape))
        penalty = tf.add_n(architecture.losses)
    first, second = tape.gradient(penalty, kernels)
    assert np.abs(first).max() > 0.1 > 1e-5 > np.abs(second).max()
    assert not connected("sluice", penalty=0.0).losses


def test_options_out_of_range():
    for options, message in [
        ({"units": 5}, "an even width"), ({"num_layers": 0}, "at least one layer"),
        ({"self_weight": 0.0}, r"self_weight must lie in \(0, 1\]"), ({"penalty": -1.0}, "penalty must be 0 or more"),
    ]:
        with pytest.raises(ValueError, match=message):
            architectures.get("sluice", **options)
