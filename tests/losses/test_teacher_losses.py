"""Losses to a teacher's scores: golden values and gradients, and what the level of a teacher changes (nothing)."""

import numpy as np
import pytest

from tfmtl2r import losses
from tfmtl2r._backend import tf

T, S = (2.0, 0.0, -1.0), (1.0, 0.5, -0.5)


def found(loss, teacher, scores, weights=None):
    """Value and gradient of one list, seen through padding."""
    scores = tf.constant([[*scores, 9.0]])
    with tf.GradientTape() as tape:
        tape.watch(scores)
        value, _ = loss.per_list([[*teacher, 5.0]], scores, [[True] * len(teacher) + [False]], weights)
    return float(value[0]), tape.gradient(value, scores).numpy()[0, :-1]


@pytest.mark.parametrize(("loss", "teacher", "scores", "value", "gradient"), [
    ({"name": "centred_mse"}, (0.5, -1, 0.5), (1, 0, 2), 0.166667, (-0.333333, 0, 0.333333)),
    ({"name": "soft_targets"}, T, S, 0.199976688, (-0.297245347, 0.217303761, 0.079941586)),
    ({"name": "soft_targets", "temperature": 2.0}, T, S, 0.024149872, (-0.081982332, 0.100275063, -0.018292731)),
    ({"name": "soft_targets", "temperature": 2.0, "soften": "both"}, T, S, 0.273915612,
     (-0.368635480, 0.229460594, 0.139174886)),
])  # fmt: skip
def test_golden_values(loss, teacher, scores, value, gradient):
    made = losses.get(loss)
    assert found(made, teacher, scores) == (pytest.approx(value, abs=2e-6), pytest.approx(gradient, abs=2e-6))
    moved = found(made, np.add(teacher, 7.0), np.subtract(scores, 3.0))
    assert moved == (pytest.approx(value, abs=2e-6), pytest.approx(gradient, abs=2e-6))
    same = teacher if made != losses.get("soft_targets", temperature=2.0) else np.divide(teacher, 2.0)
    assert found(made, teacher, same)[0] == pytest.approx(0, abs=1e-6)


def test_the_divergence_is_the_cross_entropy_without_the_entropy_of_the_teacher():
    teacher, scores = np.array([0.5, -1, 0.5]), (0.5, 0.0, 1.0)
    q = np.exp(teacher) / np.exp(teacher).sum()
    value, gradient = found(losses.get("soft_targets"), teacher, scores)
    assert value - (q * np.log(q)).sum() == pytest.approx(1.005545, abs=1e-6)
    assert gradient == pytest.approx([-0.142620, 0.085956, 0.056664], abs=1e-6)


@pytest.mark.parametrize("name", ["centred_mse", "soft_targets"])
def test_a_constant_teacher_teaches_nothing_and_an_item_without_a_score_is_left_out(name):
    loss = losses.get(name)
    value, weight = loss.per_list([[1.0, 1.0, 1.0]], [[0.0, 1.0, 2.0]], [[True] * 3])
    assert (value.numpy().item(), weight.numpy().item()) == (0, 0)
    alone = found(loss, T, S)
    value, gradient = found(loss, (*T, np.nan), (*S, 4.0))
    assert (value, *gradient) == pytest.approx((alone[0], *alone[1], 0.0))
    same = found(loss, T, S, [[3.0, 3.0, 3.0, 3.0]])
    assert (same[0], *same[1]) == pytest.approx((alone[0], *alone[1]))
