"""Values from the papers and independent recomputations (see each method's file for its source)."""

import numpy as np
import pytest

from tfmtl2r import methods

# Two conflicting gradients and three of rank three, for which several libraries agree on the values below to 1e-4.
TWO = [[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]]
THREE = [[1.0, 0.0, 0.0, 1.0], [-1.0, 2.0, 0.0, 0.5], [0.5, -1.0, 3.0, 0.0]]


@pytest.mark.parametrize(
    ("name", "jacobian", "expected"),
    [
        ("linear_scalarization", TWO, [2.0, 2.0, 2.0]),
        ("mgda", TWO, [0.0, 2.0, 2.0]),
        ("pcgrad", TWO, [-10 / 19 + 10 / 9, 30 / 19 + 20 / 9, 30 / 19 + 20 / 9]),
    ],
)
def test_golden(name, jacobian, expected):
    np.testing.assert_allclose(methods.combine(name, jacobian), expected, atol=1e-9)


def test_nash_mtl_solves_the_bargaining_problem():
    from tfmtl2r.linalg import nash

    np.testing.assert_allclose(nash(np.array(TWO) @ np.array(TWO).T).weights, [0.5915, 0.4071], atol=1e-4)
    np.testing.assert_allclose(nash(np.array(THREE) @ np.array(THREE).T).weights, [0.7335, 0.5762, 0.3691], atol=1e-4)
    raw = methods.combine(methods.get("nash_mtl", max_norm=0.0), THREE)
    np.testing.assert_allclose(raw @ raw, 3, rtol=1e-6)  # its squared length is the number of tasks
    np.testing.assert_allclose(methods.combine("nash_mtl", THREE), raw / np.sqrt(3), rtol=1e-6)


def test_mgda_meets_its_optimality_condition():
    step = methods.combine("mgda", THREE) / 3
    products = np.array(THREE) @ step
    assert (products >= step @ step - 1e-9).all()
    np.testing.assert_allclose(products.min(), step @ step, rtol=1e-9)


def test_pcgrad_projects_each_gradient_off_the_other():
    rows = np.array(TWO)
    first = rows[0] - (rows[0] @ rows[1]) / (rows[1] @ rows[1]) * rows[1]
    second = rows[1] - (rows[0] @ rows[1]) / (rows[0] @ rows[0]) * rows[0]
    np.testing.assert_allclose(methods.combine("pcgrad", TWO), first + second, rtol=1e-9)


def sequential_pcgrad(rows, orders):
    """The paper's algorithm on whole gradients."""
    total = np.zeros(rows.shape[1])
    for i, order in enumerate(orders):
        current = rows[i].copy()
        for j in order:
            if j != i and current @ rows[j] < 0:
                current -= (current @ rows[j]) / (rows[j] @ rows[j]) * rows[j]
        total += current
    return total


def test_pcgrad_in_gram_space_equals_the_sequential_algorithm():
    from tfmtl2r._backend import tf

    rows = np.random.default_rng(0).normal(size=(5, 4))
    draw = tf.random.stateless_uniform([5, 5], tf.constant([7, 0], tf.int32))
    orders = np.argsort(draw.numpy(), axis=1)
    np.testing.assert_allclose(methods.combine("pcgrad", rows, seed=7), sequential_pcgrad(rows, orders), rtol=1e-6)
    assert np.linalg.norm(methods.combine("pcgrad", rows, seed=8) - methods.combine("pcgrad", rows, seed=7)) > 1e-6


def test_graddrop_keeps_one_sign_per_element_and_is_unbiased():
    from tfmtl2r._backend import tf
    from tfmtl2r.methods.base import Signals

    rows, method = np.random.default_rng(2).normal(size=(3, 6)), methods.get("graddrop")

    @tf.function(autograph=False)
    def draw(seed):
        signals = Signals(losses=None, preference=None, present=None, seed=tf.stack([seed, 0]))
        return method.combine(tf.constant(rows), signals, {})[0]

    draws = np.array([draw(tf.constant(seed)).numpy() for seed in range(4000)])
    positive, negative = np.maximum(rows, 0).sum(0), np.minimum(rows, 0).sum(0)
    is_positive = np.isclose(draws, positive)
    assert (is_positive | np.isclose(draws, negative)).all()
    purity = 0.5 * (1 + rows.sum(0) / np.abs(rows).sum(0))
    np.testing.assert_allclose(is_positive.mean(0), purity, atol=4 * 0.5 / np.sqrt(4000))
    np.testing.assert_allclose(draws.mean(0), rows.sum(0), atol=4 * np.abs(rows).sum() / np.sqrt(4000))


def test_graddrop_leak_one_is_the_plain_sum():
    method = methods.get("graddrop", leak=1.0)
    np.testing.assert_allclose(methods.combine(method, THREE), np.sum(THREE, 0), rtol=1e-9)
