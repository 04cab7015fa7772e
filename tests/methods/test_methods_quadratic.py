"""Where scalarisations that promise no ray end: on two quadratics whose Pareto set is known exactly.

``l1 = s1 |x - (1, 0, 0)|^2`` and ``l2 = s2 |x + (1, 0, 0)|^2``; the Pareto set is ``(t, 0, 0)`` with t in [-1, 1].
"""

import numpy as np
import pytest

from tfmtl2r import methods
from tfmtl2r.testing.fronts import PROBLEMS, descent


def end(name, preference, scales, **options):
    start = np.array(PROBLEMS["bowls"].starts[0])
    run = descent(methods.get(name, **options), "bowls", 2000)
    return run(start, np.array(preference), np.array(scales)).numpy()


@pytest.mark.parametrize("preference", [(0.5, 0.5), (0.8, 0.2), (0.2, 0.8)])
@pytest.mark.parametrize("scales", [(1.0, 1.0), (1.0, 10.0)])
def test_linear_scalarisation_ends_at_the_weighted_mean_of_the_optima(preference, scales):
    pull = np.multiply(preference, scales)
    x = end("linear_scalarization", preference, scales)
    np.testing.assert_allclose(x, [(pull[0] - pull[1]) / pull.sum(), 0, 0], atol=0.03)


def test_cosmos_lies_between_the_weighted_sum_and_the_ray():
    ends = [end("cosmos", (0.8, 0.2), (1.0, 1.0), lam=lam)[0] for lam in (0.0, 1.0, 30.0)]
    np.testing.assert_allclose([ends[0], ends[2]], [0.6, 1 / 3], atol=0.03)
    assert ends[0] > ends[1] > ends[2]
