"""The dual of the best worst case: no duality gap, and degenerate problems."""

import itertools

import numpy as np
import pytest

from tfmtl2r._backend import tf
from tfmtl2r.linalg import max_min

SOLVE = tf.function(max_min)


def best_worst_case(rows, radius_in_means):
    """Weights, the primal point ``d = g_0 + radius g_w / ||g_w||``, the mean gradient and the radius."""
    gram, mean = rows @ rows.T, rows.mean(0)
    radius = radius_in_means * np.linalg.norm(mean)
    weights, length, settled = (x.numpy() for x in SOLVE(gram, gram.mean(0), radius))
    assert settled
    return weights, mean + radius * (weights @ rows) / length, mean, radius


@pytest.mark.product
@pytest.mark.parametrize("tasks", [1, 2, 3, 5, 8, 20])
def test_no_duality_gap(tasks):
    """The dual value is an upper bound of every feasible point's worst case; meeting it proves both optimal."""
    rng = np.random.default_rng(tasks)
    for draw in range(20):
        rows = rng.normal(size=(tasks, rng.integers(1, 12))) * 10 ** rng.uniform(-1, 1, size=(tasks, 1))
        rows -= rng.uniform(0, 1.2) * rows.mean(0)
        weights, point, mean, radius = best_worst_case(rows, (0.4, 1.0, 5.0)[draw % 3])
        np.testing.assert_allclose(weights.sum(), 1, atol=1e-12)
        assert weights.min() >= 0
        assert np.linalg.norm(point - mean) <= radius * (1 + 1e-5)
        bound = weights @ rows @ mean + radius * np.linalg.norm(weights @ rows)
        assert bound - (rows @ point).min() <= 3e-6 * np.linalg.norm(rows, axis=1).max() ** 2


def enumerated(gram, linear, radius):
    """The best stationary point over every support: a minimum of the convex function over an affine hull."""
    best_value, best = np.inf, None
    for size in range(1, len(gram) + 1):
        for support in map(list, itertools.combinations(range(len(gram)), size)):
            system = np.ones((size + 1, size + 1))
            system[:size, :size], system[size, size] = gram[np.ix_(support, support)], 0
            shortest, moved = np.linalg.solve(system, np.c_[np.eye(size + 1)[size], np.r_[linear[support], 0]])[:size].T
            room = radius**2 - moved @ system[:size, :size] @ moved
            point = shortest - moved * np.sqrt(max(shortest @ system[:size, :size] @ shortest, 0) / max(room, 1e-300))
            if room > 0 and point.min() >= -1e-12:
                weights = np.zeros(len(gram))
                weights[support] = point
                value = linear @ weights + radius * np.sqrt(weights @ gram @ weights)
                if value < best_value:
                    best_value, best = value, weights
    return best


@pytest.mark.product
@pytest.mark.parametrize("tasks", [2, 3, 5, 8])
def test_equals_enumeration_on_conflicting_gradients(tasks):
    rng = np.random.default_rng(tasks)
    for draw in range(15):
        rows = rng.normal(size=(tasks, tasks + 3)) * 10 ** rng.uniform(-1, 1, size=(tasks, 1))
        rows -= rng.uniform(0, 0.9) * rows.mean(0)
        weights, point, mean, radius = best_worst_case(rows, (0.4, 1.0, 5.0)[draw % 3])
        best = enumerated(rows @ rows.T, rows @ mean, radius) @ rows
        expected = mean + radius * best / np.linalg.norm(best)
        assert point @ expected > 0.9999 * np.linalg.norm(point) * np.linalg.norm(expected)
        combined = weights @ rows
        assert combined @ best > 0.9999 * np.linalg.norm(combined) * np.linalg.norm(best)


def test_equals_a_dense_grid_of_the_simplex():
    rng = np.random.default_rng(5)
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 201)] * 2), -1).reshape(-1, 2)
    grid = np.c_[grid, 1 - grid.sum(1)][grid.sum(1) <= 1 + 1e-12]
    for _ in range(10):
        rows, linear = rng.normal(size=(3, 4)), rng.normal(size=3)
        gram = rows @ rows.T

        def value(points, gram=gram, linear=linear):
            return points @ linear + 0.7 * np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", points, gram, points), 0))

        found = value(max_min(gram, linear, 0.7).weights.numpy()[None])[0]
        assert value(grid).min() - 5e-3 * 20 < found <= value(grid).min() + 1e-9


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_degenerate_gradients_are_finite(scale):
    for rows in ([[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [-1.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]], np.zeros((2, 2)),
                 np.ones((20, 2)), [[1e-12, 0.0], [-1e12, 1.0]]):
        rows = scale * np.asarray(rows)
        gram = rows @ rows.T
        result = max_min(gram, gram.mean(0), 0.4 * np.sqrt(gram.mean()))
        assert np.isfinite(result.weights).all()
        np.testing.assert_allclose(result.weights.numpy().sum(), 1)


def test_absent_tasks_are_left_out():
    gram = np.diag([4.0, 0.0, 1.0])
    np.testing.assert_allclose(max_min(gram, np.zeros(3), 1.0, [True, False, True]).weights, [0.2, 0.0, 0.8], atol=1e-6)
