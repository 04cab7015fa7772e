"""Inverse-propensity weights: clicks that depend on the place count as if they did not."""

import numpy as np
import pytest

from tfmtl2r import Dense, Schema, Task
from tfmtl2r._backend import tf
from tfmtl2r.batch import Batch
from tfmtl2r.data.lists import Lists
from tfmtl2r.data.pipeline import batches
from tfmtl2r.data.propensity import click_ratios, power_law, with_click_weights
from tfmtl2r.training.objectives import TaskLosses
from tfmtl2r.training.replicas import Replicas

LENGTH = 6
SESSIONS = 40_000
WORTH = np.array([0.30, 0.25, 0.20, 0.12, 0.08, 0.05])
"""Chance of each item to be the one that a user wants."""


def sessions(rng, order, eta=1.0):
    """Logged lists: one item is wanted, and clicked if its place is looked at."""
    items = np.stack([order(rng) for _ in range(SESSIONS)])
    wanted = rng.choice(LENGTH, size=SESSIONS, p=WORTH)
    looked = rng.random((SESSIONS, LENGTH)) < np.arange(1, LENGTH + 1) ** -eta
    clicks = (items == wanted[:, None]) & looked
    places = np.tile(np.arange(1, LENGTH + 1), SESSIONS)
    columns = {"item": items.ravel(), "click": clicks.ravel().astype(int), "position": places}
    return Lists(columns, offsets=np.arange(0, SESSIONS * LENGTH + 1, LENGTH))


def badly_ranked(rng):
    """An old ranker that puts the wanted last, more often than not."""
    return np.argsort(-1.5 * np.arange(LENGTH) - rng.gumbel(size=LENGTH))


@pytest.fixture(scope="module")
def logged():
    return sessions(np.random.default_rng(5), badly_ranked)


def test_power_law():
    np.testing.assert_allclose(power_law(4, eta=2.0), [1, 1 / 4, 1 / 9, 1 / 16])
    np.testing.assert_array_equal(power_law(3, eta=0.0), 1.0)


def test_click_ratios_find_the_propensities_of_randomised_lists():
    lists = sessions(np.random.default_rng(3), lambda rng: rng.permutation(LENGTH), eta=0.7)
    np.testing.assert_allclose(click_ratios(lists, "click", "position"), power_law(LENGTH, 0.7), atol=0.05)
    np.testing.assert_array_equal(click_ratios(lists, "click"), click_ratios(lists, "click", "position"))


def test_weighted_clicks_give_what_items_are_worth(logged):
    """Unbiased: sums of weighted clicks per item are its chance to be wanted; plain sums hardly tell items apart."""
    weighted = with_click_weights(logged, "click", power_law(LENGTH), position="position")
    clicks, items = weighted.columns["click"], weighted.columns["item"]
    plain = np.bincount(items, clicks) / SESSIONS
    fair = np.bincount(items, clicks * weighted.columns["click_weight"]) / SESSIONS
    np.testing.assert_allclose(fair, WORTH, atol=0.015)
    assert plain[0] < 1.5 * plain[5], "six times as good, and hardly clicked more often"
    assert (weighted.columns["click_weight"][clicks == 0] == 1).all()


def test_the_loss_is_the_one_of_unbiased_clicks(logged):
    """Through the pipeline and the engine's losses: the loss on what items are worth, for any scores."""
    weighted = with_click_weights(logged, "click", power_law(LENGTH))
    task = Task("click", kind="binary", loss="softmax", metrics=())
    losses = TaskLosses([task], has_lists=True)
    ratios = {}
    for name, weights in (("weighted", {"click": "click_weight"}), ("plain", None)):
        data = batches(weighted, [task], Schema([Dense("item")]), batch_size=SESSIONS, propensity_weights=weights)
        batch = Batch.of(next(iter(data)), Schema([Dense("item")]))
        items = tf.cast(batch.features["item"], tf.int32)
        ratios[name] = []
        for scores in ([3.0, 2.0, 1.0, 0.0, -1.0, -2.0], [-2.0, -1.0, 0.0, 1.0, 2.0, 3.0]):
            given = {"click": tf.gather(tf.constant(scores), items)}
            value = losses(batch, given, Replicas())
            true = -np.sum(WORTH * (np.array(scores) - np.log(np.sum(np.exp(scores)))))
            ratios[name].append(float(value.total[0] * value.count[0]) / SESSIONS / true)
    np.testing.assert_allclose(ratios["weighted"], 1.0, atol=0.03)
    assert abs(ratios["plain"][0] / ratios["plain"][1] - 1.0) > 0.2


def test_clipping_and_columns():
    lists = Lists({"click": np.array([1.0, 1.0, 0.0, -1.0, np.nan])}, offsets=np.array([0, 5]))
    weights = with_click_weights(lists, "click", [0.5, 0.0, 0.1, 0.1, 0.1], clip=4.0, column="w").columns["w"]
    np.testing.assert_array_equal(weights, np.float32([2, 4, 1, 1, 1]))
    assert weights.dtype == np.float32
    rows = Lists({"click": np.array([1, 1]), "place": np.array([3.0, 1.0])})
    weights = with_click_weights(rows, "click", power_law(3), position="place", clip=None).columns["click_weight"]
    np.testing.assert_allclose(weights, [3, 1])


def test_missing_clicks_do_not_count():
    lists = Lists({"click": np.array([1, -1, 0, 1])}, offsets=np.array([0, 2, 4]))
    np.testing.assert_array_equal(click_ratios(lists, "click"), [1.0, 2.0])


def test_what_does_not_fit():
    lists = Lists({"click": np.array([0, 1]), "place": np.array([1.0, 1.5])}, offsets=np.array([0, 2]))
    rows = Lists({"click": np.array([0, 1])})
    for call, message in [
        (lambda: power_law(0), "places must be at least 1"),
        (lambda: power_law(3, eta=-1.0), "eta must be a finite number"),
        (lambda: click_ratios(lists, "click", "place"), "places are whole numbers from 1, got 1.5"),
        (lambda: click_ratios(lists, "clicks"), "did you mean 'click'"),
        (lambda: click_ratios(rows, "click"), "plain rows have no places"),
        (lambda: click_ratios(lists, "click"), "has no click at place 1"),
        (lambda: click_ratios(Lists({"click": [1], "p": [2]}), "click", "p"), "was shown at place 1"),
        (lambda: with_click_weights(lists, "click", power_law(1)), "place 2, but there are propensities for 1"),
        (lambda: with_click_weights(lists, "click", [1.0, 0.0], clip=None), "whose propensity is 0"),
        (lambda: with_click_weights(lists, "click", [1.0, np.nan]), "propensities must be finite"),
        (lambda: with_click_weights(lists, "click", power_law(2), clip=0.5), "clip must be at least 1"),
        (lambda: with_click_weights(lists, "click", power_law(2), column="place"), "a column 'place' already"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
