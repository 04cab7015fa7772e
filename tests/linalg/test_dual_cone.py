"""Projection onto the dual cone against enumeration, on random gradients and on degenerate ones."""

import itertools

import numpy as np
import pytest

from tfmtl2r._backend import tf
from tfmtl2r.linalg import dual_cone

SOLVE = tf.function(dual_cone)


def enumerated_projection(rows, vector):
    """The nearest point to ``vector`` that opposes no row: over every set of rows that it is orthogonal to."""
    best, nearest = np.inf, None
    for size in range(len(rows) + 1):
        for support in map(list, itertools.combinations(range(len(rows)), size)):
            active = rows[support]
            point = vector - (active.T @ np.linalg.lstsq(active.T, vector, rcond=None)[0] if support else 0)
            slack = rows @ point / np.linalg.norm(rows, axis=1)
            if slack.min() > -1e-9 and np.linalg.norm(point - vector) < best:
                best, nearest = np.linalg.norm(point - vector), point
    return nearest


@pytest.mark.product
@pytest.mark.parametrize("tasks", [1, 2, 3, 5, 8])
def test_equals_enumeration(tasks):
    rng = np.random.default_rng(tasks)
    for _ in range(15):
        rows = rng.normal(size=(tasks, 10)) * 10 ** rng.uniform(-1, 1, size=(tasks, 1))
        rows -= rng.uniform(0, 1.0) * rows.mean(0)
        floor = np.r_[np.eye(tasks), np.ones((1, tasks))]
        weights, settled, fallbacks = (x.numpy() for x in SOLVE(rows @ rows.T, floor))
        assert settled
        assert fallbacks == 0
        assert (weights >= floor).all()
        for projected, vector in zip(weights @ rows, floor @ rows, strict=True):
            expected = enumerated_projection(rows, vector)
            np.testing.assert_allclose(projected, expected, atol=1e-6 * np.linalg.norm(vector))


def test_without_conflict_nothing_is_projected():
    rows = np.abs(np.random.default_rng(0).normal(size=(5, 7)))
    np.testing.assert_array_equal(dual_cone(rows @ rows.T, np.eye(5)).weights, np.eye(5))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1.0, 0.0], [1.0, 0.0]], [2.0, 0.0]),
        ([[1.0, 0.0], [-1.0, 0.0]], [0.0, 0.0]),
        ([[1.0, 0.0], [0.0, 0.0]], [1.0, 0.0]),
        ([[1e-12, 0.0], [0.0, 1e12]], [1e-12, 1e12]),
        ([[1e-12, 0.0], [-1e12, 1e12]], [0.0, 1e12]),
    ],
)
def test_degenerate_gradients(rows, expected):
    rows = np.asarray(rows)
    result = dual_cone(rows @ rows.T, np.eye(2))
    assert result.settled
    update = result.weights.numpy().sum(0) @ rows
    np.testing.assert_allclose(update, expected, rtol=1e-5, atol=1e-5 * np.linalg.norm(rows, axis=1).max())


def test_twenty_rank_deficient_tasks_are_not_opposed():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20, 500)) + 0.05
    rows[10:] = rows[:10]
    result = dual_cone(rows @ rows.T, np.eye(20))
    steps = result.weights.numpy() @ rows
    assert result.settled
    assert (steps @ rows.T).min() >= -1e-6 * 500


def test_absent_tasks_are_left_out():
    gram = np.array([[1.0, -9.0, 0.5], [-9.0, 100.0, 0.0], [0.5, 0.0, 1.0]])
    weights = dual_cone(gram, np.eye(3), [True, False, True]).weights
    np.testing.assert_array_equal(weights, np.diag([1.0, 0.0, 1.0]))
