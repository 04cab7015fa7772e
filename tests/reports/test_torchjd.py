"""Reports about TorchJD's aggregators."""

import numpy as np
import pytest

from tfmtl2r import methods
from tfmtl2r.methods.base import GramMethod, JacobianMethod

DIRECT = [name for name in methods.names() if isinstance(methods.get(name), (GramMethod, JacobianMethod))]


def test_a_gradient_that_is_nan_is_an_error_inside_of_a_solver():
    """NaN in a Jacobian raises inside of the aggregator, without the task
    (https://github.com/SimplexLab/TorchJD/issues/340)."""
    with pytest.raises(ValueError, match="finite"):
        methods.combine("upgrad", [[1.0, 2.0], [np.nan, 1.0]])


@pytest.mark.parametrize("name", DIRECT)
def test_a_gradient_of_zero_raises(name):
    """Nash-MTL raises for the rows (0, 0) and (0, -6) (https://github.com/SimplexLab/TorchJD/pull/640)."""
    update = methods.combine(name, [[0.0, 0.0], [0.0, -6.0]], losses=[0.5, 1.0])
    assert np.isfinite(update).all()
    assert update[1] <= 0


@pytest.mark.parametrize("name", DIRECT)
def test_no_gradient_at_all_gives_nan(name):
    """Nothing to differentiate gives NaN in place of 0 (https://github.com/SimplexLab/TorchJD/pull/272)."""
    assert not methods.combine(name, np.zeros((3, 2))).any()


@pytest.mark.parametrize("name", ["mgda", "pcgrad", "upgrad", "cagrad", "nash_mtl", "imtl_g"])
def test_tiny_gradients_explode(name):
    """MGDA's values explode or are undefined for small gradients (https://github.com/SimplexLab/TorchJD/pull/249)."""
    rows = np.array([[1.0, 0.2, -0.3], [-0.4, 1.0, 0.1]])
    for scale in (1e-12, 1e-6, 1e6):
        update = methods.combine(name, rows * [[1.0], [scale]])
        assert np.isfinite(update).all()
        assert np.linalg.norm(update) <= 4 * max(1.0, scale) * np.linalg.norm(rows, axis=1).max()


def test_rows_of_unit_length_are_not_an_option():
    """UPGrad cannot scale the gradients to length 1 first (https://github.com/SimplexLab/TorchJD/issues/407)."""
    rows = np.array([[3.0, 0.0], [-1.0, 2.0]])
    wrapped = {"name": "normalised", "method": "upgrad"}
    expected = methods.combine("upgrad", rows / np.linalg.norm(rows, axis=1, keepdims=True))
    found = methods.combine(wrapped, rows)
    assert found @ expected == pytest.approx(np.linalg.norm(found) * np.linalg.norm(expected), rel=1e-5)
