"""Where scalarisations that promise no ray end: on two quadratics whose Pareto set is known exactly.

``l1 = s1 |x - (1, 0, 0)|^2`` and ``l2 = s2 |x + (1, 0, 0)|^2``; the Pareto set is ``(t, 0, 0)`` with t in [-1, 1].
"""

import numpy as np
import pytest

from tfmtl2r import methods
from tfmtl2r._backend import tf
from tfmtl2r.methods.base import Signals
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


@pytest.mark.parametrize(
    ("preference", "noise", "median", "most"),
    [((0.8, 0.2), 0.0, 26, 54), ((0.9, 0.1), 0.0, 50, 81), ((0.9, 0.1), 0.3, 40, 62), ((0.5, 0.5), 0.0, 7, 24)],
)
def test_epo_reaches_its_ray_with_plain_steps(epo, preference, noise, median, most):
    """Twelve starts at once; the numbers of steps are at most twice those of the authors' linear program."""
    centres = np.eye(1, 8) * np.array([[1.0], [-1.0]])
    rng = np.random.default_rng(0)
    x = 0.3 * rng.normal(size=(12, 8))
    arrived = np.full(12, 10 * most)
    for step in range(2 * most + 1):
        losses = ((x[:, None] - centres) ** 2).sum(axis=2)
        weighted = losses * preference
        there = weighted.max(axis=1) < 1.05 * weighted.min(axis=1)
        arrived = np.where(there, np.minimum(arrived, step), arrived)
        rows = 2 * (x[:, None] - centres)
        length = np.linalg.norm(rows, axis=2, keepdims=True)
        rows = rows + noise * length * rng.normal(size=rows.shape) / np.sqrt(8)
        x = x - 0.01 / 2 * epo(rows, losses, preference)  # the authors' weights sum to 1, not to T
    assert np.median(arrived) <= 2 * median
    assert arrived.max() <= 2 * most


@pytest.fixture(scope="module")
def epo():
    """The updates of many points at once, traced once."""
    method = methods.get("epo")

    @tf.function(autograph=False)
    def updates(rows, losses, preference):
        def one(given):
            signals = Signals(losses=given[1], preference=preference, present=tf.constant([True, True]),
                              gram=tf.matmul(given[0], given[0], transpose_b=True))
            return tf.linalg.matvec(given[0], method.weigh(signals, {})[0], transpose_a=True)

        return tf.map_fn(one, (rows, losses), fn_output_signature=tf.float64)

    return lambda *given: updates(*(tf.constant(part, tf.float64) for part in given)).numpy()
