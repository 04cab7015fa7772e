"""ListNet, whose target is a softmax of the labels, beside softmax, whose target is their share of the sum."""

import numpy as np
import pytest

from tfmtl2r import losses
from tfmtl2r._backend import tf

Y = np.array([3.0, 0.0, 1.0, 2.0])
S = np.array([0.4, 1.1, -0.6, 0.2])


def softmax(v):
    return np.exp(v) / np.exp(v).sum()


def value(name, y=Y, weights=None, **options):
    padded = [[*y, 5.0]], [[*S, 9.0]], [[True] * 4 + [False]]
    weights = None if weights is None else [[*weights, 7.0]]
    return float(losses.get(name, **options).per_list(*padded, weights)[0][0])


@pytest.mark.parametrize(("name", "expected"), [("listnet", 1.54725), ("binary_listnet", 1.66850)])
def test_oracle(name, expected):
    assert value(name) == pytest.approx(expected, abs=1e-5)


def test_formula():
    assert value("listnet") == pytest.approx(-softmax(Y) @ np.log(softmax(S)), rel=1e-6)
    assert value("listnet", temperature=0.5) == pytest.approx(-softmax(Y) @ np.log(softmax(S / 0.5)), rel=1e-6)
    weights = np.array([1.0, 2.0, 0.5, 3.0])
    expected = -(weights / weights.mean() * softmax(Y)) @ np.log(softmax(S))
    assert value("listnet", weights=weights) == pytest.approx(expected, rel=1e-5)


def test_gains_as_targets_of_softmax():
    gains = 2**Y - 1
    expected = -(gains / gains.sum()) @ np.log(softmax(S))
    assert value("softmax", gain="exp2") == pytest.approx(expected, rel=1e-6)
    assert value("softmax", gain="exp2") == pytest.approx(value("softmax", gains), rel=1e-6)
    with pytest.raises(ValueError, match="gain must be one of 'exp2', 'linear', not 'log'"):
        losses.get("softmax", gain="log")
    with pytest.raises(ValueError, match="leave gain out"):
        losses.get("softmax", gain="exp2", lambda_weight="dcg")


def test_only_differences_of_labels_matter():
    assert value("listnet", Y + 2) == pytest.approx(value("listnet"), rel=1e-6)
    assert value("binary_listnet", Y + 2) != pytest.approx(value("binary_listnet"), rel=1e-2)


def test_gradient_is_the_difference_of_the_two_distributions():
    scores = tf.constant([S], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        loss, _ = losses.get("listnet").per_list([Y], scores, [[True] * 4])
    np.testing.assert_allclose(tape.gradient(loss, scores)[0], softmax(S) - softmax(Y), atol=1e-6)


def test_the_alias_says_which_it_is():
    assert losses.registry.resolve("binary_listnet") == "softmax"
    assert losses.registry.resolve("listnet") == "listnet"
