"""Losses that have a version in TF-Ranking against their formulas in float64, by value and gradient.

The formulas are evaluated at ties and at extreme scores as well, where a library's form may cut off a gradient.
"""

import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax

from tfmtl2r import losses
from tfmtl2r._backend import tf

Y = np.array([2.0, 1.0, 0.0, 1.0])
SCORES = {
    "usual": [0.4, 1.1, -0.7, 0.2], "all tie": [0.0] * 4, "tie far from 0": [70.0] * 4,
    "two tie": [0.5, -1.0, 0.5, 0.2],
    "right order": [60.0, 20.0, -40.0, 19.0], "wrong order": [-60.0, 20.0, 40.0, 21.0],
}
BETTER, WORSE = np.nonzero(Y[:, None] > Y)
GAIN = 2**Y - 1
DISCOUNT = 1 / np.log2(np.arange(2, 6))
BEST = np.sort(GAIN)[::-1] @ DISCOUNT


def pairs(link):
    return lambda s: np.mean(link(s[BETTER] - s[WORSE]))


def approximate_ranks(s):
    return 0.5 + expit((s[None, :] - s[:, None]) / 0.1).sum(axis=1)


def neural_sort(s):
    rank = np.arange(1, 5)[:, None]
    return (5 - 2 * rank) * s - np.abs(s[:, None] - s).sum(axis=1)


def sorted_ndcg(s):
    placed = softmax(neural_sort(s), axis=1)
    placed = placed / np.maximum(placed.sum(axis=0), 1)
    return 1 - (DISCOUNT @ placed) @ GAIN / BEST


def unique(s):
    own = [-log_softmax(np.append(s[Y[i] > Y], s[i]))[-1] for i in range(4)]
    return GAIN @ own


def poly_one(s):
    q = Y / Y.sum()
    return -q @ log_softmax(s) + 1 - q @ softmax(s)


FORMULAS = {
    **dict.fromkeys(("pairwise_logistic", "ranknet"), pairs(lambda d: np.logaddexp(0, -d))),
    "pairwise_hinge": pairs(lambda d: np.maximum(0, 1 - d)),
    "pairwise_soft_zero_one": pairs(lambda d: expit(-d)),
    "pairwise_mse": lambda s: np.mean(((s[:, None] - s) - (Y[:, None] - Y))[~np.eye(4, dtype=bool)] ** 2),
    "softmax": lambda s: -Y / Y.sum() @ log_softmax(s),
    "poly_one_softmax": poly_one,
    "unique_softmax": unique,
    "listnet": lambda s: -softmax(Y) @ log_softmax(s),
    "approx_ndcg": lambda s: 1 - (GAIN / np.log2(1 + approximate_ranks(s))).sum() / BEST,
    "approx_mrr": lambda s: 1 - Y / Y.sum() @ (1 / approximate_ranks(s)),
    "neural_sort_cross_entropy":
        lambda s: -(softmax(neural_sort(Y), axis=1) * log_softmax(neural_sort(s), axis=1)).sum() / 4,
    "neural_sort_ndcg": sorted_ndcg,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_value_and_gradient_are_those_of_the_formula(name):
    """All kinds of scores stand in one batch, with a padded place, whose label and score do not matter."""
    scores = tf.constant([[*s, 3.0] for s in SCORES.values()])
    labels, valid = np.tile([*Y, 2.0], (len(SCORES), 1)), np.tile([True] * 4 + [False], (len(SCORES), 1))
    with tf.GradientTape() as tape:
        tape.watch(scores)
        value, _ = losses.get(name).per_list(labels, scores, valid)
    gradient = tape.gradient(value, scores).numpy()[:, :4]
    for row, (kind, s) in enumerate(SCORES.items()):
        s = np.float64(s)
        expected = FORMULAS[name](s)
        assert float(value[row]) == pytest.approx(expected, rel=1e-5, abs=1e-6), kind
        steps = 1e-5 * np.eye(4)
        slope = [(FORMULAS[name](s + step) - FORMULAS[name](s - step)) / 2e-5 for step in steps]
        np.testing.assert_allclose(gradient[row], slope, rtol=2e-4, atol=1e-5, err_msg=kind)


def test_pairwise_logistic_learns_from_equal_scores():
    scores = tf.zeros([1, 3])
    with tf.GradientTape() as tape:
        tape.watch(scores)
        value, _ = losses.get("pairwise_logistic").per_list([[2.0, 1.0, 0.0]], scores, [[True] * 3])
    np.testing.assert_allclose(tape.gradient(value, scores)[0], [-1 / 3, 0.0, 1 / 3], atol=1e-7)


@pytest.mark.parametrize("cutoff", [None, 2])
def test_dcg_v2_divides_pairs_beyond_the_cutoff(cutoff):
    s = np.array(SCORES["usual"])
    rank = 1 + np.argsort(np.argsort(-s))
    apart, worst = np.abs(rank[BETTER] - rank[WORSE]), np.maximum(rank[BETTER], rank[WORSE])
    w = (GAIN[BETTER] - GAIN[WORSE]) * (1 / np.log2(1 + apart) - 1 / np.log2(2 + apart))
    w = np.where(worst > (cutoff or 9), w / (1 - 1 / np.log2(1 + worst)), w)
    expected = np.average(np.logaddexp(0, s[WORSE] - s[BETTER]), weights=w)
    loss = losses.get("pairwise_logistic", lambda_weight="dcg_v2", lambda_top_n=cutoff)
    assert float(loss.per_list([Y], [s], [[True] * 4])[0][0]) == pytest.approx(expected, rel=1e-5)
