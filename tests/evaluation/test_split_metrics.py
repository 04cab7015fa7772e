"""Per-list evaluation and the paired bootstrap."""

import dataclasses
import itertools

import numpy as np
import pytest

from tfmtl2r import Task
from tfmtl2r.data import Lists
from tfmtl2r.evaluation.paired_tests import bootstrap
from tfmtl2r.evaluation.split_metrics import evaluate, per_list_arrays


@pytest.fixture
def lists(rng):
    sizes = rng.integers(1, 9, 700)
    columns = {"click": (rng.random(sizes.sum()) < 0.3).astype(np.float32), "price": rng.normal(size=sizes.sum())}
    return Lists(columns, offsets=np.r_[0, np.cumsum(sizes)])


def test_values_are_those_of_each_list_on_its_own(lists, rng):
    scores = rng.normal(size=lists.num_items)
    click = evaluate({"click": scores}, lists, [Task("click", kind="binary")])["click"]
    by_hand = []
    for start, end in zip(lists.offsets[:-1], lists.offsets[1:], strict=True):
        labels = lists.columns["click"][start:end][np.argsort(-scores[start:end])]
        discounts = 1 / np.log2(np.arange(len(labels)) + 2)
        ideal = (np.sort(labels)[::-1] * discounts)[:5].sum()
        by_hand.append((labels * discounts)[:5].sum() / ideal if ideal else np.nan)
    np.testing.assert_allclose(click["ndcg@5"].per_list, by_hand, rtol=1e-5)
    np.testing.assert_allclose(click["ndcg@5"].value, np.nanmean(by_hand), rtol=1e-5)
    assert click["ndcg@5"].num_lists == np.isfinite(by_hand).sum()
    assert click["ndcg@5"].conventions["empty"] == "skip"
    positive, negative = scores[lists.columns["click"] > 0], scores[lists.columns["click"] == 0]
    np.testing.assert_allclose(click["auc"].value, (positive[:, None] > negative).mean(), rtol=1e-9)


def test_plain_rows_and_means_over_items(rng):
    rows = Lists({"price": rng.normal(size=1300)})
    scores = rng.normal(size=1300)
    results = evaluate({"price": scores}, rows, [Task("price", kind="regression")])
    np.testing.assert_allclose(results["price"]["mse"].value, ((scores - rows.columns["price"]) ** 2).mean(), rtol=1e-5)
    lists = Lists(rows.columns, offsets=np.array([0, 1, 300, 1300]))
    grouped = evaluate({"price": scores}, lists, [Task("price", kind="regression")])
    np.testing.assert_allclose(grouped["price"]["mse"].value, results["price"]["mse"].value, rtol=1e-5)


@pytest.mark.parametrize("metric", ["mse", {"name": "grouped_auc", "weighted": True}, "ndcg@5"])
def test_the_mean_difference_of_lists_is_the_difference_of_the_metric(metric):
    """Better on few long lists, worse on many short ones: a plain mean over lists has the other sign."""
    rng = np.random.default_rng(0)
    sizes = np.array([40] * 5 + [2] * 20)
    labels = (rng.random(sizes.sum()) < 0.5).astype(np.float32)
    labels[np.cumsum(sizes) - sizes], labels[np.cumsum(sizes) - 1] = 1, 0
    lists = Lists({"click": labels}, offsets=np.r_[0, np.cumsum(sizes)])
    theirs = 0.5 + 0.2 * rng.normal(size=len(labels))
    ours = theirs + np.where(np.repeat(sizes, sizes) > 2, 0.3, -0.6) * (labels - 0.5)
    task = Task("click", kind="binary", metrics=(metric,))
    ours, theirs = (next(iter(evaluate({"click": s}, lists, [task])["click"].values())) for s in (ours, theirs))
    mean, low, high = bootstrap(ours.per_list, theirs.per_list, weights=ours.counts)
    np.testing.assert_allclose(mean, ours.value - theirs.value, atol=1e-6)
    assert low < mean < high
    plain = bootstrap(ours.per_list, theirs.per_list)[0]
    if metric == "ndcg@5":
        assert plain == mean
        assert set(ours.counts.tolist()) == {1.0}
    else:
        assert plain * mean < 0
    stored = per_list_arrays("test", {"click": {"m": ours}})
    np.testing.assert_array_equal(stored["test/click/m"], ours.per_list)
    np.testing.assert_array_equal(stored["counts/test/click/m"], ours.counts)
    with pytest.raises(ValueError, match="counts a finite number of times >= 0"):
        bootstrap(ours.per_list, theirs.per_list, weights=-ours.counts)


def test_metrics_over_all_items_have_nothing_per_list(lists):
    found = evaluate({"click": np.zeros(lists.num_items)}, lists, [Task("click", kind="binary")])
    assert set(per_list_arrays("vali", found)) == {"vali/click/ndcg@5", "counts/vali/click/ndcg@5"}


def test_bad_scores_are_named(lists):
    task = [Task("click", kind="binary")]
    with pytest.raises(ValueError, match=f"expected {lists.num_items} scores, one per item"):
        evaluate({"click": np.zeros(3)}, lists, task)
    scores = np.zeros(lists.num_items)
    scores[17] = np.nan
    with pytest.raises(ValueError, match="'click': item 17 has no finite score"):
        evaluate({"click": scores}, lists, task)


class TestBootstrap:
    def test_interval_covers_the_true_difference_as_often_as_it_says(self):
        rng = np.random.default_rng(0)
        hits = 0
        for trial in range(200):
            theirs = rng.normal(size=80)
            ours = theirs + 0.3 + rng.normal(size=80)
            _, low, high = bootstrap(ours, theirs, level=0.9, draws=300, seed=trial)
            hits += low <= 0.3 <= high
        assert 0.82 <= hits / 200 <= 0.96

    def test_pairing_removes_what_lists_have_in_common(self):
        rng = np.random.default_rng(0)
        theirs = 100 * rng.normal(size=200)
        mean, low, high = bootstrap(theirs + 1 + 0.01 * rng.normal(size=200), theirs)
        assert 0.99 < low <= mean <= high < 1.01

    def test_lists_that_do_not_count_are_left_out(self):
        assert bootstrap(np.array([1.0, np.nan, 2.0]), np.array([0.5, 0.0, np.nan]))[0] == 0.5
        with pytest.raises(ValueError, match="no list counts"):
            bootstrap(np.array([np.nan]), np.array([1.0]))
        with pytest.raises(ValueError, match="same lists"):
            bootstrap(np.zeros(2), np.zeros(3))


def test_weighted_clicks_estimate_what_a_metric_of_relevance_would_be():
    """Over all patterns of clicks, each with its probability: exactly the metric of the relevant items."""
    relevance, theta = np.array([0.7, 0.2, 0.5, 0.9]), np.array([1, 0.5, 0.25, 0.1])
    patterns = np.array(list(itertools.product([0, 1], repeat=4)))
    chances = np.prod(np.where(patterns, relevance * theta, 1 - relevance * theta), axis=1)
    columns = {"click": patterns.ravel(), "inverse": np.tile(1 / theta, 16)}
    lists = Lists(columns, offsets=np.arange(0, 65, 4))
    scores = {"click": np.tile([1.0, 0.0, -1.0, 0.5], 16)}
    task = Task("click", kind="binary", metrics=("ndcg@3", "mrr", "auc"))
    plain = evaluate(scores, lists, [task])["click"]
    found = evaluate(scores, lists, [task], propensity_weights={"click": "inverse"})["click"]
    assert list(found) == ["ndcg@3", "mrr", "auc", "ips_ndcg@3", "snips_ndcg@3", "ips_mrr", "snips_mrr"]
    assert all(found[name].value == plain[name].value for name in plain)
    for metric, worth in (("ndcg@3", [1, 1 / 2, 0, 1 / np.log2(3)]), ("mrr", [1, 1 / 3, 1 / 4, 1 / 2])):
        ips, snips = found[f"ips_{metric}"], found[f"snips_{metric}"]
        np.testing.assert_allclose(chances @ ips.per_list, relevance @ worth, rtol=1e-6)
        weights = patterns / theta
        np.testing.assert_allclose(snips.value, (weights @ worth).sum() / weights.sum(), rtol=1e-6)
        np.testing.assert_allclose(ips.value, (weights @ worth).mean(), rtol=1e-6)
        assert (ips.num_lists, snips.num_lists) == (16, 15)
    own = dataclasses.replace(task, propensity_column="inverse")
    assert evaluate(scores, lists, [own])["click"].keys() == found.keys()
    assert evaluate(scores, Lists(columns), [dataclasses.replace(own, metrics=("auc",))])["click"].keys() == {"auc"}
    clipped = evaluate(scores, lists, [task], propensity_weights={"click": "inverse"}, tau=0.2)["click"]
    expected = (np.minimum(patterns / theta, 5) @ [1, 1 / 2, 0, 1 / np.log2(3)]).mean()
    np.testing.assert_allclose(clipped["ips_ndcg@3"].value, expected, rtol=1e-6)


def test_estimates_that_have_no_meaning_are_refused():
    columns = {"click": np.array([1, 0, -1]), "inverse": np.array([1.0, 2.0, 3.0])}
    lists, scores = Lists(columns, offsets=np.array([0, 2, 3])), {"click": np.zeros(3)}
    task = Task("click", kind="binary", metrics=("mrr",))
    given = {"propensity_weights": {"click": "inverse"}}
    assert evaluate(scores, lists, [task], **given)["click"]["ips_mrr"].num_lists == 1  # the second has no label
    for data, goal, options, message in [
        (Lists(columns), task, {}, "the task is binary, and the data are plain rows"),
        (lists, Task("click", kind="graded", metrics=("mrr",)), {}, "the task is graded"),
        (lists, task, {"tau": 0.0}, r"tau must lie in \(0, 1\]"),
        (lists, task, {"propensity_weights": {"click": "inverze"}}, "did you mean 'inverse'"),
    ]:
        with pytest.raises(ValueError, match=message):
            evaluate(scores, data, [goal], **{**given, **options})
