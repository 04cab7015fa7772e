"""Every method, whatever it is called, inside a training: two replicas, bfloat16, a file in the middle.

Slow, since each name is traced anew; ``tests/training`` has the same of one method of every kind.
"""

import numpy as np
import pytest

from tfmtl2r import Dense, MultiTaskRanker, Schema, methods
from tfmtl2r._backend import keras, tf
from tfmtl2r.task import Task

pytestmark = pytest.mark.long
NAMES = methods.names()
STATEFUL = [name for name in NAMES if methods.get(name).initial_state(3, 4)]
TASKS = ("one", "two", "three")


@pytest.fixture(scope="module")
def two_replicas(mirrored):
    return mirrored()


def batches(size=8):
    """13 lists: a last batch of 5. The second task is missing on the first replica of the first batch."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(3, 6, 13).astype(np.int32)
    x = {"x": rng.normal(size=(13, 5, 3)).astype(np.float32), "list_size": sizes}
    valid = np.arange(5) < sizes[:, None]
    y = {task: np.where(valid, rng.integers(0, 3, (13, 5)), np.nan).astype(np.float32) for task in TASKS}
    y["two"][:4] = np.nan
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(size)


def ranker(name, optimizer=None, **architecture):
    keras.utils.set_random_seed(7)
    architecture = {"name": "shared_bottom", "units": [5], "head_units": [], **architecture}
    model = MultiTaskRanker(architecture, [Task(task, loss="softmax") for task in TASKS], Schema([Dense("x", (3,))]))
    model.compile(optimizer or keras.optimizers.SGD(0.1), method=name, train_metrics=False)
    return model


def furthest(after, before):
    """The largest change of a number; bounds that are infinite before and after did not change."""
    pairs = [(new[new != old], old[new != old]) for new, old in zip(after, before, strict=True)]
    return max(np.abs(new - old).max(initial=0) for new, old in pairs)


def trained(model):
    return [np.array(v) for v in model.trainable_variables + model.method_state.variables]


@pytest.mark.product
@pytest.mark.parametrize("name", NAMES)
def test_two_replicas_make_the_updates_of_one(name, two_replicas):
    """SGD, since Adam magnifies rounding in near-zero gradients."""
    ends = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            model = ranker(name)
        start = trained(model)
        model.fit(batches(), epochs=2, verbose=0)
        ends.append(trained(model))
    assert furthest(ends[0], start) > 1e-3
    for one, two in zip(*ends, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-5)


@pytest.mark.product
@pytest.mark.parametrize("name", NAMES)
def test_a_bfloat16_model_trains_in_one_trace(name):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = ranker(name)
    traces, step = [], model.train_step
    model.train_step = lambda data: traces.append(1) or step(data)
    before = trained(model)
    history = model.fit(batches(), epochs=3, verbose=0).history
    traced = len(traces)
    model.fit(batches(5), epochs=1, verbose=0)  # batches of 5, 5 and 3
    assert len(traces) == traced
    after = trained(model)
    assert np.isfinite(history["loss"]).all()
    assert all(np.isfinite(value[value < np.inf]).all() for value in after)
    assert furthest(after, before) > 1e-3
    assert {v.dtype for v in model.trainable_variables} == {"float32"}


@pytest.mark.product
@pytest.mark.parametrize("name", STATEFUL)
def test_a_file_in_the_middle_changes_nothing(name, tmp_path):
    """The method's state and randomness, dropout and the optimizer go on as if training had not stopped."""
    straight = ranker(name, keras.optimizers.Adam(0.01), dropout=0.3)
    straight.fit(batches(), epochs=2, verbose=0)
    straight.save(tmp_path / "model.keras")
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    for model in (straight, resumed):
        model.fit(batches(), epochs=2, verbose=0)
    for one, two in zip(trained(straight), trained(resumed), strict=True):
        np.testing.assert_allclose(two, one, atol=1e-7)
