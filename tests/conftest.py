"""Shared fixtures. Two logical CPUs are set up before anything initialises TensorFlow, for tests with two replicas."""

import itertools
import os
import zlib

import numpy as np
import pytest

os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")  # two processes of tests share two CPUs; before TensorFlow

from tfmtl2r._backend import keras, tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


def pytest_addoption(parser):
    parser.addoption("--share", metavar="K/N", help="runs one of N shares of the tests marked long: share K modulo N")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Long tests are slow ones. Leaves out those of the other shares; a test's share depends on its name alone."""
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker("slow")
    if not (share := config.getoption("--share")):
        return
    turn, shares = map(int, share.split("/"))

    def runs(item):
        return item.get_closest_marker("long") is None or zlib.crc32(item.nodeid.encode()) % shares == turn % shares

    config.hook.pytest_deselected(items=[item for item in items if not runs(item)])
    items[:] = filter(runs, items)
    if hasattr(config, "workeroutput"):
        found = [item.nodeid.split("[")[0] for item in items if item.get_closest_marker("long")]
        config.workeroutput["long"] = [f"{name} ({found.count(name)})" for name in dict.fromkeys(found)]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Prints once which of the long tests a run of several processes contained."""
    if node.workerinput["workerid"] == "gw0" and (long := getattr(node, "workeroutput", {}).get("long")):
        print(f"\nThe share {node.config.getoption('--share')} of the long tests:", *long, sep="\n  ")


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


@pytest.fixture(scope="session")
def looked_at():
    """Measures a PNG: it is large enough, shows marks in colour, and cuts nothing off at its frame."""
    from PIL import Image

    def check(path, width=400, height=250):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
        assert pixels.shape[0] >= height, (path, pixels.shape)
        assert pixels.shape[1] >= width, (path, pixels.shape)
        drawn = np.abs(pixels - pixels[0, 0]).max(-1) > 24
        assert 0.005 < drawn.mean() < 0.6, (path, drawn.mean())
        frame = {"top": drawn[:2], "bottom": drawn[-2:], "left": drawn[:, :2], "right": drawn[:, -2:]}
        assert not [side for side, strip in frame.items() if strip.any()], f"{path}: something is cut off"
        assert (np.ptp(pixels, axis=-1) > 60).mean() > 0.0001, f"{path}: nothing but grey"

    return check


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
