"""LambdaLoss, RankNet and PWiseR against double loops in float64, by value and by gradient; blocks of pairs."""

import subprocess
import sys

import numpy as np
import pytest

from tfmtl2r import losses
from tfmtl2r._backend import tf
from tfmtl2r.losses import _neural_sort, _pairs
from tfmtl2r.losses.lambda_loss import WEIGHINGS

Y = np.array([3.0, 0.0, 1.0, 2.0, 1.0, 0.0])
S = np.array([0.4, 1.1, -0.6, 0.2, 1.9, -1.3])
W = np.array([2.0, 1.0, 0.5, 3.0, 0.0, 1.0]) / 1.25  # weights are relative: their mean is 1
RANK = 1 + np.argsort(np.argsort(-S))
RANDOM = np.random.default_rng(5)


def value_and_gradient(loss, y=Y, s=S, weights=None):
    """Of one list, seen through padding and an item without a label."""
    pad = ((0, 0), (0, 2))
    labels, scores = np.pad([y], pad, constant_values=np.nan), tf.constant(np.pad([s], pad), tf.float32)
    weights = None if weights is None else np.pad([weights], pad, constant_values=9.0)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        value, _ = loss.per_list(labels, scores, [[True] * (len(y) + 1) + [False]], weights)
    gradient = tape.gradient(value, scores)[0].numpy()
    assert not gradient[len(y) :].any()
    return float(value[0]), gradient[: len(y)]


def agrees(loss, reference, y=Y, s=S, weights=None):
    """Value, and gradient against central differences of the reference."""
    value, gradient = value_and_gradient(loss, y, s, weights)
    assert value == pytest.approx(reference(s), rel=2e-5, abs=1e-6)
    steps = 1e-5 * np.eye(len(s))
    slopes = [(reference(s + step) - reference(s - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(gradient, slopes, rtol=2e-4, atol=2e-6)


def minus_log_sigmoid(x):
    return np.log1p(np.exp(-x))


def lambda_weight(weighing, i, j, k, mu):
    """The table of DeepMTL2R: G gains over maxDCG@k, D discounts by rank."""
    best = np.sort(Y)[::-1][:k]
    gain = (2**Y - 1) / np.sum((2**best - 1) / np.log2(2 + np.arange(len(best))))
    discount, apart = 1 / np.log2(1 + RANK), abs(RANK[i] - RANK[j])
    difference = abs(gain[i] - gain[j])
    loss2 = abs(1 / np.log2(1 + apart) - 1 / np.log2(2 + apart)) * difference
    lambda_rank = abs(discount[i] - discount[j]) * difference
    return {
        "ranknet": 1.0,
        "ndcg_loss1": gain[i] * discount[i],
        "ndcg_loss2": loss2,
        "lambda_rank": lambda_rank,
        "ndcg_loss2pp": mu * loss2 + lambda_rank,
        "label_diff": abs(Y[i] - Y[j]),
        "squared_label_diff": abs(Y[i] ** 2 - Y[j] ** 2),
    }[weighing]


def lambda_loss(s, weighing, k=None, sigma=1.0, mu=10.0, reduction="sum", weights=None):
    size = len(Y)
    pairs = [
        (i, j)
        for i in range(size)
        for j in range(size)
        if (i != j if weighing == "ndcg_loss1" else Y[i] > Y[j]) and max(RANK[i], RANK[j]) <= (k or size)
    ]
    total = 0.0
    for i, j in pairs:
        # As DeepMTL2R writes it, without its floor: log2 of the probability to the power of the weight.
        probability = 1 / (1 + np.exp(-sigma * (s[i] - s[j])))
        total -= np.log2(probability ** lambda_weight(weighing, i, j, k, mu)) * (1 if weights is None else weights[i])
    return total / len(pairs) if reduction == "mean" else total


@pytest.mark.parametrize("weighing", WEIGHINGS)
def test_lambda_loss(weighing):
    agrees(losses.get("lambda_loss", weighing=weighing), lambda s: lambda_loss(s, weighing))
    options = {"weighing": weighing, "k": 4, "sigma": 2.5, "mu": 3.0, "reduction": "mean"}
    agrees(losses.get("lambda_loss", **options), lambda s: lambda_loss(s, **options, weights=W), weights=W)


def test_lambda_loss_of_two_items_by_hand():
    """One pair in the wrong order: ranks 2 and 1, gains 3 and 0, maxDCG 3."""
    cost = np.log2(1 + np.exp(2.0))
    expected = {"ranknet": cost, "label_diff": 2 * cost, "squared_label_diff": 4 * cost}
    expected |= {"lambda_rank": (1 - 1 / np.log2(3)) * cost, "ndcg_loss2": (1 - 1 / np.log2(3)) * cost}
    expected |= {"ndcg_loss2pp": 11 * (1 - 1 / np.log2(3)) * cost, "ndcg_loss1": cost / np.log2(3)}
    for weighing in WEIGHINGS:
        found, _ = value_and_gradient(losses.get("lambda_loss", weighing=weighing), [2.0, 0.0], [-1.0, 1.0])
        assert found == pytest.approx(expected[weighing], rel=1e-5), weighing


def test_a_hopeless_pair_keeps_its_gradient():
    """DeepMTL2R's floor of 1e-10 under the probability makes it 0 from a score difference of 23 on."""
    value, gradient = value_and_gradient(losses.get("lambda_loss", weighing="ranknet"), [1.0, 0.0], [-200.0, 200.0])
    assert value == pytest.approx(400 / np.log(2))
    np.testing.assert_allclose(gradient, np.array([-1, 1]) / np.log(2), rtol=1e-6)


def test_a_list_without_a_pair_in_its_first_k_costs_nothing():
    loss, weight = losses.get("lambda_loss", k=2).per_list([[0.0, 0.0, 1.0]], [[3.0, 2.0, 1.0]], [[True] * 3])
    assert (float(loss[0]), float(weight[0])) == (0.0, 1.0)


def ranknet(s, power, weights):
    pairs = [(i, j) for i in range(len(Y)) for j in range(len(Y)) if Y[i] > Y[j]]
    terms = [weights[i] * abs(Y[i] ** power - Y[j] ** power) * minus_log_sigmoid(s[i] - s[j]) for i, j in pairs]
    return np.mean(terms)


@pytest.mark.parametrize(("weighing", "power"), [("label_diff", 1), ("squared_label_diff", 2)])
def test_ranknet_by_label_differences(weighing, power):
    agrees(losses.get("ranknet", weighing=weighing), lambda s: ranknet(s, power, W), weights=W)
    agrees(losses.get("ranknet", weighing=weighing), lambda s: ranknet(s, power, np.ones(6)))


def test_plain_ranknet_is_tf_rankings_pairwise_logistic_and_lambda_loss_in_nats():
    for options in ({}, {"temperature": 0.3}):
        found = value_and_gradient(losses.get("ranknet", **options), weights=W)
        wanted = value_and_gradient(losses.get("pairwise_logistic", **options), weights=W)
        assert found[0] == pytest.approx(wanted[0], rel=1e-5)
        np.testing.assert_allclose(found[1], wanted[1], rtol=1e-4, atol=1e-6)
    in_bits, _ = value_and_gradient(losses.get("lambda_loss", weighing="label_diff", reduction="mean"))
    nats, _ = value_and_gradient(losses.get("ranknet", weighing="label_diff"))
    assert nats == pytest.approx(np.log(2) * in_bits, rel=1e-5)


def logit(p):
    return np.log(p) - np.log1p(-np.asarray(p))


def pwiser(s, y, m1, m2, weights, bce=0.0):
    p = 1 / (1 + np.exp(-s))
    sets = [np.flatnonzero(y == label) for label in (0, 1, 2)]
    total = 0.0
    for margin, worse in ((m1, sets[1]), (m2, sets[0])):
        terms = [weights[i] * max(0.0, margin - (p[i] - p[j])) for i in sets[2] for j in worse]
        total += np.mean(terms) if terms else 0.0
    clicked = np.asarray(y) >= 1
    return total + bce * np.mean(weights * np.where(clicked, minus_log_sigmoid(s), minus_log_sigmoid(-s)))


def test_pwiser():
    y = np.array([2.0, 0.0, 1.0, 2.0, 1.0, 0.0])
    options = {"click_margin": 0.3, "none_margin": 0.45}
    for weights in (W, np.ones(6)):
        agrees(losses.get("pwiser", **options), lambda s, w=weights: pwiser(s, y, 0.3, 0.45, w), y, S, weights)
        with_bce = losses.get("pwiser", bce=0.7, **options)
        agrees(with_bce, lambda s, w=weights: pwiser(s, y, 0.3, 0.45, w, 0.7), y, S, weights)


def test_pwiser_by_hand():
    """The oracle: probabilities 0.9, 0.6, 0.2 of a conversion, a click and nothing."""
    s = logit(np.array([0.9, 0.6, 0.2]))
    equal = losses.get("pwiser", click_margin=0.5, none_margin=0.5)
    assert value_and_gradient(equal, [2.0, 1.0, 0.0], s)[0] == pytest.approx(0.2, rel=1e-5)
    assert value_and_gradient(equal, [2.0, 0.0], s[[0, 2]])[0] == 0.0
    met, gradient = value_and_gradient(losses.get("pwiser"), [2.0, 1.0, 0.0], s)
    assert met == 0.0
    assert not gradient.any()


def test_pwiser_pushes_conversions_up_and_the_others_down():
    y = np.array([2.0, 1.0, 0.0, 2.0])
    _, gradient = value_and_gradient(losses.get("pwiser", none_margin=0.9), y, np.zeros(4))
    assert np.all((gradient < 0) == (y == 2))
    assert np.all(gradient != 0)


def test_pwiser_without_a_conversion():
    y, ones = [[1.0, 0.0], [1.0, 1.0]], np.ones((2, 2), bool)
    loss, weight = losses.get("pwiser").per_list(y, np.zeros((2, 2)), ones)
    assert not np.any(loss)
    assert not np.any(weight)
    loss, weight = losses.get("pwiser", bce=2.0).per_list(y, np.zeros((2, 2)), ones)
    np.testing.assert_allclose(loss, 2 * np.log(2) * np.ones(2), rtol=1e-6)
    assert weight.numpy().tolist() == [1, 1]


BLOCKED = [
    ("lambda_loss", {}),
    ("lambda_loss", {"weighing": "ndcg_loss1", "k": 20}),
    ("ranknet", {"weighing": "label_diff"}),
    ("pwiser", {}),
    pytest.param("neural_ndcg_transposed", {"iterations": 3, "k": 10}, marks=pytest.mark.slow),
]


def batch(lists, length):
    sizes = RANDOM.integers(length // 2, length + 1, size=lists)
    labels = RANDOM.integers(0, 3, size=(lists, length)).astype(np.float32)
    labels[RANDOM.random((lists, length)) < 0.1] = np.nan
    scores = RANDOM.normal(size=(lists, length)).astype(np.float32)
    return labels, scores, np.arange(length) < sizes[:, None], np.ones_like(scores) + (labels > 1)


def results(loss, labels, scores, valid, weights):
    scores = tf.constant(scores)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        value, _ = loss.per_list(labels, scores, valid, weights)
    return value.numpy(), tape.gradient(value, scores).numpy()


@pytest.mark.parametrize(("name", "options"), BLOCKED)
def test_blocks_do_not_change_the_result(name, options, monkeypatch):
    """Blocks of 37, of 5 and of 1 row, the last one shorter; several lists share a block."""
    data, loss = batch(3, 37), losses.get(name, **options)
    value, gradient = results(loss, *data)
    assert np.all(value > 0)
    compiled = _neural_sort._compiled.__wrapped__
    monkeypatch.setattr(_neural_sort, "_compiled", compiled)  # traced anew on every call
    for most in (3 * 37 * 5, 1):
        monkeypatch.setattr(_pairs, "MOST_PAIRS", most)
        assert int(_pairs.block_rows(3, 37)) == max(most // 111, 1)
        found = results(loss, *data)
        np.testing.assert_allclose(found[0], value, rtol=2e-6)
        np.testing.assert_allclose(found[1], gradient, rtol=1e-4, atol=2e-7)


@pytest.mark.parametrize("name", [name for name in losses.names() if losses.get(name).longest])
def test_lists_in_turn_do_not_change_the_result(name, monkeypatch):
    """All lists at once, two at a time, and one by one; a list that is too long is told before and in training."""
    data, loss = batch(3, 37), losses.get(name)
    value, gradient = results(loss, *data)
    assert np.all(value > 0)
    most = 2 * 37 * 37 * getattr(loss, "sample_size", 1)
    for pairs in (most, 1):
        monkeypatch.setattr(_pairs, "MOST_PAIRS", pairs)
        found = results(loss, *data)
        np.testing.assert_allclose(found[0], value, rtol=2e-6)
        np.testing.assert_allclose(found[1], gradient, rtol=1e-4, atol=2e-7)
    monkeypatch.setattr(type(loss), "longest", 36)
    with pytest.raises(ValueError, match=r"a list has 37 items, but .* takes at most 36 items in a list: cut longer"):
        loss.check_length(37)
    with pytest.raises(tf.errors.InvalidArgumentError, match="takes at most 36 items in a list"):
        results(loss, *data)


def test_no_more_pairs_than_allowed_exist_at_once(monkeypatch):
    monkeypatch.setattr(_pairs, "MOST_PAIRS", 9_000)
    seen = []

    def link(differences):
        seen.append(int(tf.size(differences)))
        return _pairs.logistic()(differences)

    labels, scores, valid, _ = batch(2, 200)
    items = _pairs.items_of(tf.constant(np.nan_to_num(labels)), tf.constant(valid), None)
    _, count = _pairs.sums(tf.constant(scores), items, lambda i, j: (_pairs.ordered(i, j), i["weights"]), link)
    assert max(seen) <= 9_000
    assert sum(seen) == 2 * 200 * 200
    wanted = [np.sum((y[:, None] > y) & v[:, None] & v) for y, v in zip(np.nan_to_num(labels), valid, strict=True)]
    np.testing.assert_allclose(count, wanted)


MEASURE = """
import resource, sys
import numpy as np
from tfmtl2r import losses
from tfmtl2r._backend import tf
name, length = sys.argv[1], int(sys.argv[2])
loss = losses.get(name)

@tf.function(input_signature=[tf.TensorSpec([None, None])] * 2)
def step(labels, scores):
    with tf.GradientTape() as tape:
        tape.watch(scores)
        value = tf.reduce_sum(loss.per_list(labels, scores, tf.ones_like(scores, tf.bool))[0])
    return tape.gradient(value, scores)

rng = np.random.default_rng(0)
data = lambda size: (rng.integers(0, 3, size).astype(np.float32), rng.normal(size=size).astype(np.float32))
step(*data((2, 50)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
gradient = step(*data((2, length)))
assert np.all(np.isfinite(gradient)) and np.any(gradient)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.long
@pytest.mark.parametrize(("name", "length", "most"), [("lambda_loss", 8000, 300), ("neural_ndcg", 4000, 500)])
def test_the_memory_of_long_lists_stays_bounded(name, length, most):
    """In megabytes, for two lists. One pair matrix would take 488 and 122, and a plain gradient keeps five or more."""
    command = [sys.executable, "-c", MEASURE, name, str(length)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert int(done.stdout.split()[-1]) < most
