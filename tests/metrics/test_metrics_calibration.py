"""Metrics of calibration: golden values, scikit-learn, streams, what a calibrated model shows, and wrong input."""

import numpy as np
import pytest

from tfmtl2r import metrics

NAN = float("nan")
P4, Y4, W4 = [0.9, 0.2, 0.6, 0.1], [1, 0, 1, 0], [1, 2, 1, 0.5]
P10 = [0.05, 0.12, 0.2, 0.2, 0.2, 0.35, 0.5, 0.62, 0.8, 1]
Y10 = [0, 0, 1, 0, 0, 0, 1, 1, 1, 1]


def streamed(metric, labels, probabilities, weights=None, parts=1):
    stream = metric.streaming()
    for places in np.array_split(np.arange(len(labels)), parts):
        each = None if weights is None else np.asarray(weights)[None, places]
        stream.update_state(np.asarray(labels, float)[None, places], np.asarray(probabilities, float)[None, places],
                            np.ones((1, len(places)), bool), each)
    return float(stream.result())


@pytest.mark.parametrize(("name", "options", "plain", "weighted"), [
    ("normalised_entropy", {}, 0.340724969, 0.360736171),
    ("calibration_ratio", {}, 0.9, 0.975),
    ("ece", {"bins": 2}, 0.2, 0.211111111),
    ("ece", {"bins": 2, "by": "width"}, 0.2, 0.211111111),
    ("ece", {"bins": 2, "norm": "l2"}, 0.206155281, 0.213957420),
    ("ece", {"bins": 2, "norm": "max"}, 0.25, 0.25),
])
def test_golden_values(name, options, plain, weighted):
    metric = metrics.get(name, **options)
    for weights, expected in ((None, plain), (W4, weighted)):
        assert metric.exact(Y4, P4, weights) == pytest.approx(expected, abs=1e-9)
        assert streamed(metric, Y4, P4, weights) == pytest.approx(expected, rel=1e-6)
        missing = [*Y4, NAN, -1]
        more = None if weights is None else [*weights, 3, 3]
        assert metric.exact(missing, [*P4, 0.3, 0.3], more) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("options", "expected"), [
    ({"by": "width"}, 0.166), ({"by": "width", "closed": "left"}, 0.13), ({}, 0.2),
])
def test_edges_and_ties_decide_the_bins(options, expected):
    metric = metrics.get("ece", bins=5, **options)
    assert metric.exact(Y10, P10) == pytest.approx(expected, abs=1e-9)
    for parts in (1, 3):
        assert streamed(metric, Y10, P10, parts=parts) == pytest.approx(expected, rel=1e-6)
    order = np.random.default_rng(0).permutation(10)
    assert metric.exact(np.array(Y10)[order], np.array(P10)[order]) == pytest.approx(expected, abs=1e-9)
    assert metrics.get("normalised_entropy").exact(Y10, P10) == pytest.approx(0.585728579, abs=2e-7)


def brute(labels, p, weights, bins):
    """Equal mass in plain loops, as the definition reads."""
    order, seen, place = np.argsort(p, kind="stable"), 0.0, {}
    sums = np.zeros((bins, 3))
    for i in order:
        seen += weights[i]
        bin_ = place.setdefault(p[i], min(int(bins * ((seen - weights[i] / 2) / weights.sum())), bins - 1))
        sums[bin_] += weights[i], weights[i] * labels[i], weights[i] * p[i]
    return np.abs(sums[:, 1] - sums[:, 2]).sum() / sums[:, 0].sum()


@pytest.mark.parametrize("digits", [1, 2, 9])
def test_equal_mass_is_the_definition_with_ties_and_weights(digits, rng):
    p = np.round(rng.random(300), digits)
    labels, weights = (rng.random(300) < p).astype(float), rng.integers(1, 5, 300).astype(float)
    metric = metrics.get("ece")
    assert (metric.bins, metric.by) == (10, "mass")
    assert metric.exact(labels, p, weights) == pytest.approx(brute(labels, p, weights, 10), abs=1e-12)
    assert streamed(metric, labels, p, weights, parts=7) == pytest.approx(metric.exact(labels, p, weights), rel=1e-5)


def test_a_bounded_summary_stays_near_the_exact_error(rng):
    p = rng.beta(2, 8, 20_000)
    labels = (rng.random(p.size) < np.sqrt(p)).astype(float)
    for by in ("mass", "width"):
        metric = metrics.get("ece", by=by)
        assert streamed(metric, labels, p, parts=10) == pytest.approx(metric.exact(labels, p), rel=1e-3)


@pytest.mark.parametrize(("number", "analytic"), [(200, 0.094984), (2_000, 0.029536), (20_000, 0.009364)])
def test_a_calibrated_model_has_an_error_that_its_size_explains(number, analytic, rng):
    metric = metrics.get("ece", bins=20)
    p = rng.beta(2, 8, number)
    expected = metric.if_calibrated().exact(np.zeros(number), p)
    assert expected == pytest.approx(analytic, rel=0.05)
    draws = [metric.exact(rng.random(number) < p, p) for _ in range(20)]
    assert np.mean(draws) == pytest.approx(expected, abs=4 * np.std(draws) / np.sqrt(20))
    weights = np.tile([1.0, 3.0], number // 2)
    weighted = metric.if_calibrated().exact(np.zeros(number), p, weights)
    draws = [metric.exact(rng.random(number) < p, p, weights) for _ in range(20)]
    assert np.mean(draws) == pytest.approx(weighted, abs=4 * np.std(draws) / np.sqrt(20))
    assert weighted > expected  # fewer effective items
    entropy = metrics.get("normalised_entropy")
    found = entropy.exact(rng.random(number) < p, p)
    assert entropy.if_calibrated().exact(np.zeros(number), p) == pytest.approx(found, abs=3 / np.sqrt(number))


def test_they_are_those_of_scikit_learn(rng):
    sklearn = pytest.importorskip("sklearn.metrics")
    calibration = pytest.importorskip("sklearn.calibration")
    p = rng.random(500)
    labels, weights = (rng.random(500) < p).astype(int), rng.random(500)
    rate = np.average(labels, weights=weights)
    base = sklearn.log_loss(labels, np.full(500, rate), sample_weight=weights)
    loss = sklearn.log_loss(labels, p, sample_weight=weights)
    assert metrics.get("normalised_entropy").exact(labels, p, weights) == pytest.approx(loss / base, rel=1e-6)
    observed, predicted = calibration.calibration_curve(labels, p, n_bins=10, strategy="uniform")
    shares = np.bincount((p * 10).astype(int), minlength=10) / 500
    found = metrics.get("ece", by="width").exact(labels, p)
    assert found == pytest.approx(np.sum(shares * np.abs(observed - predicted)), abs=1e-12)


def test_values_where_there_are_none_and_outside_of_probabilities():
    entropy, ratio, ece = (metrics.get(name) for name in ("normalised_entropy", "calibration_ratio", "ece"))
    assert np.isnan(entropy.exact([1, 1], [0.5, 0.5]))
    assert ratio.exact([0, 0], [0.5, 0.5]) == np.inf
    for metric in (entropy, ratio, ece):
        assert np.isnan(metric.exact([NAN, -1], [0.5, 0.5]))
        assert np.isnan(metric.exact([1, 0], [0.5, 0.5], [0, 0]))
    assert ece.exact([1.0], [1.5]) == 0.5  # y0 exp(s) may exceed 1
    assert ratio.exact([30.0, 10.0], [25.0, 25.0]) == 1.25
    expected = 16.118096 / np.log(2) / 2
    assert entropy.exact([1, 0], [0, 0]) == pytest.approx(expected, rel=1e-6)  # clipped to 1e-7
    assert metrics.get("normalised_entropy", eps=1e-15).exact([1, 0], [0, 0]) == pytest.approx(34.538776 / np.log(4))
    assert entropy.conventions()["eps"] == 1e-7


@pytest.mark.parametrize(("name", "options", "message"), [
    ("ece", {"bins": 0}, "bins must be 1 or more, not 0"),
    ("ece", {"by": "size"}, "by must be one of mass, width, not 'size'"),
    ("ece", {"norm": "l3"}, "norm must be one of l1, l2, max"),
    ("ece", {"closed": "both"}, "closed must be one of right, left"),
    ("ece", {"bins": 20, "points": 10}, "points must be 20"),
    ("normalised_entropy", {"eps": 0.5}, "eps must be above 0 and below 0.5, not 0.5"),
])
def test_a_senseless_option_is_an_error(name, options, message):
    with pytest.raises(ValueError, match=message):
        metrics.get(name, **options)
