"""The Gram matrix at the cut, for every architecture, against per-task gradients written out at the cut's tensors."""

import numpy as np
import pytest
from architecture_problem import VALID, connected, smooth

from tfmtl2r import Task, architectures
from tfmtl2r._backend import tf
from tfmtl2r.batch import Batch
from tfmtl2r.layers import randomness
from tfmtl2r.methods import get as get_method
from tfmtl2r.testing.architecture import LENGTH, TASKS, make_features
from tfmtl2r.training.engine import Engine
from tfmtl2r.training.head_gradients import forward
from tfmtl2r.training.method_state import Clock
from tfmtl2r.training.objectives import TaskLosses
from tfmtl2r.training.penalising import Penalties

CASES = [(name, TASKS, {}) for name in architectures.names()] + [
    ("aitm", TASKS[:2], {}), ("sluice", TASKS[:2], {"num_layers": 2}), ("ple", TASKS, {"levels": 3}),
    ("mssm", TASKS, {"levels": 2}), ("dml", TASKS, {"stop_gradient": False}),
]  # fmt: skip


def drawn(architecture, rng):
    for weight in architecture.trainable_variables:
        if weight.name == "threshold":  # above the weights, it would switch off all units
            continue
        weight.assign(rng.normal(size=weight.shape) * 0.4)
    return architecture


def distinct(cut):
    """A constant for every tensor of the cut, one object for entries of equal numbers: so a second entry is found."""
    leaves = []
    for tensor in cut:
        same = [leaf for leaf in leaves if np.array_equal(np.ravel(leaf), np.ravel(tensor))]
        leaves.append(same[0] if same else tf.stop_gradient(tensor))
    return leaves


@pytest.mark.product
@pytest.mark.parametrize(("name", "tasks", "options"), CASES, ids=lambda v: v if isinstance(v, str) else str(len(v)))
def test_gram_is_that_of_the_gradients_at_the_cut(rng, name, tasks, options):
    architecture = drawn(connected(name, tasks=tasks, **smooth(name), **options), rng)
    features = make_features(rng)
    labels = {task: tf.constant(rng.integers(0, 2, (3, LENGTH)), tf.float32) for task in tasks}
    losses = TaskLosses([Task(task, kind="binary", loss="bce") for task in tasks], has_lists=True)
    with randomness.scope(tf.constant([3, 4], tf.int32)), tf.GradientTape(persistent=True) as tape:
        batch = Batch(features, labels, valid=VALID)
        cut = architecture.shared(batch, True)
        leaves = distinct(cut)
        tape.watch([leaf for leaf in leaves if leaf.dtype.is_floating])
        entries = [tf.reshape(leaf, tf.shape(tensor)) for leaf, tensor in zip(leaves, cut, strict=True)]
        run = forward(architecture, losses, Penalties(architecture, losses), entries, batch)
        each = tf.unstack(run.sums)
    gram = run.backward(tf.ones([len(tasks)]), tf.ones([1]), []).gram().numpy() if run.branches else None
    read = {id(branch.tensor) for branch in run.branches}
    points = {id(leaf): leaf for leaf, entry in zip(leaves, entries, strict=True) if id(entry) in read}
    assert bool(points) == (name != "single_task"), "only single_task has nothing that tasks share"
    if not points:
        return
    rows = [
        np.concatenate([np.ravel(g) for g in
                        tape.gradient(loss, list(points.values()), unconnected_gradients="zero")]) for loss in each
    ]
    expected = np.array(rows) @ np.array(rows).T
    np.testing.assert_allclose(gram, expected, rtol=1e-3, atol=1e-5 * expected.max())
    meet = (np.abs(expected[~np.eye(len(tasks), dtype=bool)]) > 1e-9).any()
    assert meet == (options.get("stop_gradient", True)), "as its docstring says, dml sees nothing without it"


def test_a_funnel_of_two_sees_its_conflict(rng):
    """Opposite labels: in both modes the gradients of AITM's two tasks disagree, which a diagonal matrix would hide."""
    architecture = drawn(connected("aitm", tasks=TASKS[:2], calibrator=0.0, activation="tanh"), rng)
    kernel = architecture.scorers.kernel
    kernel.assign(tf.repeat(kernel[:1], 2, axis=0))
    features = make_features(rng)
    labels = {"click": tf.ones([3, LENGTH]), "buy": tf.zeros([3, LENGTH])}
    losses = TaskLosses([Task(task, kind="binary", loss="bce") for task in TASKS[:2]], has_lists=True)
    clock = Clock(0, 0, tf.constant([0, 0], tf.int32), tf.fill([2], 0.5))
    engine = Engine(architecture, losses, get_method("mgda"), "features")
    step = engine.step(Batch(features, labels, valid=VALID), clock, [{}])
    assert abs(step.gram[0, 1]) > 1e-3 * float(tf.reduce_max(step.gram))
