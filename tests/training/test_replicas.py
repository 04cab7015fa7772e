"""One replica and two replicas are the same training: updates, losses, metrics, embedding tables, method state."""

import functools

import numpy as np
import pytest

from tfmtl2r import MultiTaskRanker, methods
from tfmtl2r._backend import keras, tf
from tfmtl2r.methods._base import MODES

RUNS = [
    (name, mode)
    for name in methods.names()
    for mode in MODES
    if mode in methods.registry.constructor(name).modes
]
TOLERANCE = 1e-5


@functools.cache
def two_replicas():
    """One strategy for all tests: TensorFlow numbers the collectives of two strategies in a process alike."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def ranker(problem, strategy, method="linear_scalarization", mode="parameters"):
    """The same initial weights whatever the strategy; SGD, since Adam magnifies rounding in near-zero gradients."""
    keras.utils.set_random_seed(7)
    with strategy.scope():
        architecture = {"name": "shared_bottom", "units": [8, 6], "head_units": [4]}
        model = MultiTaskRanker(architecture, problem.tasks, problem.schema)
        model.compile(keras.optimizers.SGD(0.1), method=method, gradients=mode)
    return model


def weights_of(model):
    """By position and path: Keras numbers the layers of a process, so that two models have other paths."""
    variables = model.trainable_variables + model.method_state.variables
    return {f"{i} {v.path}": np.array(v) for i, v in enumerate(variables)}


def assert_same(one, two):
    assert len(one) == len(two)
    for (name, value), other in zip(one.items(), two.values(), strict=True):
        np.testing.assert_allclose(other, value, atol=TOLERANCE, rtol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize(("method", "mode"), RUNS)
def test_fit(problem, method, mode):
    """29 lists in batches of 8: the last batch is 5, three lists on one replica and two on the other."""
    trained, logs = [], []
    for strategy in (tf.distribute.get_strategy(), two_replicas()):
        model = ranker(problem, strategy, method, mode)
        before = weights_of(model)
        history = model.fit(problem.batches(), epochs=2, verbose=0, validation_data=problem.batches()).history
        trained.append(weights_of(model))
        logs.append(history)
    for (name, start), end in list(zip(before.items(), trained[1].values(), strict=True))[: len(model.trainable_variables)]:
        assert np.abs(end - start).max() > 1e-3, name
    assert_same(*trained)
    assert logs[0].keys() == logs[1].keys()
    assert_same(*logs)
