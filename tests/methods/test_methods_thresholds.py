"""A method has no threshold on the lengths of gradients at which it jumps and forgets a task."""

import numpy as np
import pytest

from tfmtl2r import methods


def aligned(rows, preference):
    """The definition: the nearest orthogonal rows of the length of the smallest singular value, in float64."""
    u, s, v = np.linalg.svd(rows, full_matrices=False)
    return s[-1] * (u @ v).T @ (preference * len(rows))


@pytest.mark.parametrize("ratio", [1.0, 1e2, 2e3, 2.1e3, 1e4, 1e6])
def test_aligned_mtl_keeps_a_task_whose_gradient_is_much_shorter(ratio):
    rows = np.array([[1.0, 0.3, 0.0], [0.2, -0.9, 0.4]])
    rows[0] *= ratio
    preference = np.array([0.3, 0.7])
    found = methods.combine("aligned_mtl", rows, preference=preference)
    np.testing.assert_allclose(found, aligned(rows, preference), rtol=2e-3)


def test_aligned_mtl_leaves_out_a_dependent_direction_at_any_length():
    rows = np.array([[1.0, 0.3, 0.0], [2.0, 0.6, 0.0], [0.0, 0.0, 1.0]])
    for ratio in (1.0, 1e4):
        scaled = rows * np.array([[ratio], [ratio], [1.0]])
        found = methods.combine("aligned_mtl", scaled)
        u, s, v = np.linalg.svd(scaled, full_matrices=False)
        np.testing.assert_allclose(found, s[1] * (u[:, :2] @ v[:2]).T @ np.ones(3), rtol=2e-3)
