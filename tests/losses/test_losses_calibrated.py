"""Losses that fix the level of scores: golden values and gradients, hard numbers, edges, and the level they reach."""

import numpy as np
import pytest

from tfmtl2r import Task, losses
from tfmtl2r._backend import tf
from tfmtl2r.losses.base import gives_chances, reads_logits
from tfmtl2r.serving.answers import Answers
from tfmtl2r.serving.blend import Blend
from tfmtl2r.testing import check_loss
from tfmtl2r.training.readings import readings_of

A = [1, 0, -1], [1, 0, 0]
B = [2, -1, 0.5, 0], [1, 0, 1, 0]
W_B = np.array([1, 2, 0.5, 1])
TIED = [0, 0, 0], [1, 0, 0]


def found(loss, scores, labels, weights=None, propensities=False):
    """Value and gradient of one list, seen through padding and a missing label; weights may be propensities."""
    pad = ((0, 0), (0, 2))
    scores, labels = np.pad([np.float32(scores)], pad, constant_values=9), np.pad([np.float32(labels)], pad)
    labels[0, -1] = np.nan
    valid = np.arange(scores.shape[1])[None] != scores.shape[1] - 2
    given = None if weights is None else np.pad([weights], pad, constant_values=np.nan)
    scores = tf.constant(scores)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        value, _ = loss.per_list(labels, scores, valid, **({} if given is None else {
            "propensity_weights" if propensities else "weights": given}))
    gradient = tape.gradient(value, scores).numpy()[0]
    np.testing.assert_array_equal(gradient[-2:], 0)
    return float(value[0]), gradient[:-2]


@pytest.mark.parametrize(("given", "normalise", "weights", "value", "gradient"), [
    (A, "positives", None, 0.718726796, (-0.137866799, 0.166666667, 0.131074622)),
    (B, "positives", None, 1.121250068, (-0.013393519, 0.086529408, -0.085344608, 0.110025631)),
    (B, "none", None, 2.242500136, (-0.026787038, 0.173058816, -0.170689215, 0.220051262)),
    (B, "positives", W_B, 1.063391906, (-0.033260673, 0.086529408, -0.022421163, 0.110025631)),
    (TIED, "none", None, 1.098612289, (-0.333333333, 0.166666667, 0.166666667)),
])
def test_the_list_part_of_rcr(given, normalise, weights, value, gradient):
    loss = losses.get("rcr", alpha=1.0, normalise=normalise)
    got = found(loss, *given, weights)
    assert got[0] == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(got[1], gradient, atol=1e-6)


def test_weights_multiply_the_terms_of_the_list_part():
    got = found(losses.get("rcr", alpha=1.0), *B, W_B, propensities=True)
    assert got[0] == pytest.approx(1.595087859, rel=1e-6)
    np.testing.assert_allclose(got[1], (-0.049891009, 0.129794112, -0.033631744, 0.165038446), atol=1e-6)
    assert found(losses.get("rcr", alpha=1.0), *B, W_B)[0] == pytest.approx(1.595087859 / W_B.mean(), rel=1e-6)


@pytest.mark.parametrize(("alpha", "value", "gradient"), [
    (0.5, 0.579308490, (-0.113756970, 0.166666667, 0.110360881)),
    (0.1, 0.467773846, (-0.094469106, 0.166666667, 0.093789889)),
    (0.0, 0.439890185, np.array([-0.268941421, 0.5, 0.268941421]) / 3),
])
def test_the_whole_rcr(alpha, value, gradient):
    got = found(losses.get("rcr", alpha=alpha), *A)
    assert got[0] == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(got[1], gradient, atol=1e-6)
    assert losses.get("rcr").alpha == 0.5


def test_rcr_at_low_scores_and_edges():
    part = losses.get("rcr", alpha=1.0)
    assert found(part, [-800, -801], [1, 0])[0] == pytest.approx(0.313261688, rel=1e-5)
    assert found(part, [3], [1])[0] == pytest.approx(0, abs=1e-6)
    assert found(part, [3, 1], [1, 1])[0] > 0.1  # pulls the probabilities to be equal
    value, gradient = found(losses.get("rcr"), [3, 1], [0, 0])
    bce = found(losses.get("bce"), [3, 1], [0, 0])
    assert value == pytest.approx(bce[0] / 2)
    np.testing.assert_allclose(gradient, bce[1] / 2)


@pytest.mark.parametrize(("given", "y0", "value", "gradient"), [
    (A, 1, 2.253046750, (0.068893291, 0.393223866, 0.144658976)),
    (A, 0.1, 0.789175713, (-0.412108690, 0.216273127, 0.079562437)),
    (([1, 0, -1], [0, 0, 0]), 1, 1.626523375, (0.534446645, 0.196611933, 0.072329488)),
    (B, 1, 4.802328331, (0.943524048, 0.096762365, -0.566341168, 0.263027378)),
    (([1, 0, -1], [2, 1, 0]), 1, 4.506093500, (0.137786582, -0.213552267, 0.289317953)),
    (TIED, 1, 2.772588722, (-0.5, 0.5, 0.5)),
    (([0.3], [1]), 1, 1.408710489, (0.148885034,)),
])
def test_calibrated_softmax(given, y0, value, gradient):
    got = found(losses.get("calibrated_softmax", y0=y0), *given)
    assert got[0] == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(got[1], gradient, atol=2e-6)


def test_inverse_propensities_multiply_labels_not_the_anchor():
    got = found(losses.get("calibrated_softmax"), *B, W_B, propensities=True)
    assert got[0] == pytest.approx(3.835273610, rel=1e-6)
    np.testing.assert_allclose(got[1], (0.619603373, 0.080635304, -0.138617640, 0.219189481), atol=1e-6)


def minimum(loss, labels, weights=None, steps=3000):
    """The scores of one list that minimise the mean loss over several draws of its labels."""
    scores, labels = tf.Variable(tf.zeros([1, len(labels[0])])), np.float32(labels)
    valid, optimizer = np.ones_like(labels, bool), tf.keras.optimizers.Adam(0.02)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            values, counts = loss.per_list(labels, tf.tile(scores, [len(labels), 1]), valid)
            total = tf.reduce_sum(values * counts)
        optimizer.apply([tape.gradient(total, scores)], [scores])

    for _ in range(steps):
        step()
    return scores


@pytest.mark.parametrize(("loss", "expected"), [
    ({"name": "calibrated_softmax", "y0": 0.5}, [0.75, 0.5, 0.25]), ("rcr", [0.75, 0.5, 0.25]),
    ({"name": "rcr", "alpha": 0.9}, [0.75, 0.5, 0.25]),
])
def test_values_reach_the_expected_label(loss, expected):
    """Also of lists whose number of positives varies, one of them without a positive."""
    loss = losses.get(loss)
    draws = [[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(loss.value(minimum(loss, draws))[0], expected, atol=0.01)


def test_normalising_by_positives_moves_the_level():
    loss = losses.get("rcr", alpha=0.9, normalise="positives")
    value = loss.value(minimum(loss, [[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]]))[0].numpy()
    assert value[0] / value[2] > 3.2


def test_links_are_probabilities_and_read_so():
    soft, rcr = losses.get("calibrated_softmax", y0=0.5), losses.get("rcr")
    np.testing.assert_allclose(soft.value(tf.constant([0.0, 1.0, 500.0])), [0.5, 0.5 * np.e, 0.5 * np.exp(80.0)],
                               rtol=1e-5)
    assert reads_logits(rcr)
    assert not reads_logits(soft)
    assert gives_chances(soft)
    assert losses.get("rcr", alpha=1.0).value(tf.zeros([1])) is None
    tasks = (Task("click", kind="binary", loss=soft), Task("grade", loss=soft), Task("like", kind="binary", loss=rcr))
    blend = Blend({task.name: 1.0 for task in tasks})
    answers = Answers(tasks, blend, True, readings_of(tasks, has_lists=True))
    assert (answers.with_value, answers.with_probability) == (["click", "grade", "like"], ["click", "like"])
    scores = {task.name: tf.constant([[1.0, -1.0]]) for task in tasks}
    out = answers.scores(scores, tf.constant([[True, True]]), {})
    np.testing.assert_allclose(out["value_click"], 0.5 * np.exp([[1.0, -1.0]]), rtol=1e-6)
    np.testing.assert_allclose(out["probability_click"], [[1.0, 0.5 * np.exp(-1)]], rtol=1e-6)  # at most 1
    np.testing.assert_allclose(out["probability_like"], 1 / (1 + np.exp([[-1.0, 1.0]])), rtol=1e-6)


@pytest.mark.parametrize("options", [
    {"name": "rcr", "normalise": "positives"}, {"name": "rcr", "alpha": 1.0},
    {"name": "calibrated_softmax", "y0": 0.1},
])
def test_other_options_keep_the_contract_too(options):
    assert "propensity_weights_multiply_terms" in check_loss(options, only=[
        "propensity_weights_multiply_terms", "weights_are_relative", "hard_cases_are_finite",
        "list_that_does_not_count", "padding_has_no_influence"])


@pytest.mark.parametrize(("name", "options", "message"), [
    ("rcr", {"alpha": 1.5}, "alpha must lie between 0 and 1, not 1.5"),
    ("rcr", {"normalise": "items"}, "normalise must be 'none' or 'positives', not 'items'"),
    ("calibrated_softmax", {"y0": 0}, "y0 must be above 0, not 0"),
])
def test_a_senseless_option_is_an_error(name, options, message):
    with pytest.raises(ValueError, match=message):
        losses.get(name, **options)
