"""Values against brute force, TF-Ranking and hand-made cases; conventions; options."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmtl2r import _keras2, metrics
from tfmtl2r._backend import tf
from tfmtl2r.metrics.base import evaluate


def per_list(name, labels, scores, **options):
    """Value and count of one list, seen through padding."""
    size = len(labels)
    labels, scores = ([[*map(float, x), 9.0, 9.0]] for x in (labels, scores))
    value, counts = metrics.get(name, **options).per_list(labels, scores, [[True] * size + [False] * 2])
    return float(value[0]), float(counts[0])


def ndcg_in_order(labels, k, gain):
    gains = 2.0**labels - 1 if gain == "exp2" else labels
    return np.sum((gains / np.log2(np.arange(2, len(labels) + 2)))[:k])


def brute_ndcg(labels, scores, k, gain):
    labels, scores = np.asarray(labels, float), np.asarray(scores)
    orders = [list(o) for o in itertools.permutations(range(len(labels))) if np.all(np.diff(scores[list(o)]) <= 0)]
    ideal = ndcg_in_order(np.sort(labels)[::-1], k, gain)
    return np.mean([ndcg_in_order(labels[o], k, gain) for o in orders]) / ideal


small = st.integers(1, 5).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 3), min_size=n, max_size=n), st.lists(st.integers(-1, 1), min_size=n, max_size=n)
    )
)


@settings(max_examples=25, deadline=None)
@given(data=small, k=st.sampled_from([None, 1, 3, 8]), gain=st.sampled_from(["exp2", "linear"]))
def test_ndcg_is_the_mean_over_all_orders_of_tied_items(data, k, gain):
    labels, scores = data
    value, counts = per_list("ndcg", labels, scores, k=k, gain=gain)
    assert counts == float(any(labels))
    if counts:
        assert value == pytest.approx(brute_ndcg(labels, scores, k, gain), abs=1e-5)


@pytest.mark.parametrize("k", [None, 1, 5])
def test_ndcg_agrees_with_tf_ranking_without_ties(k, rng):
    labels = rng.integers(0, 5, size=(50, 9)).astype(np.float32)
    labels[0] = 0
    scores = rng.permuted(np.tile(np.arange(9, dtype=np.float32), (50, 1)), axis=1)
    theirs, _ = _keras2.metrics_impl().NDCGMetric(name=None, topn=k).compute(labels, scores)
    value, counts = metrics.get("ndcg", k=k, empty="zero").per_list(labels, scores, np.ones_like(labels, bool))
    np.testing.assert_allclose(value, theirs[:, 0], atol=1e-6)
    assert np.all(counts == 1)


@pytest.mark.parametrize("name", ["ndcg", "mrr", "map", "precision", "recall"])
def test_conventions_for_lists_without_a_relevant_item(name):
    labels, scores = [0, 0, 0], [3, 2, 1]
    assert per_list(name, labels, scores) == (0.0, 0.0)
    assert per_list(name, labels, scores, empty="zero") == (0.0, 1.0)
    assert per_list(name, labels, scores, empty="one") == (1.0, 1.0)
    for empty in ("skip", "zero", "one"):
        assert metrics.get(name, empty=empty).conventions()["empty"] == empty
        assert per_list(name, [1, 0, 0], scores, empty=empty) == per_list(name, [1, 0, 0], scores)


def test_ndcg_of_mixed_lists_only():
    assert per_list("ndcg", [1, 1], [2, 1])[1] == 1
    assert per_list("ndcg", [1, 1], [2, 1], mixed_only=True) == (0.0, 0.0)
    assert per_list("ndcg", [0, 0], [2, 1], mixed_only=True)[1] == 0
    assert per_list("ndcg", [0, 1], [2, 1], mixed_only=True) == per_list("ndcg", [0, 1], [2, 1])


def in_order(labels, scores):
    return np.asarray(labels)[np.argsort(-np.asarray(scores))] > 0


def brute(name, labels, scores, k):
    relevant = in_order(labels, scores)
    top = relevant[:k]
    if name == "mrr":
        return 1 / (1 + np.argmax(top)) if top.any() else 0.0
    if name == "precision":
        return top.mean()
    if name == "recall":
        return top.sum() / relevant.sum()
    return sum(top[: i + 1].mean() for i in np.flatnonzero(top)) / relevant.sum()


@pytest.mark.parametrize("name", ["mrr", "map", "precision", "recall"])
def test_binary_metrics_agree_with_their_definitions(name, rng):
    for k in [None, 1, 2, 4, 20] * 5:
        size = rng.integers(1, 8)
        labels, scores = rng.integers(0, 3, size=size), rng.permutation(size)
        value, counts = per_list(name, labels, scores, k=k)
        assert counts == float(labels.any())
        if counts:
            assert value == pytest.approx(brute(name, labels, scores, k), abs=1e-6)


@pytest.mark.parametrize("name", ["mrr", "map", "precision", "recall", "grouped_auc"])
def test_what_is_relevant_is_an_option(name):
    labels, scores = [4, 1, 0, 2, 0], [1, 5, 4, 3, 2]
    k = {} if name == "grouped_auc" else {"k": 3}
    assert per_list(name, labels, scores, above=1.5, **k) == per_list(name, [1, 0, 0, 1, 0], scores, **k)
    assert per_list(name, labels, scores, above=1.5, **k) != per_list(name, labels, scores, **k)


@pytest.mark.parametrize("name", ["mrr", "map", "precision@2", "recall@2", "arp"])
def test_ties_fall_the_same_way_on_every_call(name):
    labels = np.tile([[1.0, 0.0, 0.0, 1.0, 0.0]], (200, 1))
    metric, args = metrics.get(name), (labels, np.zeros_like(labels), np.ones_like(labels, bool))
    first = evaluate(metric, *args)
    np.testing.assert_array_equal(first, evaluate(metric, *args))
    assert len(np.unique(first)) > 1
    assert metric.conventions()["ties"] == "seeded shuffle"


def test_arp():
    assert per_list("arp", [0, 3, 1], [1, 2, 3])[0] == pytest.approx((3 * 2 + 1 * 1) / 4)
    assert per_list("arp", [0, 0], [1, 2]) == (0.0, 0.0)


def slow_auc(labels, scores):
    wins = [(p > n) + 0.5 * (p == n) for p in scores[labels > 0] for n in scores[labels <= 0]]
    return np.mean(wins) if wins else np.nan


@settings(max_examples=25, deadline=None)
@given(data=st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3)), min_size=1, max_size=12))
def test_auc_by_ranks_is_auc_by_pairs(data):
    labels, scores = np.array(data, float).T
    expected = slow_auc(labels, scores)
    np.testing.assert_allclose(metrics.get("auc").exact(labels, scores), expected, rtol=1e-12)
    value, counts = per_list("grouped_auc", labels, scores)
    assert counts == float(not np.isnan(expected))
    assert value == pytest.approx(np.nan_to_num(expected), abs=1e-6)


@pytest.mark.parametrize(("shift", "scale"), [(0, 1), (-6, 0.3), (0, 30), (4, 0.1), (100, 1), (-1e4, 1)])
def test_streaming_auc_is_close_to_the_exact_one_wherever_the_scores_are(shift, scale, rng):
    labels = (rng.random((400, 25)) < 0.1).astype(np.float32)
    scores = (shift + scale * (rng.normal(size=labels.shape) + labels)).astype(np.float32)
    metric = metrics.get("auc")
    stream = metric.streaming()
    for part in range(0, 400, 50):
        rows = slice(part, part + 50)
        stream.update_state(labels[rows], scores[rows], np.ones_like(labels[rows], bool))
    assert float(stream.result()) == pytest.approx(metric.exact(labels, scores), abs=5e-4)


def test_auc_options_and_missing_labels():
    labels, scores = np.array([3.0, 1.0, 0.0, np.nan, -1.0]), np.array([0.5, 0.9, 0.7, 5.0, 5.0])
    assert metrics.get("auc").exact(labels, scores) == 0.5
    assert metrics.get("auc", above=1.5).exact(labels, scores) == 0.0
    assert np.isnan(metrics.get("auc", above=5).exact(labels, scores))
    for above, expected in ((0.0, 0.5), (1.5, 0.0)):
        stream = metrics.get("auc", above=above).streaming()
        stream.update_state(labels[None], scores[None], np.ones((1, 5), bool))
        assert float(stream.result()) == pytest.approx(expected, abs=1e-6)
    coarse = metrics.get("auc", bins=2).streaming()
    coarse.update_state(labels[None], scores[None], np.ones((1, 5), bool))
    assert float(coarse.result()) == pytest.approx(0.25), "two points cannot tell 0.7 from 0.9"
    coarse = metrics.get("auc", bins=2, above=1.5).streaming()
    coarse.update_state(labels[None], scores[None], np.ones((1, 5), bool))
    assert float(coarse.result()) == pytest.approx(0.0), "but 0.5 from 0.9"


def test_auc_has_no_value_per_list():
    with pytest.raises(TypeError, match="auc is one number over all items"):
        metrics.get("auc").per_list([[1.0]], [[1.0]], [[True]])


def test_grouped_auc_weighted_by_the_number_of_items():
    assert per_list("grouped_auc", [1, 0, 0], [1, 1, 0]) == (0.75, 1.0)
    assert per_list("grouped_auc", [1, 0, 0], [1, 1, 0], weighted=True) == (0.75, 3.0)
    assert per_list("grouped_auc", [1, 1], [1, 0], weighted=True) == (0.0, 0.0)
    assert per_list("grouped_auc", [1, 0], [np.inf, -np.inf]) == (1.0, 1.0)


def test_item_metrics_are_means_over_items():
    labels, scores = np.array([[1.0, 0.0, 5.0], [1.0, 9.0, 9.0]]), np.array([[0.5, -1.0, 2.0], [3.0, 9.0, 9.0]])
    valid = np.array([[1, 1, 1], [1, 0, 0]], bool)
    for name, each in (
        ("mse", (scores - labels) ** 2),
        ("log_loss", np.log1p(np.exp(scores)) - np.minimum(labels, 1) * scores),
    ):
        metric = metrics.get(name)
        stream = metric.streaming()
        stream.update_state(labels, scores, valid)
        assert float(stream.result()) == pytest.approx(each[valid].mean(), rel=1e-6)
        _, counts = metric.per_list(labels, scores, valid)
        assert counts.numpy().tolist() == [3, 1]
        weights = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
        stream = metric.streaming()
        stream.update_state(labels, scores, valid, weights)
        assert float(stream.result()) == pytest.approx(np.average(each[valid], weights=weights[valid]), rel=1e-6)


def test_mse_takes_negative_labels():
    assert per_list("mse", [-2.0, 1.0], [0.0, 1.0]) == (2.0, 2.0)


def test_streaming_counts_beyond_what_float32_can():
    stream = metrics.get("mrr").streaming()
    stream.count.assign(2.0**25)
    stream.total.assign(2.0**25)
    for _ in range(3):
        stream.update_state([[1.0]], [[1.0]], [[True]])
    assert float(tf.convert_to_tensor(stream.count)) == 2**25 + 3


def test_labels_that_are_counts_are_refused_by_an_exponential_gain_only():
    with pytest.raises(ValueError, match="ndcg@5 uses the gain 2\\^label - 1, but a label is 250"):
        metrics.get("ndcg@5").validate(np.array([250.0]))
    metrics.get("ndcg@5", gain="linear").validate(np.array([250.0]))
    metrics.get("mse").validate(np.array([250.0]))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ndcg", {"gain": "log"}, "gain must be one of exp2, linear"),
        ("ndcg", {"empty": "two"}, "empty must be one of skip, zero, one, not 'two'"),
        ("ndcg", {"k": 0}, "k must be a whole number >= 1"),
        ("ndcg", {"k": 2.5}, "k must be a whole number >= 1"),
        ("ndcg", {"mixed_only": True, "empty": "zero"}, "mixed_only leaves out the lists"),
        ("mrr", {"k": -1}, "mrr: k must be a whole number"),
        ("map", {"empty": None}, "empty must be one of"),
        ("auc", {"bins": 1}, "bins must be 2 or more"),
    ],
)
def test_a_senseless_option_is_an_error(name, options, message):
    with pytest.raises(ValueError, match=message):
        metrics.get(name, **options)
