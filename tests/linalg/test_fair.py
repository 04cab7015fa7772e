"""The alpha-fair solution: its equation on random problems, its special case, and degenerate ones."""

import numpy as np
import pytest

from tfmtl2r._backend import tf
from tfmtl2r.linalg import fair, nash


@pytest.mark.product
@pytest.mark.parametrize("alpha", [0.5, 2.0, 10.0])
@pytest.mark.parametrize("tasks", [2, 8])
def test_solves_its_equation(tasks, alpha):
    rng = np.random.default_rng(tasks)
    solve = tf.function(lambda gram: fair(gram, alpha), autograph=False)
    for _ in range(15):
        rows = rng.normal(size=(tasks, tasks + 5)) * 10 ** rng.uniform(-3, 3, size=(tasks, 1))
        gram = rows @ rows.T
        weights, settled = (x.numpy() for x in solve(gram))
        assert settled
        np.testing.assert_allclose((gram @ weights) * weights ** (1 / alpha), 1, atol=1e-5)


def test_strong_fairness_solves_a_milder_problem_too():
    """Its powers of 10 leave no exact residual where scales differ by decades; here they do."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4, 12))
    gram = rows @ rows.T
    weights = fair(gram, 0.1).weights.numpy()
    np.testing.assert_allclose((gram @ weights) * weights**10, 1, atol=1e-6)


def test_alpha_one_is_nash():
    rows = np.random.default_rng(1).normal(size=(5, 9)) * np.array([1e-2, 1, 1, 10, 1e3])[:, None]
    np.testing.assert_allclose(fair(rows @ rows.T, 1.0).weights, nash(rows @ rows.T).weights, rtol=1e-8)


def test_scaling_all_gradients_scales_the_weights():
    rows = np.random.default_rng(2).normal(size=(3, 9))
    for alpha in (0.5, 2.0):
        factor = 7.0 ** (-2 * alpha / (1 + alpha))
        expected = factor * fair(rows @ rows.T, alpha).weights.numpy()
        np.testing.assert_allclose(fair(49 * rows @ rows.T, alpha).weights, expected, rtol=1e-8)


@pytest.mark.product
@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_degenerate_gradients_are_finite(alpha, scale):
    for rows in ([[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [-1.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]], np.ones((20, 2))):
        rows = scale * np.asarray(rows)
        weights = fair(rows @ rows.T, alpha).weights.numpy()
        assert np.isfinite(weights).all()
        assert (weights >= 0).all()
    np.testing.assert_allclose(fair(np.diag([0.0, 16.0]), 1.0).weights, [0.0, 0.25], rtol=1e-9)


def test_absent_tasks_are_left_out():
    np.testing.assert_allclose(fair(np.diag([4.0, 9.0, 1.0]), 1.0, [True, False, True]).weights, [0.5, 0, 1], rtol=1e-9)
