"""Shared fixtures. Two logical CPUs are set up before anything initialises TensorFlow, for tests with two replicas."""

import itertools

import numpy as np
import pytest

from tfmtl2r._backend import keras, tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture(autouse=True)
def _same_start():
    """Every test starts from the same random state and precision, whatever ran before it."""
    keras.utils.set_random_seed(1)
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.fixture(scope="session")
def mirrored():
    """Makes a strategy of two replicas.

    Strategies of one process number their collective operations alike and clash, so each gets numbers of its own, as in
    TensorFlow's tests.
    """
    numbers = itertools.count(100_000, 100_000)

    def make():
        class Mirrored(tf.distribute.MirroredStrategy):
            _collective_key_base = next(numbers)

        return Mirrored(["CPU:0", "CPU:1"])

    return make


collect_ignore = ["integration/outside_parts.py"]
"""Its import registers things, which tests of this process would see."""


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def registered():
    """Registers a class under its own name in small letters, for one test."""
    given = []

    def register(registry, cls):
        given.append((registry, cls.__name__.lower()))
        return registry.register(cls.__name__.lower())(cls)

    yield register
    for registry, name in given:
        registry.unregister(name)
