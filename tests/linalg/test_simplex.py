"""Projection onto the simplex against its optimality conditions, and weights among present tasks."""

import numpy as np
import pytest

from tfmtl2r.linalg import project, spread


def bisected(point, total=1.0):
    """The projection by bisection for the threshold that it subtracts."""
    low, high = point.min() - total, point.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(point - middle, 0).sum() > total else (low, middle)
    return np.maximum(point - high, 0)


@pytest.mark.parametrize("tasks", [1, 2, 5, 20])
def test_equals_bisection(tasks):
    rng = np.random.default_rng(tasks)
    for scale in (1e-3, 1.0, 30.0):
        point = scale * rng.normal(size=tasks)
        np.testing.assert_allclose(project(point), bisected(point), atol=1e-12)
        np.testing.assert_allclose(project(point, total=0.3), bisected(point, 0.3), atol=1e-12)


def test_a_point_of_the_simplex_stays():
    np.testing.assert_allclose(project([0.2, 0.5, 0.3]), [0.2, 0.5, 0.3], atol=1e-15)


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ([1e24, 1e24], [0.5, 0.5]),
        ([-1e24, -1e24 * 2, -1e24], [0.5, 0.0, 0.5]),
        ([1e24, -1e24, 0.0], [1.0, 0.0, 0.0]),
        ([1e-24, 0.0], [0.5, 0.5]),
    ],
)
def test_extreme_scales(point, expected):
    np.testing.assert_allclose(project(point), expected, atol=1e-12)


def test_absent_entries_are_left_out():
    np.testing.assert_allclose(project([0.1, 9.0, 0.3], [True, False, True]), [0.4, 0.0, 0.6], atol=1e-15)
    np.testing.assert_array_equal(project([0.1, 9.0], [False, False], total=0.0), [0.0, 0.0])
    np.testing.assert_allclose(spread([0.0, 1.0, 0.0], [True, False, True]), [1.0, 0.0, 1.0])
    np.testing.assert_array_equal(spread([0.5, 0.5], [False, False]), [0.0, 0.0])
