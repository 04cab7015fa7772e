"""A step that reads its batch in parts makes the update of the whole batch."""

import numpy as np
import pytest

from tfmtl2r import MultiTaskRanker
from tfmtl2r._backend import keras, tf
from tfmtl2r.experiment import Experiment

BOTTOM = {"name": "shared_bottom", "units": [5], "head_units": [4]}
DML = {"name": "dml", "base": {"name": "mmoe", "num_experts": 2, "expert_units": [4], "head_units": [3]}}
FAST = [("famo", "parameters", BOTTOM), ("modo", "parameters", BOTTOM), ("pcgrad", "features", DML)]
SLOW = [
    ("linear_scalarization", "parameters", DML), ("mgda", "parameters", BOTTOM), ("db_mtl", "parameters", BOTTOM),
    ("mgda", "features", BOTTOM), ("pcgrad", "parameters", DML),
    ("cagrad", "parameters", {"name": "drgrad", "num_experts": 2, "expert_units": [4], "head_units": [3]}),
]  # fmt: skip


def trained(problem, parts, method, mode, architecture):
    """Two eager steps, the second on fewer lists than there are parts times two; weights, method state and logs."""
    keras.utils.set_random_seed(3)
    model = MultiTaskRanker(architecture, problem.tasks, problem.schema)
    model.compile(keras.optimizers.SGD(0.1), method=method, gradients=mode, accumulate=parts, run_eagerly=True)
    model.prepare(problem.batches())
    for batch in problem.batches(13).take(1), problem.batches(3).skip(8).take(1):
        logs = model.train_step(next(iter(batch)))
    return [np.array(v) for v in model.weights], {key: float(value) for key, value in logs.items()}


@pytest.fixture
def gaps(problem):
    """A task that is absent from a whole part, and one that is absent from the last batch."""
    problem.y["grade"][:6] = np.nan
    problem.y["dwell"][24:27] = np.nan
    return problem


@pytest.mark.product
@pytest.mark.parametrize(("method", "mode", "architecture"), [
    *FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)])
def test_the_update_is_that_of_the_whole_batch(gaps, method, mode, architecture):
    """Dense and sparse gradients, method states, losses after the update, second batches, penalties, routing."""
    (whole, logs), (parts, others) = (trained(gaps, count, method, mode, architecture) for count in (1, 3))
    for one, two in zip(whole, parts, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-6)
    assert logs.keys() == others.keys()
    np.testing.assert_allclose([*others.values()], [*logs.values()], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_parts_draw_their_own_masks_twice_alike(problem):
    """With dropout a step is no longer that of the whole batch, but it repeats itself, and its passes agree."""
    dropped = {**BOTTOM, "dropout": 0.5}
    one, two, whole = (trained(problem, count, "famo", "parameters", dropped)[0] for count in (3, 3, 1))
    for mine, theirs in zip(one, two, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert any(np.abs(mine - theirs).max() > 1e-6 for mine, theirs in zip(one, whole, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["linear_scalarization", "mgda"])
def test_memory_holds_one_part(problem, method):
    """In the graph, a part waits for the gradients of the part before it."""
    model = MultiTaskRanker(BOTTOM, problem.tasks[:1], problem.schema)
    model.compile("adam", method=method, accumulate=2, train_metrics=False)
    batch = next(iter(problem.batches()))
    model.prepare(batch)
    graph = tf.function(model.train_step, autograph=False).get_concrete_function(batch).graph
    gradients = len(model.trainable_variables)
    reads = [op for op in graph.get_operations() if op.type == "ReadVariableOp"]
    assert any(len(op.control_inputs) >= gradients for op in reads)


def test_it_is_saved_and_checked(problem, tmp_path):
    model = MultiTaskRanker(BOTTOM, problem.tasks, problem.schema)
    with pytest.raises(ValueError, match="accumulate is the number of parts of a batch, at least 1, not 0"):
        model.compile("adam", accumulate=0)
    model.compile("adam", accumulate=4)
    assert model.get_compile_config()["accumulate"] == 4
    data = {"name": "synthetic_mslr", "num_lists": 16, "max_length": 8, "num_tasks": 2, "num_features": 8}
    made = Experiment("a", data=data, training={"accumulate": 3, "batch_size": 2})
    assert made.model(made.dataset()).get_compile_config()["accumulate"] == 3
