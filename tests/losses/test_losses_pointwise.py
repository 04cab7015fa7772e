"""Ordinal regression and the root of the mean squared error of a list."""

import numpy as np
import pytest

from tfmtl2r import losses
from tfmtl2r._backend import tf

Y = np.array([3.0, 0.0, 1.0, 2.0])
S = np.array([0.4, 1.1, -0.6, 0.2])
W = np.array([2.0, 1.0, 0.5, 3.0])


def value_and_gradient(loss, y, s, weights=None):
    scores = tf.constant([s], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        value, _ = loss.per_list([y], scores, [[True] * len(y)], None if weights is None else [weights])
    return float(value[0]), tape.gradient(value, scores)[0].numpy()


def agrees(loss, reference, weights=None):
    value, gradient = value_and_gradient(loss, Y, S, weights)
    assert value == pytest.approx(reference(S), rel=1e-5)
    slopes = [(reference(S + step) - reference(S - step)) / 2e-5 for step in 1e-5 * np.eye(4)]
    np.testing.assert_allclose(gradient, slopes, rtol=2e-4, atol=1e-6)


def ordinal(s, levels, spacing, weights):
    total = 0.0
    for label, score, weight in zip(Y, s, weights, strict=True):
        for grade in range(1, levels + 1):
            p = 1 / (1 + np.exp(-(score - spacing * (grade - 1))))
            total -= weight * (np.log(p) if label >= grade else np.log(1 - p))
    return total / len(Y)


def test_ordinal():
    for levels, spacing in ((3, 2.0), (4, 0.7)):
        loss = losses.get("ordinal", levels=levels, spacing=spacing)
        agrees(loss, lambda s, n=levels, d=spacing: ordinal(s, n, d, np.ones(4)))
        agrees(loss, lambda s, n=levels, d=spacing: ordinal(s, n, d, W / W.mean()), W)


def test_ordinal_with_one_level_is_binary_cross_entropy():
    wanted, _ = value_and_gradient(losses.get("bce"), Y, S)
    found, _ = value_and_gradient(losses.get("ordinal", levels=1), np.minimum(Y, 1), S)
    assert found == pytest.approx(wanted, rel=1e-6)


def test_the_optimal_score_of_a_grade_lies_between_its_thresholds():
    for grade in range(1, 4):
        low = value_and_gradient(losses.get("ordinal", levels=4), [grade], [2.0 * (grade - 1)])[1]
        high = value_and_gradient(losses.get("ordinal", levels=4), [grade], [2.0 * grade])[1]
        assert low < 0 < high


def test_pointwise_rmse():
    for levels in (1.0, 3.0):
        loss = losses.get("pointwise_rmse", levels=levels)
        agrees(loss, lambda s, n=levels: np.sqrt(np.mean((Y - n * s) ** 2)))
        agrees(loss, lambda s, n=levels: np.sqrt(np.average((Y - n * s) ** 2, weights=W)), W)


def test_pointwise_rmse_is_the_root_of_mse_and_takes_negative_labels():
    rmse, _ = value_and_gradient(losses.get("pointwise_rmse"), Y - 5, S)
    mse, _ = value_and_gradient(losses.get("mse"), Y - 5, S)
    assert rmse == pytest.approx(np.sqrt(mse), rel=1e-6)


def test_a_perfect_list_has_no_gradient_and_no_nan():
    value, gradient = value_and_gradient(losses.get("pointwise_rmse"), Y, Y)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lambda_loss", {"weighing": "ndcg"}, "weighing must be one of ndcg_loss1, .* not 'ndcg'"),
        ("lambda_loss", {"reduction": "max"}, "reduction must be one of mean, sum, not 'max'"),
        ("lambda_loss", {"k": 0}, "k must be above 0"),
        ("lambda_loss", {"mu": -1.0}, "mu must be above 0"),
        ("ranknet", {"weighing": "dcg"}, "weighing must be one of None, label_diff, squared_label_diff, not 'dcg'"),
        ("ranknet", {"temperature": 0.0}, "temperature must be above 0"),
        ("pwiser", {"click_margin": 0.6}, "0 < click_margin <= none_margin < 1, not 0.6 and 0.5"),
        ("pwiser", {"none_margin": 1.0}, "none_margin < 1"),
        ("pwiser", {"bce": -1.0}, "bce must be >= 0"),
        ("ordinal", {"levels": 0}, "levels must be above 0"),
        ("ordinal", {"spacing": 0.0}, "spacing must be above 0"),
        ("pointwise_rmse", {"levels": 0.0}, "levels must be above 0"),
        ("neural_ndcg", {"gain": "log"}, "NeuralNDCG: gain must be one of exp2, linear, not 'log'"),
        ("neural_ndcg_transposed", {"iterations": 0}, "NeuralNDCGTransposed: iterations must be above 0"),
    ],
)
def test_a_senseless_option_of_these_losses_is_an_error(name, options, message):
    with pytest.raises(ValueError, match=message):
        losses.get(name, **options)


def test_labels_that_a_loss_cannot_tell_apart_are_refused():
    with pytest.raises(ValueError, match="PWiseR met a label of 3, but labels are 0"):
        losses.get("pwiser").validate(np.array([2.0, 3.0, np.nan]))
    with pytest.raises(ValueError, match="Ordinal met a label of 5, but levels is 4; set it to the highest grade"):
        losses.get("ordinal").validate(np.array([5.0]))
    losses.get("ordinal", levels=5).validate(np.array([5.0]))


def test_counts_are_refused_where_these_losses_have_an_exponential_gain():
    counts = np.array([99.0])
    for name, options in (("lambda_loss", {"weighing": "label_diff"}), ("neural_ndcg", {"gain": "linear"})):
        losses.get(name, **options).validate(counts)
        with pytest.raises(ValueError, match="uses the gain"):
            losses.get(name).validate(counts)


SCORES = np.array([-40.0, -1.5, 0.0, 2.0, 40.0], np.float32)
LINKS = {
    "bce": lambda s: 1 / (1 + np.exp(-s)), "mse": lambda s: s, "pointwise_rmse": lambda s: s,
    "rcr": lambda s: 1 / (1 + np.exp(-s)), "calibrated_softmax": np.exp, "weighted_logistic": np.exp,
}


@pytest.mark.parametrize("name", losses.names())
def test_a_trained_score_has_a_value_exactly_where_the_loss_fixes_its_level(name):
    value = losses.get(name).value(tf.constant(SCORES))
    if name in LINKS:
        np.testing.assert_allclose(value, LINKS[name](SCORES), rtol=1e-6)
    else:
        assert value is None


def test_links_with_options():
    one, two = (losses.get("ordinal", levels=levels) for levels in (1, 2))
    np.testing.assert_allclose(one.value(tf.constant(SCORES)), LINKS["bce"](SCORES), rtol=1e-6)
    assert two.value(tf.constant(SCORES)) is None
    np.testing.assert_allclose(losses.get("pointwise_rmse", levels=4.0).value(tf.constant(SCORES)), 4 * SCORES)


def test_the_value_of_a_score_is_where_the_loss_is_lowest():
    """Labels of mean 0.3: the score with the lowest loss has the value 0.3."""
    grid = tf.linspace(-4.0, 4.0, 401)
    labels = tf.repeat(tf.constant([[1.0] * 30 + [0.0] * 70]), 401, axis=0)
    for name in ("bce", "mse", "weighted_logistic"):
        loss = losses.get(name)
        values, _ = loss.per_list(labels, tf.repeat(grid[:, None], 100, axis=1), tf.ones([401, 100], tf.bool))
        assert float(loss.value(grid[int(tf.argmin(values))])) == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize(("unbiased", "value", "gradient"), [
    (False, 4.609936001, (.268941421, -1.824255238, .549833997, -1.240102075)),
    (True, 7.482449944, (.268941421, -1.006680762, .549833997, -.550127594)),
])
def test_weighted_logistic_regression(unbiased, value, gradient):
    loss = losses.get("weighted_logistic", unbiased=unbiased)
    scores, watched = np.array([-1, 1.5, .2, .8]), [0.0, 10, 0, 4]
    found = value_and_gradient(loss, watched, scores)
    assert 4 * found[0] == pytest.approx(value, rel=1e-6)  # the mean of the items
    np.testing.assert_allclose(4 * found[1], gradient, rtol=1e-6)
    np.testing.assert_allclose(loss.value(tf.constant(scores)), [.367879441, 4.481689070, 1.221402758, 2.225540928],
                               rtol=1e-8)
    best = value_and_gradient(loss, watched, np.full(4, np.log(3.5 if unbiased else 7)))[1]
    assert best.sum() == pytest.approx(0, abs=1e-6)
