"""Shared fixtures. Two logical CPUs are set up before anything initialises TensorFlow, for tests with two replicas."""

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


@pytest.fixture
def rng():
    return np.random.default_rng(0)
