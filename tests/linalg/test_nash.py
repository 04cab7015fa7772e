"""The bargaining solution, on random problems to condition 1e6 and on degenerate ones."""

import numpy as np
import pytest

from tfmtl2r._backend import tf
from tfmtl2r.linalg import nash

SOLVE = tf.function(nash)


def random_gram(rng, tasks):
    """Condition number to 1e6, row scales over six decades."""
    basis = np.linalg.qr(rng.normal(size=(tasks, tasks)))[0]
    gram = (basis * np.geomspace(1, 10 ** -rng.uniform(0, 6), tasks)) @ basis.T
    scale = 10 ** rng.uniform(-3, 3, tasks)
    return gram * scale[:, None] * scale


def worst_residual(tasks, draws, seed):
    rng, worst = np.random.default_rng(seed), 0.0
    for _ in range(draws):
        gram = random_gram(rng, tasks)
        weights, settled = (x.numpy() for x in SOLVE(gram))
        assert settled
        worst = max(worst, np.abs(weights * (gram @ weights) - 1).max())
    return worst


@pytest.mark.product
@pytest.mark.parametrize("tasks", [2, 3, 5, 8, 20])
def test_every_task_gains_the_same(tasks):
    assert worst_residual(tasks, 40, tasks) < 1e-3


def climbed(gram):
    """The minimum of ``w' G w / 2 - sum log w``, one weight at a time: each is the root of a quadratic equation."""
    scale = np.sqrt(np.diag(gram))
    cosines, point = gram / scale / scale[:, None], np.ones(len(gram))
    for _ in range(4000):
        for i in range(len(gram)):
            others = cosines[i] @ point - cosines[i, i] * point[i]
            point[i] = (-others + np.sqrt(others**2 + 4 * cosines[i, i])) / (2 * cosines[i, i])
    return point / scale


@pytest.mark.product
@pytest.mark.parametrize("tasks", [2, 3, 5, 8])
def test_equals_coordinate_descent_on_conflicting_gradients(tasks):
    rng = np.random.default_rng(tasks)
    for _ in range(2):
        rows = rng.normal(size=(tasks, tasks + 3)) * 10 ** rng.uniform(-1, 1, size=(tasks, 1))
        rows -= rng.uniform(0, 0.9) * rows.mean(0)
        expected, found = climbed(rows @ rows.T) @ rows, SOLVE(rows @ rows.T).weights.numpy() @ rows
        assert found @ expected > 0.9999 * np.linalg.norm(found) * np.linalg.norm(expected)


@pytest.mark.product
@pytest.mark.slow
@pytest.mark.parametrize("tasks", [2, 3, 5, 8, 13, 20])
def test_every_task_gains_the_same_in_ten_thousand_draws(tasks):
    assert worst_residual(tasks, 1667, 100 + tasks) < 1e-3


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1.0, 0.0], [1.0, 0.0]], [2**-0.5, 2**-0.5]),
        ([[0.0, 0.0], [0.0, 4.0]], [0.0, 0.25]),  # nothing to bargain for
        ([[1e-12, 0.0], [0.0, 1e12]], [1e12, 1e-12]),
    ],
)
def test_degenerate_gradients(rows, expected):
    rows = np.asarray(rows)
    np.testing.assert_allclose(nash(rows @ rows.T).weights, expected, rtol=1e-6)


def test_opposed_gradients_stay_finite_and_cancel():
    rows = np.array([[1.0, 0.0], [-1.0, 0.0]])
    weights = nash(rows @ rows.T).weights.numpy()
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(rows.T @ weights, 0, atol=1e-6 * weights.max())


def test_absent_tasks_are_left_out():
    gram = np.diag([4.0, 9.0, 1.0])
    np.testing.assert_allclose(nash(gram, [True, False, True]).weights, [0.5, 0.0, 1.0], rtol=1e-9)
