"""Calibrators: golden values, scikit-learn, order, edges, and the table inside the graph."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmtl2r import calibrators
from tfmtl2r._backend import tf
from tfmtl2r.calibrators import NotCalibratedError
from tfmtl2r.calibrators.isotonic import pooled

S = np.array([-2, -1, -0.5, 0, 0.3, 1, 1.5, 2.5])
Y = np.array([0, 0, 1, 0, 1, 0, 1, 1.0])
ONES = np.ones(8)
W = np.array([1, 1, 2, 1, 1, 1, 1, 1.0])
PLATT = calibrators.get("platt")
FITTED = ["isotonic", "platt"]


def applied(calibrator, scores, fitted):
    return calibrator.apply(tf.constant(scores, tf.float32), tf.constant(fitted, tf.float32)).numpy()


@pytest.mark.parametrize(("weights", "a", "b"), [
    (None, 0.595073467, -0.131711755), (W, 0.528239928, 0.152529287),
])
def test_platt_golden_values(weights, a, b):
    np.testing.assert_allclose(PLATT.fit(S, Y, weights), [a, b], atol=1e-8)
    missing = np.append(S, [9.0, 9.0]), np.append(Y, [np.nan, -1.0]), None if weights is None else np.append(W, [1, 1])
    np.testing.assert_allclose(PLATT.fit(*missing), [a, b], atol=1e-8)
    # Far scores, as of a distant level: the same curve.
    far = PLATT.fit(1e5 * S + 1e8, Y, weights)
    np.testing.assert_allclose(far[0] * (1e5 * S + 1e8) + far[1], a * S + b, atol=1e-5)


def test_platt_edges():
    np.testing.assert_allclose(PLATT.fit([-1, 1], [0, 1]), [np.log(2), 0], atol=1e-9)
    fitted = PLATT.solve(np.array([-1.0, 1.0]), np.ones(2), np.ones(2))
    np.testing.assert_allclose([fitted[0], 1 / (1 + np.exp(-fitted[1]))], [0, 0.75], atol=1e-9)
    np.testing.assert_allclose(PLATT.solve(-S, Y, ONES), [-0.595073467, -0.131711755], atol=1e-8)
    assert PLATT.solve(np.full(8, 3.0), Y, ONES)[0] == 0
    for scores in (-S, np.full(8, 3.0)):
        with pytest.raises(NotCalibratedError, match="higher scores do not have more positive labels"):
            PLATT.fit(scores, Y)


@pytest.mark.parametrize("name", FITTED)
@pytest.mark.parametrize(("labels", "message"), [
    ([1.0, np.nan, -1.0], "there are 1 labels"), ([np.nan] * 3, "there are 0 labels"), ([1.0] * 3, "labels are 1"),
    ([0.0, 0.0, np.nan], "all 2 labels are 0"),
])
def test_labels_that_tell_nothing_are_refused(name, labels, message):
    with pytest.raises(NotCalibratedError, match=message):
        calibrators.get(name).fit(np.arange(3.0), labels)


def test_labels_without_weight_tell_nothing():
    with pytest.raises(NotCalibratedError, match="there are 1 labels"):
        PLATT.fit([0.0, 1.0], [0, 1], [0.0, 1.0])
    with pytest.raises(ValueError, match=r"must be \[N\], not \(2,\), \(3,\) and"):
        PLATT.fit([0.0, 1.0], [0, 1, 1])
    with pytest.raises(ValueError, match="a score is not finite"):
        PLATT.fit([0.0, np.inf], [0, 1])


@pytest.mark.parametrize(("x", "y", "w", "table"), [
    (range(1, 7), (0, 1, 0, 1, 0, 1), None, ((1, 2, 5, 6), (0, 0.5, 0.5, 1))),
    ((1, 1, 2, 3, 3, 4), (0, 1, 0, 1, 0, 1), (1, 3, 2, 1, 1, 1), ((1, 3, 4), (0.5, 0.5, 1))),
    (S, Y, None, ((-2, -1, -0.5, 1, 1.5, 2.5), (0, 0, 0.5, 0.5, 1, 1))),
    ((0, 1, 2), (1, 0.5, 0), None, ((0, 2), (0.5, 0.5))),
])
def test_isotonic_golden_tables(x, y, w, table):
    x, y = np.array(x, float), np.array(y, float)
    found = pooled(x, y, np.ones(len(x)) if w is None else np.array(w, float))
    np.testing.assert_allclose(found[0], table[0])
    np.testing.assert_allclose(found[1], table[1], atol=1e-12)


def test_isotonic_is_linear_between_points_and_constant_outside():
    isotonic = calibrators.get("isotonic", points=9)
    table = np.array([[1, 2, 5, 6], [0, 0.5, 0.5, 1]])[:, np.minimum(np.arange(9), 3)]
    found = applied(isotonic, [[0, 1.5, 3.4, 5.5, 9], [1, 2, 5, 6, -1e30]], table)
    np.testing.assert_allclose(found, [[0, 0.25, 0.5, 0.75, 1], [0, 0.5, 0.5, 1, 0]], atol=1e-6)
    clipped = isotonic.fit(np.arange(1.0, 7), [0, 1, 0, 1, 0, 1])
    assert clipped[1].min() == pytest.approx(1 / 5)
    assert clipped[1].max() == pytest.approx(4 / 5)
    np.testing.assert_array_equal(clipped[0], [1, 2, 5, 6, 6, 6, 6, 6, 6])


@settings(max_examples=20, deadline=None)
@given(data=st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 1)), min_size=2, max_size=40),
       points=st.sampled_from([2, 3, 8, 1024]))
def test_no_calibrator_turns_the_order(data, points):
    scores, labels = np.array(data, float).T
    rising = np.linspace(-7, 7, 57).astype(np.float32)
    for name in FITTED:
        calibrator = calibrators.get(name, **({"points": points} if name == "isotonic" else {}))
        try:
            fitted = calibrator.fit(scores, labels)
        except NotCalibratedError:
            continue
        found = applied(calibrator, rising, fitted)
        assert (np.diff(found) >= -1e-6).all()
        assert ((found > 0) & (found < 1)).all()


def test_they_are_those_of_scikit_learn(rng):
    isotonic = pytest.importorskip("sklearn.isotonic")
    scores = np.round(rng.normal(size=400), 2)
    labels, weights = (rng.random(400) < 1 / (1 + np.exp(-2 * scores))).astype(float), rng.random(400) + 0.1
    theirs = isotonic.IsotonicRegression(out_of_bounds="clip").fit(scores, labels, weights)
    x = np.linspace(-4, 4, 101)
    np.testing.assert_allclose(np.interp(x, *pooled(scores, labels, weights)), theirs.predict(x), atol=1e-12)
    mine = calibrators.get("isotonic")
    negatives, positives = weights @ (1 - labels), weights @ labels
    expected = np.clip(theirs.predict(x), 1 / (negatives + 2), (positives + 1) / (positives + 2))
    np.testing.assert_allclose(applied(mine, x, mine.fit(scores, labels, weights)), expected, atol=1e-4)
    from sklearn.calibration import _sigmoid_calibration

    a, b = _sigmoid_calibration(scores, labels, weights)
    np.testing.assert_allclose(PLATT.fit(scores, labels, weights), [-a, -b], atol=1e-4)


def test_a_long_table_is_cut_to_its_points(rng):
    scores = np.arange(4000.0)
    labels = np.clip(scores / 4000, 0, 1)  # soft labels: 4,000 levels
    short = calibrators.get("isotonic", points=65)
    fitted = short.fit(scores, labels)
    assert fitted.shape == (2, 65)
    np.testing.assert_allclose(applied(short, scores, fitted), labels, atol=1e-3)
    with pytest.raises(ValueError, match="points must be 2 or more, not 1"):
        calibrators.get("isotonic", points=1)


def test_every_calibrator_of_scores_alone_is_tested_here():
    alone = [name for name in calibrators.names() if name != "per_value" and calibrators.get(name).shape]
    assert alone == FITTED


def two_groups(number=3000):
    """Scores whose level differs between group 0 and group 1, and 20 items of group 2, which are like group 0."""
    random = np.random.default_rng(3)
    group = np.append(np.arange(number) % 2, [2] * 20)
    scores = random.normal(size=len(group))
    labels = (random.random(len(group)) < 1 / (1 + np.exp(1.0 - 3.0 * (group == 1) - 2 * scores))).astype(float)
    return scores, labels, group[:, None].astype(float)


@pytest.mark.parametrize("name", FITTED)
def test_each_value_has_its_own_fit_and_others_that_of_all(name):
    scores, labels, groups = two_groups()
    both = calibrators.get("per_value", columns=["g"], calibrator=name, prior=0.0)
    fitted = both.fit(scores, labels, columns=groups)
    each = calibrators.get(name)
    grid = np.linspace(-3, 3, 13)

    def of(group):
        table = tf.constant(fitted, tf.float32)
        return both.apply(tf.constant(grid, tf.float32), table, tf.constant([[group]], tf.float32)).numpy()

    for group in (0, 1, 2):
        mine = groups[:, 0] == group
        np.testing.assert_allclose(of(group), applied(each, grid, each.fit(scores[mine], labels[mine])), atol=1e-5)
    np.testing.assert_allclose(of(7), applied(each, grid, each.fit(scores, labels)), atol=1e-5)
    np.testing.assert_array_equal(of(np.nan), of(7))


@pytest.mark.parametrize("name", FITTED)
def test_the_prior_pulls_small_values_only(name):
    """20 items are nearly calibrated like all items, and 1,500 items nearly by their own."""
    scores, labels, groups = two_groups()
    each, grid = calibrators.get(name), np.linspace(-2, 2, 9).astype(np.float32)
    whole = applied(each, grid, each.fit(scores, labels))
    found = {}
    for prior in (0.0, 100.0):
        both = calibrators.get("per_value", columns=["g"], calibrator=name, prior=prior)
        table = tf.constant(both.fit(scores, labels, columns=groups), tf.float32)
        found[prior] = [both.apply(grid, table, tf.constant([[g]], tf.float32)).numpy() for g in (1.0, 2.0)]
    (large, small), (pulled_large, pulled_small) = found[0.0], found[100.0]
    assert np.abs(pulled_large - large).mean() < 0.1 * np.abs(whole - large).mean()
    assert np.abs(pulled_small - whole).mean() < 0.5 * np.abs(small - whole).mean()


def test_only_the_most_frequent_values_have_a_fit_of_their_own():
    scores, labels, groups = two_groups()
    fitted = calibrators.get("per_value", columns=["g"], most=1).fit(scores, labels, columns=groups)
    assert fitted[1, 0] == 0
    assert fitted.shape == (2, 3)
    labels[groups[:, 0] == 1] = 1.0  # its own labels tell nothing, but with the prior they do
    fitted = calibrators.get("per_value", columns=["g"], prior=0).fit(scores, labels, columns=groups)
    assert sorted(fitted[np.isfinite(fitted[:, 0]), 0]) == [0, 2]
    fitted = calibrators.get("per_value", columns=["g"]).fit(scores, labels, columns=groups)
    assert sorted(fitted[np.isfinite(fitted[:, 0]), 0]) == [0, 1, 2]


def test_two_columns_are_a_combination_of_values():
    scores, labels, groups = two_groups(400)
    pair = np.concatenate([groups % 2, groups], axis=1)
    both = calibrators.get("per_value", columns=("parity", "g"))
    table = tf.constant(both.fit(scores, labels, columns=pair), tf.float32)
    single = calibrators.get("per_value", columns=["g"])
    numbers = tf.constant(single.fit(scores, labels, columns=groups), tf.float32)
    scores = tf.constant(scores, tf.float32)
    expected = single.apply(scores, numbers, tf.constant(groups, tf.float32))
    np.testing.assert_allclose(both.apply(scores, table, tf.constant(pair, tf.float32)), expected, atol=1e-6)
    new = both.apply(scores, table, tf.constant([[1.0, 0.0]]))
    np.testing.assert_allclose(new, both.apply(scores, table, tf.constant([[9.0, 9.0]])))


class Doubled(calibrators.Calibrator):
    """A calibrator that only knows how to apply one fit."""

    def apply(self, scores, fitted, columns=None):
        return scores * fitted[0]


def test_a_calibrator_of_ones_own_needs_no_rows():
    found = Doubled().apply_rows(tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.constant([[2.0], [10.0]]),
                                 tf.constant([[0, 1], [1, 0]]))
    np.testing.assert_array_equal(found, [[2, 20], [30, 8]])


@pytest.mark.parametrize(("options", "message"), [
    ({"columns": []}, "needs columns"), ({"columns": ["g"], "prior": -1}, "prior = -1"),
    ({"columns": ["g"], "most": 0}, "most = 0"), ({"columns": ["g"], "calibrator": "none"}, "'none' is no calibrator"),
    ({"columns": ["g"], "calibrator": {"name": "per_value", "columns": ["h"]}}, "is no calibrator of a value"),
])
def test_wrong_options_of_per_value(options, message):
    with pytest.raises(ValueError, match=message):
        calibrators.get("per_value", **options)
    with pytest.raises(ValueError, match=r"columns must be \[N, 1\], not \(2, 2\)"):
        calibrators.get("per_value", columns=["g"]).fit([0.0, 1.0], [0, 1], columns=np.zeros((2, 2)))
