"""Fixtures of baselines."""

import pytest
from stub_baseline import LeastSquares

from tfmtl2r import baselines


@pytest.fixture
def least_squares():
    """The name of the stand-in for trees."""
    baselines.register("least_squares")(LeastSquares)
    yield "least_squares"
    baselines.registry.unregister("least_squares")
