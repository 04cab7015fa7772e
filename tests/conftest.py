"""Shared fixtures. Two logical CPUs are set up before anything initialises TensorFlow, for tests with two replicas."""

import collections
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


CASES = pytest.StashKey()
"""Test -> number of its cases, for the tests of which --share selects cases."""


def pytest_addoption(parser):
    parser.addoption("--share", metavar="K/N",
                     help="runs one of N shares of the tests marked long or product: share K modulo N")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Long tests are slow ones. Leaves out the long tests, and the cases of products, that other shares contain."""
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker("slow")
    if not (share := config.getoption("--share")):
        return
    turn, shares = map(int, share.split("/"))
    cases = collections.defaultdict(list)
    for item in items:
        if item.get_closest_marker("long") or item.get_closest_marker("product"):
            cases[_test_of(item)].append(item)
    others = {item for name, found in cases.items() for item in _other_shares(name, found, turn, shares)}
    config.hook.pytest_deselected(items=[item for item in items if item in others])
    items[:] = [item for item in items if item not in others]
    config.stash[CASES] = {name: len(found) for name, found in cases.items()}


def pytest_collection_finish(session):
    """Notes for the main process which of the shared tests were selected, and how many of their cases."""
    if (of := session.config.stash.get(CASES, {})) and hasattr(session.config, "workeroutput"):
        ran = collections.Counter(map(_test_of, session.items))
        session.config.workeroutput["cases"] = [f"{name} ({ran[name]} of {of[name]})" for name in of if ran[name]]


def _test_of(item):
    return item.nodeid.split("[")[0]


def _other_shares(name, cases, turn, shares):
    """The cases of a test in other shares. Every share has as many, in an order that depends on nothing but names."""
    order = sorted(cases, key=lambda item: zlib.crc32(item.nodeid.encode()))
    return [item for place, item in enumerate(order) if (place + zlib.crc32(name.encode())) % shares != turn % shares]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Prints once which of the shared tests a run of several processes contained."""
    if node.workerinput["workerid"] == "gw0" and (cases := getattr(node, "workeroutput", {}).get("cases")):
        print(f"\nThe share {node.config.getoption('--share')} of the cases of these tests:", *cases, sep="\n  ")


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


@pytest.fixture(scope="module")
def two_cpus():
    """A Ray cluster of two CPUs on this machine."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        ray.init(num_cpus=2, logging_level="ERROR", log_to_driver=False)
        yield ray
        ray.shutdown()
