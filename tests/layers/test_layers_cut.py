"""What a branch of the cut computes, against the per-task gradients written out in full."""

import numpy as np
import pytest

from tfmtl2r._backend import tf
from tfmtl2r.layers.cut import Branch

TASKS, EXPERTS, ITEMS, WIDTH = 3, 4, 5, 2


@pytest.fixture(params=["copies", "own", "mix", "two mixtures"])
def reading(request, rng):
    """A branch read in either way, the gradients at its tap, and the same gradients at its tensor, ``[T, ...]``."""
    shape = (ITEMS, WIDTH) if request.param == "copies" else (EXPERTS, ITEMS, WIDTH)
    tensor = tf.constant(rng.normal(size=shape), tf.float32)
    gates = tf.nn.softmax(tf.constant(rng.normal(size=(TASKS, ITEMS, EXPERTS)), tf.float32))
    targets = tf.constant(rng.normal(size=(TASKS, ITEMS, WIDTH)), tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(tensor)
        watched = []
        branch = Branch(tensor, TASKS, lambda tap: (tape.watch(tap), watched.append(tap)))
        if request.param == "own":  # task 1 has two slices
            tap = branch.own((0, 1, 2, 1))
            values = tf.unstack(tf.reduce_sum((tap - tf.gather(targets, [0, 1, 2, 0])) ** 3, axis=[1, 2]))
            losses = [values[0], values[1] + values[3], values[2]]
        elif request.param == "two mixtures":
            gates = tf.nn.softmax(tf.constant(rng.normal(size=(2 * TASKS, ITEMS, EXPERTS)), tf.float32))
            tap = branch.mix(gates, each=2)
            values = tf.unstack(tf.reduce_sum((tap - tf.repeat(targets, 2, axis=0)) ** 3, axis=[1, 2]))
            losses = [first + second for first, second in zip(values[::2], values[1::2], strict=True)]
        else:
            tap = branch.copies() if request.param == "copies" else branch.mix(gates)
            losses = tf.unstack(tf.reduce_sum((tap - targets) ** 3, axis=[1, 2]))
        total = tf.add_n(losses)
    assert len(watched) == 1
    assert watched[0] is branch.tap is tap
    rows = tf.stack([tape.gradient(loss, tensor) for loss in losses])
    return branch, tape.gradient(total, tap), rows.numpy()


def test_gram(reading):
    branch, cotangents, rows = reading
    flat = rows.reshape(TASKS, -1)
    np.testing.assert_allclose(branch.gram(cotangents), flat @ flat.T, rtol=2e-5)


def test_weighted(reading):
    branch, cotangents, rows = reading
    weights = tf.constant([0.5, 0.0, 2.0])
    expected = np.tensordot(weights, rows, 1)
    np.testing.assert_allclose(branch.weighted(cotangents, weights), expected, rtol=1e-4, atol=1e-5)


def test_of_task(reading):
    branch, cotangents, rows = reading
    for task in range(TASKS):
        np.testing.assert_allclose(branch.of_task(cotangents, task), rows[task], rtol=1e-5, atol=1e-6)


def test_mixture_values(rng):
    tensor = rng.normal(size=(EXPERTS, ITEMS, WIDTH)).astype(np.float32)
    gates = rng.random(size=(TASKS, ITEMS, EXPERTS)).astype(np.float32)
    mixed = Branch(tf.constant(tensor), TASKS).mix(tf.constant(gates))
    np.testing.assert_allclose(mixed, np.einsum("tne,end->tnd", gates, tensor), rtol=1e-5, atol=1e-6)


def test_bfloat16_gradients_are_summed_in_float32(rng):
    tensor = tf.cast(rng.normal(size=(300, WIDTH)), tf.bfloat16)
    branch = Branch(tensor, TASKS)
    cotangents = tf.ones_like(branch.copies())
    gram = branch.gram(cotangents)
    assert gram.dtype == tf.float32
    np.testing.assert_array_equal(gram, np.full((TASKS, TASKS), 600.0))  # bfloat16 would stop at 256 + 256
    assert branch.weighted(cotangents, tf.ones([TASKS])).dtype == tf.bfloat16


def test_a_branch_nobody_reads_has_no_tap():
    assert Branch(tf.ones([2, 2]), TASKS).tap is None


def test_copies_may_be_read_twice_but_in_one_way_only():
    branch = Branch(tf.ones([EXPERTS, ITEMS, WIDTH]), TASKS)
    assert branch.copies() is branch.copies()
    with pytest.raises(ValueError, match=r"read it by copies.. for all purposes, or pass all gates to one call of mix"):
        branch.mix(tf.ones([TASKS, ITEMS, EXPERTS]))


def test_slices_need_an_owner_each(rng):
    with pytest.raises(ValueError, match=r"4 slices, but 3 tasks"):
        Branch(tf.zeros([4, ITEMS, WIDTH]), TASKS).own()
