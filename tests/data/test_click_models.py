"""Click models: probabilities, likelihoods, estimates and simulated clicks agree with each other and the papers."""

import itertools

import numpy as np
import pytest

from tfmtl2r import Dense, MultiTaskRanker, Schema, Task
from tfmtl2r._backend import keras
from tfmtl2r.data import batches, power_law, with_click_weights
from tfmtl2r.data.click_models import (
    Cascade,
    DynamicBayes,
    PositionBased,
    TrustBiased,
    attractions,
    fit_cascade,
    fit_position_based,
    simulate_clicks,
)
from tfmtl2r.data.lists import Lists
from tfmtl2r.evaluation import evaluate

ITEMS = np.array([[0, 1, 2], [1, 0, 2], [0, 2, 1], [2, 1, 0], [1, 2, 0]])
CLICKS = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 0]])
MODELS = [PositionBased(power_law(4, 0.7)), Cascade(), DynamicBayes(np.array([0.6, 0.4, 0.5, 0.8]), 0.9),
          TrustBiased(power_law(4, 0.7), (0.98, 0.9, 0.8, 0.7), (0.65, 0.45, 0.3, 0.2))]


def nll(model, clicks, attraction):
    return -model.log_likelihood(np.array([clicks], float), np.array([attraction]))[0]


def test_golden_likelihoods():
    gamma = [0.6, 0.4, 0.8]
    np.testing.assert_allclose(nll(PositionBased((1, 0.5, 0.25)), [1, 0, 1], gamma), 2.343407088, atol=1e-8)
    np.testing.assert_allclose(nll(PositionBased((0.9, 0.5, 0.25)), [1, 0, 1], gamma), 2.448767603, atol=1e-8)
    gamma = [0.3, 0.5, 0.2]
    np.testing.assert_allclose(nll(Cascade(), [0, 1, np.nan], gamma), 1.049822124, atol=1e-8)
    np.testing.assert_allclose(nll(Cascade(), [0, 0, 0], gamma), 1.272965676, atol=1e-8)
    gamma = 1 / (1 + np.exp(-np.array([1.0, 0.0, -1.0])))
    np.testing.assert_allclose(nll(Cascade(), [0, 1, np.nan], gamma), 2.006408868, atol=1e-8)
    np.testing.assert_allclose(nll(Cascade(), [0, 0, 0], gamma), 2.319670556, atol=1e-8)
    assert nll(Cascade(), [1, 1, 0], gamma) == np.inf, "a cascade has one click"


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_chances_likelihood_and_simulation_are_one_model(model, rng):
    """Likelihoods of all patterns sum to 1, and their clicks, as well as simulated ones, to the chances."""
    attraction = np.array([0.3, 0.5, 0.2, 0.7])
    patterns = np.array(list(itertools.product([0.0, 1.0], repeat=4)))
    each = np.exp(model.log_likelihood(patterns, np.tile(attraction, (16, 1))))
    np.testing.assert_allclose(each.sum(), 1, atol=1e-9)
    chances = model.chances(attraction[None])[0]
    np.testing.assert_allclose(each @ patterns, chances, atol=1e-9)
    drawn = model.simulate(np.tile(attraction, (40_000, 1)), rng)
    np.testing.assert_allclose(np.nan_to_num(drawn).mean(axis=0), chances, atol=0.01)


@pytest.mark.parametrize("model", [MODELS[0], MODELS[1], DynamicBayes(0.6, 0.8)])
def test_padding_changes_no_likelihood(model):
    clicks, attraction = np.array([[0, 1, 0], [0, 0, 1.0]]), np.array([[0.3, 0.5, 0.2], [0.1, 0.9, 0.4]])
    padded = model.log_likelihood(np.c_[clicks, [1, 0]], np.c_[attraction, [0.5, 0.9]], np.arange(4) < [[3], [3]])
    np.testing.assert_allclose(padded, model.log_likelihood(clicks, attraction))


def test_trust_is_corrected():
    """The expectation of corrected clicks is the attraction."""
    model, attraction = TrustBiased((1, 0.6, 0.3), (0.98, 0.9, 0.8), (0.65, 0.45, 0.3)), np.array([0.7, 0.2, 0.5])
    np.testing.assert_allclose(model.chances(attraction), [0.881, 0.324, 0.165])
    np.testing.assert_allclose(model.chances(np.zeros(3)), [0.65, 0.27, 0.09])
    np.testing.assert_allclose(model.chances(np.ones(3)) - model.chances(np.zeros(3)), [0.33, 0.27, 0.15])
    np.testing.assert_allclose(model.corrected(np.array([1, 0, 1])), [1.060606061, -1, 6.066666667])
    np.testing.assert_allclose(model.corrected(model.chances(attraction)), attraction)
    with pytest.raises(ValueError, match="one probability per place, and trusted the higher one"):
        TrustBiased((1, 0.6), (0.5, 0.4), (0.5, 0.3))


def test_a_cascade_ends_with_its_click(rng):
    """Nobody saw the items behind: they are missing, and not negative."""
    clicks = Cascade().simulate(np.full([5000, 4], 0.4), rng)
    first = np.where((clicks == 1).any(axis=1), np.nanargmax(clicks, axis=1), 4)
    np.testing.assert_array_equal(np.isnan(clicks), np.arange(4) > first[:, None])
    assert np.nansum(clicks, axis=1).max() == 1
    _, found = fit_cascade(np.tile(np.arange(4), (5000, 1)), clicks)
    np.testing.assert_allclose(found, 0.4, atol=0.04)
    negative = np.nan_to_num(clicks).mean(axis=0)
    assert negative[3] < 0.12, "as negatives, they would look like bad items"


def test_a_dynamic_bayes_model_without_doubts_is_the_cascade():
    np.testing.assert_array_equal(DynamicBayes(1.0, 1.0).chances(np.array([[0.3, 0.5, 0.2]])),
                                  Cascade().chances(np.array([[0.3, 0.5, 0.2]])))


@pytest.mark.parametrize(("iterations", "theta", "gamma", "loss"), [
    (0, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 10.906904819),
    (1, (0.733333333, 0.6, 0.466666667), (0.866666667, 0.466666667, 0.466666667), 7.889337845),
    (2, (0.837837838, 0.666666667, 0.411804613), (0.955223881, 0.405177905, 0.416962417), 7.049445649),
    (10, (0.998174599, 0.943496396, 0.386254302), (0.999994956, 0.242944278, 0.286560429), 6.009702427),
])  # fmt: skip
def test_em_of_five_lists(iterations, theta, gamma, loss):
    found = fit_position_based(ITEMS, CLICKS, iterations)
    np.testing.assert_allclose(found.propensities, theta, atol=1e-8)
    np.testing.assert_allclose(found.attraction, gamma, atol=1e-8)
    np.testing.assert_allclose(found.losses[-1], loss, atol=1e-8)
    assert (np.diff(found.losses) <= 1e-12).all()


def test_em_does_not_see_padding_and_missing_clicks():
    items, clicks = np.c_[ITEMS, np.full(5, 9)], np.c_[CLICKS, np.ones(5)]
    plain = fit_position_based(ITEMS, CLICKS, 3)
    for hidden in ({"valid": np.arange(4) < np.full([5, 1], 3)}, {}):
        values = clicks if hidden else np.where(np.arange(4) < 3, clicks, np.nan)
        found = fit_position_based(items, values, 3, **hidden)
        np.testing.assert_allclose(found.propensities[:3], plain.propensities)
        np.testing.assert_allclose(found.attraction[:3], plain.attraction)


def test_cascade_of_five_lists():
    np.testing.assert_allclose(fit_cascade(ITEMS, CLICKS)[1], [1, 1 / 3, 0])
    np.testing.assert_allclose(fit_cascade(ITEMS, CLICKS, prior=(1, 2))[1], [0.833333333, 0.4, 0.333333333])


def graded(rng, num_lists, length=8):
    """Lists whose grades follow two features; an old ranker looked at a third one, which says the opposite."""
    x = rng.normal(size=(num_lists, length, 2)).astype(np.float32)
    worth = x @ [1.0, -0.7] + 0.3 * rng.normal(size=(num_lists, length))
    grade = np.digitize(worth, [0.0, 0.9, 1.7])
    old = -worth + rng.normal(size=worth.shape)
    columns = {"x": x.reshape(-1, 2), "grade": grade.ravel(), "old": old.ravel()}
    return Lists(columns, offsets=np.arange(0, num_lists * length + 1, length))


def test_simulated_clicks_follow_the_old_ranker(rng):
    lists = graded(rng, 3000)
    shown = simulate_clicks(lists, "grade", PositionBased(power_law(8)), seed=3, order="old")
    again = simulate_clicks(lists, "grade", PositionBased(power_law(8)), seed=3, order="old")
    np.testing.assert_array_equal(shown.columns["click"], again.columns["click"])
    places, clicks = shown.columns["position"].reshape(-1, 8), shown.columns["click"]
    np.testing.assert_array_equal(np.argsort(places, axis=1), np.argsort(-lists.columns["old"].reshape(-1, 8), axis=1))
    worth, place = attractions(lists.columns["grade"]), places.ravel()
    rates = np.bincount(place, clicks)[1:] / np.bincount(place, worth)[1:]
    np.testing.assert_allclose(rates, power_law(8), atol=0.08)
    in_order = simulate_clicks(lists, "grade", Cascade(), column="first")
    np.testing.assert_array_equal(in_order.columns["position"], np.tile(np.arange(1, 9), 3000))
    assert np.isnan(in_order.columns["first"]).any()


def test_what_cannot_be_simulated(rng):
    lists = graded(rng, 3)
    for data, options, message in [
        (Lists(dict(lists.columns)), {}, "plain rows"), (lists, {"column": "grade"}, "has a column 'grade' already"),
        (lists, {"noise": 1.0}, r"noise must lie in \[0, 1\)"), (lists, {"order": "odl"}, "did you mean 'old'"),
    ]:
        with pytest.raises(ValueError, match=message):
            simulate_clicks(data, "grade", Cascade(), **options)
    with pytest.raises(ValueError, match="8 items, but there are propensities for 3 places"):
        simulate_clicks(lists, "grade", PositionBased(power_law(3)))


@pytest.mark.slow
def test_corrected_clicks_rank_by_relevance(rng):
    """Raw clicks teach the old ranker's order; weights and position towers both teach what the grades say."""
    train, test = graded(rng, 3000), graded(rng, 500)
    model = PositionBased(power_law(8, 1.5))
    clicks = simulate_clicks(train, "grade", model, seed=1, order="old", noise=0.05)
    clicks = with_click_weights(clicks, "click", power_law(8, 1.5), position="position", clip=None)
    task, found = Task("click", kind="binary", loss="softmax", metrics=()), {}
    for name, bias, weights in [("raw", None, {}), ("weights", None, {"click": "click_weight"}),
                                ("tower", ["position"], {})]:
        keras.utils.set_random_seed(1)
        position = [Dense("position", mean=(4.5,), variance=(5.25,))] if bias else []
        schema = Schema([Dense("x", shape=(2,)), *position])
        ranker = MultiTaskRanker({"name": "shared_bottom", "units": [8], "head_units": [], "bias_features": bias},
                                 [task], schema)
        ranker.compile(keras.optimizers.Adam(0.01), train_metrics=False)
        ranker.fit(batches(clicks, [task], schema, batch_size=100, shuffle=True, propensity_weights=weights),
                   epochs=8, verbose=0)
        scores = ranker.predict(batches(test, (), ranker.architecture.schema, batch_size=100), layout="items")
        true = Task("click", label="grade", metrics=("ndcg@5",))
        found[name] = evaluate(scores, test, [true])["click"]["ndcg@5"].value
    assert found["weights"] > found["raw"] + 0.05
    assert found["tower"] > found["raw"] + 0.05
