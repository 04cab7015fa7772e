"""NeuralNDCG and its transposed form against a plain Sinkhorn iteration in float64, with and without noise."""

import subprocess
import sys

import numpy as np
import pytest
from test_losses_pairs import MEASURE, batch, results

from tfmtl2r import losses, ranking
from tfmtl2r._backend import tf
from tfmtl2r.losses import _neural_sort, _pairs

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


def value_and_gradient(name, s, y=Y, seed=None, **options):
    """Of one list, seen through padding; the item in the middle has no label."""
    pad, size = ((0, 0), (0, 2)), len(s) + 1
    labels = np.pad([np.insert(y, 2, np.nan)], pad)
    scores = tf.constant(np.pad([np.insert(s, 2, 7.0)], pad), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        value, _ = losses.get(name, **options).per_list(labels, scores, [[True] * size + [False] * 2], seed=seed)
    gradient = tape.gradient(value, scores)[0].numpy()
    assert not gradient[[2, -1, -2]].any()
    return float(value[0]), np.delete(gradient[:size], 2)


@pytest.mark.product
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


def noisy(s, noise, beta=0.1, log_scores=False):
    return (np.log(s - s.min() + 1e-10) if log_scores else s) + beta * noise


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("log_scores", [False, True])
def test_without_scale_the_noise_is_none(name, log_scores):
    scores = noisy(S, 0.0, log_scores=log_scores)
    value, _ = value_and_gradient(name, S, samples=3, beta=0.0, log_scores=log_scores)
    assert value == pytest.approx(reference(scores, name), rel=2e-5)
    if not log_scores:
        assert value == pytest.approx(value_and_gradient(name, S)[0], rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [
    {"samples": 3}, {"samples": 4, "beta": 0.5, "k": 2, "temperature": 0.5, "gain": "linear"},
    {"samples": 2, "log_scores": True},
])  # fmt: skip
def test_value_and_gradient_given_the_noise(name, options):
    """The mean over copies with the very noise of the seed, and its slopes; padding does not shift the noise."""
    noise = np.delete(ranking.gumbel(1, 8, (3, 4), options["samples"])[:, 0], 2, axis=1)[:, :5].astype(np.float64)
    kind = {key: options[key] for key in ("beta", "log_scores") if key in options}
    others = {key: value for key, value in options.items() if key not in ("samples", *kind)}

    def mean(s):
        return np.mean([reference(noisy(s, row, **kind), name, **others) for row in noise])

    value, gradient = value_and_gradient(name, S, seed=(3, 4), **options)
    assert value == pytest.approx(mean(S), rel=2e-5)
    slopes = [(mean(S + step) - mean(S - step)) / 2e-5 for step in 1e-5 * np.eye(5)]
    if options.get("log_scores"):  # the lowest score is where the logarithm starts
        slopes[2] = -(sum(slopes) - slopes[2])
    np.testing.assert_allclose(gradient, slopes, rtol=2e-3, atol=2e-5)


def test_many_samples_are_as_many_orders_drawn_from_a_plackett_luce_model():
    draws = np.random.default_rng(0).gumbel(size=(1500, 5))
    each = np.array([reference(S + row, "neural_ndcg", temperature=0.3, iterations=15) for row in draws])
    options = {"samples": 3000, "beta": 1.0, "temperature": 0.3, "iterations": 15}
    value, gradient = value_and_gradient("neural_ndcg", S, seed=(0, 7), **options)
    error = each.std() * np.sqrt(1 / 1500 + 1 / 3000)
    assert value == pytest.approx(each.mean(), abs=4 * error)
    still = value_and_gradient("neural_ndcg", S, temperature=0.3, iterations=15)[0]
    assert abs(still - each.mean()) > 8 * error, "else the noise has no say"
    assert gradient[0] < 0 < gradient[4]


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_settles_the_noise(name):
    first, again, other = (value_and_gradient(name, S, samples=2, seed=seed) for seed in ((1, 2), (1, 2), (1, 3)))
    assert first[0] == again[0]
    np.testing.assert_array_equal(first[1], again[1])
    assert first[0] != pytest.approx(other[0], rel=1e-4)
    assert losses.get(name, samples=2).needs_seed
    assert not losses.get(name).needs_seed


@pytest.mark.parametrize("log_scores", [False, True])
def test_hard_cases_with_noise_are_finite(log_scores):
    y = np.array([[1.0, 1, 1, 1], [0, 0, 0, 0], [np.nan] * 4, [2, 0, 1, 0], [31, 0, 30, 1]])
    for s in (np.zeros((5, 4)), np.tile([1e4, -1e4, 0.5, 0.3], (5, 1))):
        valid = np.arange(7) < np.array([[4], [4], [4], [2], [4]])
        pad = ((0, 0), (0, 3))
        scores = tf.constant(np.pad(s, pad, constant_values=np.nan), tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(scores)
            loss = losses.get("neural_ndcg", samples=3, log_scores=log_scores)
            value, weight = loss.per_list(np.pad(y, pad), scores, valid, seed=(5, 6))
        gradient = tape.gradient(value, scores).numpy()
        assert np.all(np.isfinite(value))
        assert np.all(np.isfinite(gradient))
        assert not gradient[~valid].any()
        assert weight.numpy().tolist() == [1, 0, 0, 1, 1]
        assert not gradient[1:3].any()


@pytest.mark.slow
def test_how_many_samples_are_sorted_at_once_makes_no_difference(monkeypatch):
    """All five; two, two and one; one by one; and in a graph that knows no shapes."""
    data, loss = batch(3, 37), losses.get("neural_ndcg", samples=5, iterations=15)
    value, gradient = results(loss, *data)
    step = tf.function(loss.per_list, input_signature=[
        tf.TensorSpec([None, None], dtype) for dtype in (tf.float32, tf.float32, tf.bool, tf.float32)])
    np.testing.assert_allclose(step(*data)[0], value, rtol=2e-6)
    for most in (2 * 3 * 37 * 37, 1):
        monkeypatch.setattr(_pairs, "MOST_PAIRS", most)
        found = results(loss, *data)
        np.testing.assert_allclose(found[0], value, rtol=2e-6)
        np.testing.assert_allclose(found[1], gradient, rtol=1e-4, atol=2e-7)


@pytest.mark.slow
def test_blocks_of_rows_with_noise(monkeypatch):
    data, loss = batch(3, 37), losses.get("neural_ndcg", samples=3, iterations=3)
    value, gradient = results(loss, *data)
    monkeypatch.setattr(_neural_sort, "_compiled", _neural_sort._compiled.__wrapped__)  # traced anew on every call
    monkeypatch.setattr(_pairs, "MOST_PAIRS", 3 * 37 * 5)
    found = results(loss, *data)
    np.testing.assert_allclose(found[0], value, rtol=2e-6)
    np.testing.assert_allclose(found[1], gradient, rtol=1e-4, atol=2e-7)


@pytest.mark.slow
def test_the_memory_of_many_samples_stays_bounded():
    """In megabytes, for two lists of 1500 items: one pair matrix of all 16 copies would take 288."""
    script = MEASURE.replace("losses.get(name)", "losses.get(name, samples=16, iterations=2)")
    command = [sys.executable, "-c", script, "neural_ndcg", "1500"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert int(done.stdout.split()[-1]) < 200


@pytest.mark.parametrize(("options", "message"), [
    ({"samples": -1}, "NeuralNDCG: samples must be at least 0, not -1"),
    ({"samples": 2, "beta": float("nan")}, "NeuralNDCG: beta must be at least 0, not nan"),
    ({"log_scores": True}, "log_scores has no effect without noise; set samples, for example to 32"),
])  # fmt: skip
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        losses.get("neural_ndcg", **options)
