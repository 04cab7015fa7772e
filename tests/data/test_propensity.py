"""Inverse-propensity weights: clicks that depend on the place count as if they did not."""

import numpy as np
import pytest

from tfmtl2r import Dense, Schema, Task, losses
from tfmtl2r._backend import tf
from tfmtl2r.batch import Batch
from tfmtl2r.data.dual_propensities import dual_learning, dual_loss
from tfmtl2r.data.lists import Lists
from tfmtl2r.data.pipeline import batches
from tfmtl2r.data.propensity import (
    click_ratios,
    posteriors,
    power_law,
    regression_em,
    swap_ratios,
    with_click_weights,
)
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


S = np.array([1.0, 0.0, -1.0, 0.5])
CLICKS, THETA = np.array([0.0, 1.0, 0.0, 1.0]), np.array([1.0, 0.5, 0.25, 0.1])


def test_swapped_pairs():
    """40 clicks at place 1 and 22 at place 3 for the same pairs; other places have their own pairs."""
    shown = np.repeat([[1, 0], [0, 1]], 50, axis=0)  # item 0 at place 1 or 3, in equal numbers
    clicks = np.zeros([100, 2])
    clicks[np.flatnonzero(shown[:, 0] == 0)[:40], 0] = clicks[np.flatnonzero(shown[:, 1] == 0)[:22], 1] = 1
    lists = Lists({"click": clicks.ravel(), "item": np.where(shown == 0, 0, 7).ravel(),
                   "at": np.tile([1, 2], 100)}, offsets=np.arange(0, 201, 2))
    np.testing.assert_allclose(swap_ratios(lists, "click", "item", "at"), [1.0, 0.55])
    with pytest.raises(ValueError, match="no item with a click at place 1 was also shown at place 2"):
        swap_ratios(lists.select([50]), "click", "item", "at")


@pytest.mark.parametrize(("ids", "missing"), [
    (["a", "b"], ""), ([5, 6], -1), ([0.5, -1.0], np.nan),
    (np.array(["2024-01-01", "2024-01-02"], "M8[s]"), np.datetime64("NaT")),
])
def test_rows_without_an_id_are_no_item(ids, missing):
    """They would count as one item that is shown at all places."""
    ids = np.array(ids, object if isinstance(missing, str) else None)
    item = np.concatenate([ids, ids[::-1], np.array([missing] * 4, ids.dtype)])
    lists = Lists({"click": np.array([1.0, 1, 1, 0, 0, 1, 0, 1]), "item": item}, offsets=np.arange(0, 9, 2))
    np.testing.assert_allclose(swap_ratios(lists, "click", "item"), [1.0, 0.5])
    found = regression_em(lists, "click", ["click"], item="item", iterations=1)
    assert (found.items, found.moved) == (2, 2)
    nobody = lists.with_column("nobody", np.array([missing] * 8, ids.dtype))
    found = regression_em(nobody, "click", ["click"], item="nobody", iterations=1)
    assert (found.items, found.moved) == (0, 0)


def test_click_ratios_of_random_orders_are_ratios_of_rates():
    clicks = np.zeros([1000, 4])
    for place, rate in enumerate((120, 60, 30, 18)):
        clicks[:rate, place] = 1
    lists = Lists({"click": clicks.ravel()}, offsets=np.arange(0, 4001, 4))
    np.testing.assert_allclose(click_ratios(lists, "click"), [1, 0.5, 0.25, 0.15])


def test_one_step_of_regression_em():
    gamma = 1 / (1 + np.exp(-S))
    relevant, examined = posteriors(CLICKS, THETA, gamma)
    np.testing.assert_allclose(relevant, [0, 1, 0.216245403, 1], atol=1e-9)
    bce = (np.logaddexp(0, S) - relevant * S).sum()
    np.testing.assert_allclose(bce, 3.009992942, atol=1e-9)
    np.testing.assert_allclose(gamma - relevant, [0.731058579, -0.5, 0.052696019, -0.377540669], atol=1e-9)
    np.testing.assert_allclose(0.95 * THETA + 0.05 * examined, [1, 0.525, 0.247296932, 0.145], atol=1e-9)
    lists = Lists({"click": CLICKS}, offsets=np.array([0, 4]))
    found = regression_em(lists, "click", lambda targets: S, iterations=1, rate=0.05, start=THETA)
    np.testing.assert_allclose(found.values, [1, 0.525, 0.247296932, 0.145], atol=1e-9)
    assert (found.items, found.moved) == (4, 0)


def test_posteriors_of_a_position_based_model():
    relevant, examined = posteriors(np.array([1, 0, 1]), np.array([1, 0.5, 0.25]), np.array([0.6, 0.4, 0.8]))
    np.testing.assert_allclose([relevant, examined], [[1, 0.25, 1], [1, 0.375, 1]], atol=1e-9)


def test_regression_em_finds_propensities_in_ordinary_logs(rng):
    """An old ranker puts good items on top; its order is not the order of the features."""
    worth = rng.normal(size=(8000, 5))
    order = np.argsort(-worth - rng.normal(size=worth.shape), axis=1)
    worth, theta = np.take_along_axis(worth, order, 1), power_law(5, 0.8)
    clicks = rng.random(worth.shape) < theta / (1 + np.exp(-2 * worth + 1))
    lists = Lists({"click": clicks.ravel().astype(int), "worth": worth.ravel(), "session": np.arange(40_000) % 7},
                  offsets=np.arange(0, 40_001, 5))
    found = regression_em(lists, "click", ["worth"], iterations=60, item="session")
    np.testing.assert_allclose(found.values, theta, atol=0.06)
    assert (found.items, found.moved) == (7, 7)
    assert (np.diff(found.losses) < 1e-9).all(), "the likelihood never falls"
    ratios = click_ratios(lists, "click")
    assert np.abs(ratios - theta).max() > 0.15, "ratios of clicks confuse the places with the items there"


def test_what_regression_em_cannot_use():
    lists = Lists({"click": np.array([1, 0]), "brand": np.array(["a", "b"], object)}, offsets=np.array([0, 2]))
    for options, message in [
        ({"relevance": ["brand"]}, "column 'brand': the regression reads numbers"),
        ({"relevance": "brand"}, "must be names of columns"), ({"relevance": ["click"], "rate": 0.0}, "rate must lie"),
        ({"relevance": ["click"], "start": np.ones(3)}, "start must be 2 numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            regression_em(lists, "click", **options)
    with pytest.raises(ValueError, match="label 'click' is missing in all rows"):
        regression_em(lists.with_column("click", np.array([-1, -1])), "click", ["click"])
    with pytest.raises(ValueError, match="shown at place 2: its propensity cannot be estimated"):
        regression_em(lists.with_column("at", np.array([1, 3])), "click", ["click"], position="at")


@pytest.mark.parametrize(("tau", "value", "gradient"), [
    (None, 15.958807230, (5.687890155, 0.092457852, 0.769772225, -6.550120232)),
    (0.2, 9.725970884, (3.317935924, -0.779399587, 0.449033798, -2.987570135)),
])  # fmt: skip
def test_weighted_softmax(tau, value, gradient):
    lists = Lists({"click": CLICKS}, offsets=np.array([0, 4]))
    weights = with_click_weights(lists, "click", THETA, clip=None if tau is None else 1 / tau).columns["click_weight"]
    np.testing.assert_allclose(CLICKS * weights, [0, 2, 0, 10 if tau is None else 5])
    scores = tf.constant([S], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        loss, _ = losses.get("softmax").per_list([CLICKS], scores, tf.ones([1, 4], tf.bool),
                                                  propensity_weights=weights[None])
    count = CLICKS.sum()  # the loss of a list with several clicks is their mean
    np.testing.assert_allclose(loss * count, [value], rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(loss, scores)[0] * count, gradient, rtol=1e-5)


@pytest.mark.parametrize(("tau", "value", "gradient"), [
    (None, 1.329900603, (0.473990846, 0.007704821, 0.064147685, -0.545843353)),
    (0.2, 1.389424412, (0.473990846, -0.111342798, 0.064147685, -0.426795734)),
])  # fmt: skip
def test_self_normalised_softmax(tau, value, gradient):
    weights = np.minimum(1 / THETA, np.inf if tau is None else 1 / tau)
    scores = tf.constant([S], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        loss, weight = losses.get("normalised_softmax").per_list([CLICKS], scores, tf.ones([1, 4], tf.bool),
                                                                 propensity_weights=weights[None])
    np.testing.assert_allclose((loss[0], weight[0]), (value, (CLICKS * weights).sum()), rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(loss, scores)[0], gradient, rtol=1e-5, atol=1e-7)


def test_a_batch_is_divided_by_the_sum_of_its_weights():
    columns = {"click": np.array([0.0, 1, 0, 1, 1, 0, 0, 0]), "x": np.array([*S, .2, .1, 0, -.3]),
               "w": np.array([1, 2, 4, 10, 1, 2, 4, 10.0])}
    lists = Lists(columns, offsets=np.array([0, 4, 8]))
    task = Task("click", kind="binary", loss="snips_softmax", propensity_column="w", metrics=())
    schema = Schema([Dense("x")])
    batch = Batch.of(next(iter(batches(lists, [task], schema))), schema)
    found = TaskLosses([task], has_lists=True)(batch, {"click": batch.features["x"]}, Replicas())
    np.testing.assert_allclose(found.total, [1.320139170], rtol=1e-6)


def test_golden_losses_of_dual_learning():
    places, zero = np.array([0.0, -0.5, -1, -1.5]), np.array([0])
    for logits, others, value, gradient in (
        (S, places, 8.466329513, (2.905758385, -.579752500, .393251634, -2.719257520)),
        (places, S, 7.270533240, (1.987223250, -1.512970000, .731058579, -1.205311829)),
    ):
        found, slope = dual_loss(logits, others, CLICKS, zero, zero)
        assert found == pytest.approx(value, rel=1e-9)
        np.testing.assert_allclose(slope, gradient, rtol=1e-8)


def test_dual_learning_finds_propensities_in_ordinary_logs(rng):
    worth = 0.6 * rng.normal(size=(8000, 5))
    worth = np.take_along_axis(worth, np.argsort(-worth - 0.6 * rng.normal(size=worth.shape), axis=1), 1)
    theta = power_law(5, 0.8)
    clicks = rng.random(worth.shape) < theta * np.minimum(np.exp(worth - 1.2), 1)
    lists = Lists({"click": clicks.ravel().astype(int), "worth": worth.ravel()}, offsets=np.arange(0, 40_001, 5))
    found = dual_learning(lists, "click", ["worth"])
    np.testing.assert_allclose(found.values, theta, atol=0.05)
    assert found.moved == 0  # no two items are alike
    assert np.abs(click_ratios(lists, "click") - theta).max() > 0.15
    gone = lists.with_column("at", np.tile([2, 3, 4, 5, 6], 8000))
    for given, options, message in [
        (Lists({"click": CLICKS, "worth": S}), {}, "plain rows"), (gone, {"position": "at"}, "has no item at place 1"),
        (lists.with_column("click", np.zeros(40_000)), {}, "'click' has no click"),
    ]:
        with pytest.raises(ValueError, match=message):
            dual_learning(given, "click", ["worth"], **options)
