"""Non-negative least squares as a quadratic program, against enumeration of all supports; and the fallback."""

import itertools

import numpy as np
import pytest

from tfmtl2r._backend import tf
from tfmtl2r.linalg import settling
from tfmtl2r.linalg.non_negative import _coordinate_descent, non_negative


@tf.function
def solve(matrix, target):
    result = non_negative(tf.matmul(matrix, matrix, transpose_a=True),
                          -tf.linalg.matvec(matrix, target, transpose_a=True)[None], 1e-12)
    return result._replace(solution=result.solution[0])


def enumerate_supports(matrix, target):
    """The non-negative solution with the smallest residual, over every support."""
    best = np.zeros(matrix.shape[1])
    for size in range(1, matrix.shape[1] + 1):
        for support in map(list, itertools.combinations(range(matrix.shape[1]), size)):
            point = np.linalg.lstsq(matrix[:, support], target, rcond=None)[0]
            if (point >= -1e-12).all():
                found = np.zeros_like(best)
                found[support] = point
                if np.linalg.norm(matrix @ found - target) < np.linalg.norm(matrix @ best - target):
                    best = found
    return best


@pytest.mark.parametrize("tasks", [1, 2, 3, 5, 8])
def test_equals_enumeration(tasks):
    rng = np.random.default_rng(tasks)
    for _ in range(20):
        matrix = rng.normal(size=(tasks, tasks)) * 10 ** rng.uniform(-1, 1, size=tasks)
        target = rng.normal(size=tasks)
        solution, settled, fallbacks = (x.numpy() for x in solve(matrix, target))
        assert settled
        assert fallbacks == 0
        assert solution.min() >= 0
        residual = np.linalg.norm(matrix @ solution - target)
        best = enumerate_supports(matrix, target)
        assert np.linalg.norm(matrix @ best - target) >= residual - 1e-7 * np.linalg.norm(target)
        if best.any():
            assert solution @ best > 0.9999 * np.linalg.norm(solution) * np.linalg.norm(best)


@pytest.mark.parametrize(
    ("matrix", "target", "expected"),
    [
        ([[1.0, 1.0], [0.0, 0.0]], [2.0, 0.0], [1.0, 1.0]),  # twins share
        ([[1.0, -1.0], [0.0, 0.0]], [2.0, 0.0], [2.0, 0.0]),  # opposed
        ([[1.0, 0.0], [0.0, 0.0]], [2.0, 5.0], [2.0, 0.0]),  # a column of zeros
        ([[1.0, 0.0], [0.0, 1.0]], [-1.0, -1.0], [0.0, 0.0]),
        ([[0.0]], [0.0], [0.0]),
    ],
)
def test_degenerate_problems(matrix, target, expected):
    result = solve(np.array(matrix), np.array(target))
    assert result.settled
    np.testing.assert_allclose(result.solution, expected, rtol=1e-6)


def test_twenty_rank_deficient_columns_meet_the_optimality_conditions():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(20, 20))
    matrix[:, 10:] = matrix[:, :10]
    target = rng.normal(size=20)
    result = solve(np.array(matrix), np.array(target))
    slope = matrix.T @ (matrix @ result.solution.numpy() - target)
    assert result.settled
    assert slope.min() > -1e-6
    assert abs(slope @ result.solution.numpy()) < 1e-5


@pytest.mark.slow
def test_coordinate_descent_comes_to_the_same_point():
    rng = np.random.default_rng(3)
    for _ in range(10):
        rows = rng.normal(size=(6, 30))
        quadratic = tf.constant(np.corrcoef(rows))
        linear = tf.constant(rng.normal(size=(4, 6)))
        exact = non_negative(quadratic, linear, 1e-9).solution
        descended, settled = _coordinate_descent(quadratic, linear, tf.zeros_like(linear))
        assert settled
        np.testing.assert_allclose(descended, exact, atol=1e-8)


def test_a_fallback_is_counted():
    """Slightly negative eigenvalues, as rounding leaves them, may have no solution; the answer is finite."""
    quadratic = tf.constant([[1.0, -1.1], [-1.1, 1.0]], tf.float64)
    with settling.watched() as count:
        result = non_negative(quadratic, tf.constant([[-1.0, -1.0]], tf.float64), 1e-7)
    assert result.fallbacks == 1
    assert not result.settled
    assert np.isfinite(result.solution).all()
    assert count.unsettled() == 1
    assert count.rounds() > 1
