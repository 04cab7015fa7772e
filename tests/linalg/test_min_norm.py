"""The min-norm solver against enumeration of all supports, and on degenerate input."""

import itertools

import numpy as np
import pytest

from tfmtl2r._backend import tf
from tfmtl2r.linalg import min_norm

SOLVE = tf.function(min_norm)


def enumerate_supports(gram):
    """The exact minimum over the simplex: the best stationary point over every support."""
    tasks = len(gram)
    best_value, best = np.inf, None
    for size in range(1, tasks + 1):
        for support in map(list, itertools.combinations(range(tasks), size)):
            system = np.zeros((size + 1, size + 1))
            system[:size, :size] = gram[np.ix_(support, support)]
            system[size, :size] = system[:size, size] = 1
            point = np.linalg.lstsq(system, np.r_[np.zeros(size), 1], rcond=None)[0][:size]
            if (point >= -1e-12).all() and abs(point.sum() - 1) < 1e-9:
                weights = np.zeros(tasks)
                weights[support] = point
                value = weights @ gram @ weights
                if value < best_value:
                    best_value, best = value, weights
    return best_value, best


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.mark.product
@pytest.mark.parametrize("tasks", [2, 3, 5, 8])
def test_equals_enumeration_on_conflicting_gradients(tasks):
    rng = np.random.default_rng(tasks)
    for _ in range(25):
        rows = rng.normal(size=(tasks, rng.integers(1, 12))) * 10 ** rng.uniform(-1, 1, size=(tasks, 1))
        rows -= rng.uniform(0, 1.2) * rows.mean(0)
        gram = rows @ rows.T
        weights, settled = (x.numpy() for x in SOLVE(gram))
        assert settled
        assert weights.min() >= 0
        np.testing.assert_allclose(weights.sum(), 1, atol=1e-12)
        value, best = enumerate_supports(gram)
        assert weights @ gram @ weights <= value + 1e-10 * np.trace(gram)
        if value > 1e-9 * np.trace(gram):  # at a Pareto-stationary point there is no direction
            assert cosine(weights @ rows, best @ rows) > 0.9999


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1.0, 0.0], [1.0, 0.0]], [1.0, 0.0]),  # twins: the same point
        ([[1.0, 0.0], [-1.0, 0.0]], [0.0, 0.0]),  # opposed
        ([[0.0, 0.0], [1.0, 0.0]], [0.0, 0.0]),  # one gradient is zero: stationary
        ([[1e-12, 0.0], [1e12, 1e12]], [1e-12, 0.0]),  # scales 24 orders apart, no conflict
        ([[1e-12, 0.0], [-1e12, 1e12]], [5e-13, 5e-13]),  # and with conflict: orthogonal to the long one
        ([[3.0, 4.0]], [3.0, 4.0]),
    ],
)
def test_degenerate_gradients(rows, expected):
    rows = np.asarray(rows)
    result = min_norm(rows @ rows.T)
    assert result.settled
    np.testing.assert_allclose(rows.T @ result.weights.numpy(), expected, rtol=1e-9, atol=1e-20)


def test_twenty_rank_deficient_tasks_meet_the_optimality_condition():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20, 500)) + 0.05
    rows[10:] = rows[:10]
    result = min_norm(rows @ rows.T)
    point = rows.T @ result.weights.numpy()
    assert result.settled
    assert (rows @ point).min() >= point @ point * (1 - 1e-9)


def test_absent_tasks_are_left_out():
    gram = np.diag([4.0, 0.0, 1.0])
    np.testing.assert_allclose(min_norm(gram, [True, False, True]).weights, [0.2, 0.0, 0.8])
    np.testing.assert_array_equal(min_norm(gram, [False, False, False]).weights, [0.0, 0.0, 0.0])


@pytest.mark.parametrize("shift", [0.0, 0.6, 50.0])
def test_a_tilt_shifts_all_gradients(shift):
    """``tilt = s G p`` is the shortest ``g_w + s g_p``: the same as the shortest combination of the shifted rows."""
    rng = np.random.default_rng(4)
    for _ in range(15):
        rows = rng.normal(size=(5, 7)) * 10 ** rng.uniform(-1, 1, size=(5, 1))
        gram, moved = rows @ rows.T, rows + shift * rows.mean(0)
        result = min_norm(gram, tilt=shift * gram.mean(0))
        assert result.settled
        found = np.sum((result.weights.numpy() @ moved) ** 2)
        assert found <= enumerate_supports(moved @ moved.T)[0] + 1e-10 * np.trace(moved @ moved.T)


def test_a_steep_tilt_finds_the_lowest_corner():
    np.testing.assert_allclose(min_norm(np.eye(3), tilt=[1e12, -1e12, 0.0]).weights, [0.0, 1.0, 0.0])
    np.testing.assert_allclose(min_norm(np.zeros((3, 3)), tilt=[1.0, 0.5, 2.0]).weights, [0.0, 1.0, 0.0])
    absent = min_norm(np.eye(3), [True, False, True], tilt=[1.0, -9.0, 0.0]).weights
    np.testing.assert_allclose(absent, [0.0, 0.0, 1.0], atol=1e-12)
