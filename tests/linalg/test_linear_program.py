"""The linear program against scipy, on well and badly conditioned programs."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.optimize import linprog

from tfmtl2r.linalg import linear_program


@pytest.mark.product
@pytest.mark.parametrize("tasks", [2, 3, 5, 10])
def test_the_optimum_is_that_of_scipy(tasks):
    rng = np.random.default_rng(tasks)
    solve = tf.function(linear_program)
    for case in range(25):
        rows = rng.normal(size=(tasks, 4 * tasks))
        if case % 3 == 0:  # nearly opposed gradients
            rows[1] = -rows[0] + 1e-2 * rng.normal(size=rows[1].shape)
        gram = rows @ rows.T * 10.0 ** rng.integers(-3, 4)
        gain, least = gram @ rng.normal(size=tasks), np.where(rng.random(tasks) < 0.5, 0.0, -np.abs(gram).max())
        known = linprog(-gain, -gram, -least, np.ones((1, tasks)), [1.0])
        if not known.success:
            continue
        found = solve(tf.constant(gain), tf.constant(gram), tf.constant(least), tf.ones([tasks], tf.bool))
        x = found.solution.numpy()
        assert bool(found.settled)
        assert x.sum() == pytest.approx(1.0)
        assert (gram @ x >= least - 1e-7 * np.abs(gram).max()).all()
        assert gain @ x == pytest.approx(-known.fun, rel=1e-6, abs=1e-6 * np.abs(gain).max())


def test_without_a_feasible_point_the_violation_is_least():
    found = linear_program([1.0, 0.0], [[1.0, -1.0], [-1.0, 1.0]], [0.5, 0.5], [True, True])
    np.testing.assert_allclose(found.solution, [0.5, 0.5], atol=1e-9)


def test_absent_entries_are_0():
    found = linear_program([1.0, 5.0, 2.0], [[1.0, 1.0, 1.0]], [0.0], [True, False, True])
    np.testing.assert_array_equal(found.solution, [0.0, 0.0, 1.0])
