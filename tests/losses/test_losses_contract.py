"""Every registered loss keeps to what all losses keep to."""

import pytest

from tfmtl2r import losses
from tfmtl2r.testing import loss_checks

# Sinkhorn's loop takes seconds to trace; the other form of the loss shares its code.
SLOW = {"neural_ndcg_transposed"}


def slow(check):
    return [pytest.mark.slow] if check.label in SLOW else []


@pytest.mark.product
@pytest.mark.parametrize("check", [check for name in losses.names() for check in loss_checks(name, marks=slow)])
def test_keeps_the_contract(check):
    check()
