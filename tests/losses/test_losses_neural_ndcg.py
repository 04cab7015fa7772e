"""NeuralNDCG and its transposed form against a plain Sinkhorn iteration in float64."""

import numpy as np
import pytest

from tfmtl2r import losses
from tfmtl2r._backend import tf
from tfmtl2r.losses import _neural_sort

Y = np.array([3.0, 0.0, 1.0, 2.0, 0.0])
S = np.array([0.4, 1.1, -0.6, 0.2, 1.0])
NAMES = ("neural_ndcg", "neural_ndcg_transposed")


def neural_sort(s):
    """Row r: softmax of (n + 1 - 2 r) s_i - sum_j |s_i - s_j|."""
    size = len(s)
    logits = np.array([(size + 1 - 2 * r) * s - np.abs(s[:, None] - s).sum(axis=1) for r in range(1, size + 1)])
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def scaled(matrix, iterations):
    for _ in range(iterations):
        matrix = matrix / matrix.sum(axis=0)
        matrix = matrix / matrix.sum(axis=1, keepdims=True)
    return matrix / np.maximum(matrix.sum(axis=0), 1.0)


def reference(s, name, y=Y, temperature=1.0, k=None, gain="exp2", iterations=50):
    matrix = neural_sort(s / temperature)
    placed = scaled(matrix.T, iterations).T if name == "neural_ndcg_transposed" else scaled(matrix, iterations)
    discount = np.where(np.arange(len(y)) < (k or len(y)), 1 / np.log2(2 + np.arange(len(y))), 0)
    gains = 2**y - 1 if gain == "exp2" else y
    return 1 - discount @ placed @ gains / np.sum(discount * np.sort(gains)[::-1])


def value_and_gradient(name, s, y=Y, **options):
    """Of one list, seen through padding; the item in the middle has no label."""
    pad, size = ((0, 0), (0, 2)), len(s) + 1
    labels = np.pad([np.insert(y, 2, np.nan)], pad)
    scores = tf.constant(np.pad([np.insert(s, 2, 7.0)], pad), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        value, _ = losses.get(name, **options).per_list(labels, scores, [[True] * size + [False] * 2])
    gradient = tape.gradient(value, scores)[0].numpy()
    assert not gradient[[2, -1, -2]].any()
    return float(value[0]), np.delete(gradient[:size], 2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.3, "k": 2}, {"iterations": 1}, {"iterations": 2, "gain": "linear", "temperature": 0.5}],
)
def test_value_and_gradient(name, options):
    value, gradient = value_and_gradient(name, S, **options)
    assert value == pytest.approx(reference(S, name, **options), rel=2e-5)
    differences = [
        (reference(S + step, name, **options) - reference(S - step, name, **options)) / 2e-5
        for step in 1e-5 * np.eye(5)
    ]
    np.testing.assert_allclose(gradient, differences, rtol=1e-3, atol=1e-5)


def test_iterations_run_out_on_both_sides_of_the_last_clip():
    """The cases above cover both branches of the gradient: some columns are scaled down at last, others are not."""
    matrix = neural_sort(S)
    for start in (matrix, matrix.T):
        once = start / start.sum(axis=0)
        once /= once.sum(axis=1, keepdims=True)
        assert np.any(once.sum(axis=0) > 1 + 1e-4)
        assert np.any(once.sum(axis=0) < 1 - 1e-4)


def test_the_two_forms_agree_where_the_scaling_converges_and_differ_where_not():
    both = [value_and_gradient(name, S)[0] for name in NAMES]
    assert both[0] == pytest.approx(both[1], abs=1e-5)
    both = [value_and_gradient(name, S, iterations=1)[0] for name in NAMES]
    assert both[0] != pytest.approx(both[1], abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_towards_temperature_zero_it_is_one_minus_ndcg(name):
    order = np.argsort(-S)
    for k in (None, 2):
        discount = (1 / np.log2(2 + np.arange(5)))[:k]
        dcg, best = (np.sum((2 ** y[:k] - 1) * discount) for y in (Y[order], np.sort(Y)[::-1]))
        assert value_and_gradient(name, S, temperature=0.01, k=k)[0] == pytest.approx(1 - dcg / best, abs=1e-5)


def test_equal_scores_share_all_ranks_and_are_pulled_apart():
    value, gradient = value_and_gradient("neural_ndcg", np.zeros(5))
    discount, gains = 1 / np.log2(2 + np.arange(5)), 2**Y - 1
    best = np.sum(discount * np.sort(gains)[::-1])
    assert value == pytest.approx(1 - discount.mean() * gains.sum() / best, rel=1e-5)
    # Symmetric: items of equal label are pulled alike, those of higher label more.
    assert gradient[1] == pytest.approx(gradient[4], rel=1e-4)
    assert np.all(np.diff(gradient[[0, 3, 2, 1]]) > 0)


@pytest.mark.parametrize("name", NAMES)
def test_the_value_stays_above_zero_without_the_clamp_where_one_iteration_is_not_enough(name):
    rng = np.random.default_rng(0)
    y, s = rng.integers(0, 4, size=(2000, 4)).astype(np.float32), rng.normal(size=(2000, 4)).astype(np.float32)
    y[:, 0] = 3
    loss = losses.get(name, iterations=1, temperature=0.2)
    found = loss.compute(tf.constant(y), tf.constant(s), tf.ones(y.shape, tf.bool), None, (0, 0))
    assert np.min(found) > -1e-5


def test_distances_to_all_with_ties_and_padding():
    s = np.array([[1.0, 1.0, -2.0, 4.0, 9.0], [5.0, 0.0, 0.0, 0.0, 0.0]], np.float32)
    known = np.array([[1, 1, 1, 1, 0], [0, 1, 1, 1, 1]], bool)
    scores = tf.constant(s)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        found = _neural_sort.distances_to_all(scores, tf.constant(known))
        total = tf.reduce_sum(found * [[1.0, 2.0, 3.0, 4.0, 5.0]])
    pairs = known[:, :, None] & known[:, None, :]
    np.testing.assert_allclose(found, np.sum(np.abs(s[:, :, None] - s[:, None, :]) * pairs, axis=2))
    upstream = np.arange(1.0, 6.0)
    sign = np.sign(s[:, :, None] - s[:, None, :]) * pairs
    wanted = upstream * sign.sum(axis=2) - np.einsum("i,bij->bj", upstream, sign)
    np.testing.assert_allclose(tape.gradient(total, scores), wanted)
