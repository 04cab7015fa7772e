"""GradCraft, ConicGrad, PCD and EMTL: golden updates in float64, edge cases, and what each one guarantees."""

import numpy as np
import pytest

from tfmtl2r import methods
from tfmtl2r._backend import tf
from tfmtl2r.methods import Signals

J = np.array([[1.0, 0, 2, -1], [-1, 1, 0, 1], [0.5, -2, 1, 0]])
TWO = np.array([[-4.0, 1, 1], [6, 1, 1]])
THREE = np.array([[1.0, 0, 0, 1], [-1, 2, 0, 0.5], [0.5, -1, 3, 0]])
OPPOSED = np.array([[1.0, 2], [-1, -2]])


def stepped(method, rows, state=None):
    """The update and the next state."""
    rows, method = np.asarray(rows, float), methods.get(method)
    tasks = len(rows)
    signals = Signals(losses=tf.ones(tasks), preference=tf.fill([tasks], 1 / tasks), present=tf.ones(tasks, tf.bool),
                      gram=tf.constant(rows @ rows.T))
    weights, state = method.weigh(signals, method.initial_state(tasks) if state is None else state)
    return weights.numpy() @ rows, {name: np.array(value) for name, value in state.items()}


def crafted(rows, **options):
    """The update in the authors' units: the mean."""
    return methods.combine(methods.get("gradcraft", **options), rows) / len(rows)


@pytest.mark.parametrize(("rows", "options", "expected"), [
    (J, {"r": 0, "epsilon": 0}, [-0.211221122, -0.097359736, 1.244224422, 0.443894389]),
    (J, {}, [-0.220737354, -0.097174031, 1.256642028, 0.457295454]),
    (J, {"r": 0.5, "epsilon": 0}, [-0.258802280, -0.096431211, 1.306312451, 0.510899710]),
    (J, {"r": 1, "epsilon": 0}, [-0.306383439, -0.095502686, 1.368400480, 0.577905030]),
    (J, {"r": 0.5, "epsilon": 0.1}, [-0.321355527, -0.045758515, 1.366723170, 0.583974433]),
    (J, {"r": 1, "epsilon": 0.1}, [-0.365276563, -0.050528492, 1.439176039, 0.649124832]),
    (TWO, {"r": 0, "epsilon": 0}, [0.292397661, 1.900584795, 1.900584795]),
    (TWO, {"r": 0.5, "epsilon": 0.1}, [0.195440647, 2.194241784, 2.194241784]),
    (TWO, {"r": 1, "epsilon": 0}, [0.173195999, 2.258189780, 2.258189780]),
    (THREE, {"r": 0.5, "epsilon": 0}, [0.223874441, 0.793112562, 1.281162031, 0.925472366]),
    ([[1.0, 2], [-2, -4]], {"r": 0, "epsilon": 0}, [0, 0]),
    (np.array([[1.0, 0], [-1, 1], [-2, 2]]), {"r": 0, "epsilon": 0}, np.array([0.5, 3.5]) / 3),
    (np.array([[1.0, 0], [-1, 1], [-2, 2]]), {"r": 0, "epsilon": 0.1}, np.array([0.853553391, 3.570710678]) / 3),
    (np.array([[1.0, 0], [-1, 1], [-1, -1]]), {"r": 0, "epsilon": 0}, [0, 0]),
    (np.vstack([J, np.zeros(4)]), {"r": 0.5, "epsilon": 0}, 0.75 * np.array([-0.258802280, -0.096431211, 1.306312451,
                                                                            0.510899710])),
    (np.zeros((2, 3)), {}, [0, 0, 0]),
    (J[:1], {"r": 1}, J[0]),
])  # fmt: skip
def test_gradcraft(rows, options, expected):
    np.testing.assert_allclose(crafted(rows, **options), expected, atol=2e-8)


def test_gradcraft_averages_lengths():
    method = methods.get("gradcraft", r=0.5, beta=0.5, epsilon=0.0)
    _, state = stepped(method, J)
    second = J * np.array([[1.0], [10], [1]])
    update, state = stepped(method, second, state)
    np.testing.assert_allclose(state["lengths"], [1.837117307, 9.093266740, 1.718465886], rtol=1e-6)
    np.testing.assert_allclose(update / 3, [-2.131197619, 0.130804627, 5.474077151, 3.315555510], rtol=1e-5)


def conic(rows, c):
    return methods.combine(methods.get("conic_grad", c=c), rows) / len(rows)


@pytest.mark.parametrize(("rows", "c", "expected"), [
    (J, 0.0, [-0.338023, -0.067605, 0.849887, 0.545666]),
    (J, 0.7, [-0.338023, -0.067605, 0.849887, 0.545666]),
    (J, 0.75, [-0.299139, -0.012859, 0.899737, 0.489605]),
    (J, 0.8, [-0.222569275, 0.061138367, 0.968585446, 0.384000183]),
    (J, 0.9, [-0.108557251, -0.061855164, 1.022474487, 0.278969665]),
    (J, 0.9626, [-0.000272, -0.172848, 1.038724, 0.173393]),
    (J, 0.99, [0, -0.173120652, 1.038723913, 0.173120652]),
    (TWO, 0.8, [0, 1.224744871, 1.224744871]),
    (TWO, 0.9, [0.283558600, 1.208220700, 1.208220700]),
    (TWO, 0.99, [0.577350269, 1.154700538, 1.154700538]),
    (THREE, 0.8, [0.356618, 0.561992, 0.520599, 0.821495]),
    (THREE, 0.9, [0.331172, 0.525664, 0.630598, 0.777970]),
    (THREE, 0.99, [0.237102, 0.387963, 0.904440, 0.603444]),
    (OPPOSED, 0.5, [0, 0]),
    ([[1.0, 2], [-2, -4]], 0.5, [0, 0]),
    ([[1.0, 2], [1, 2]], 0.9, [1, 2]),
    (J[:1], 0.5, J[0]),
])  # fmt: skip
def test_conic_grad(rows, c, expected):
    np.testing.assert_allclose(conic(rows, c), expected, atol=2e-6)


@pytest.mark.slow
def test_conic_grad_stays_in_its_cone_and_opposes_no_task():
    rng = np.random.default_rng(0)
    for _ in range(30):
        rows, c = rng.normal(size=(4, 6)) * np.exp(rng.normal(size=(4, 1))), rng.uniform(0, 0.95)
        update, mean = conic(rows, c), rows.mean(0)
        lengths = np.linalg.norm(rows, axis=1)
        assert (rows @ update >= -1e-6 * lengths * np.linalg.norm(mean)).all()
        assert np.linalg.norm(update) == pytest.approx(np.linalg.norm(mean), rel=1e-6)
        projected = methods.combine("dual_proj", rows)
        widest = projected @ mean / np.linalg.norm(projected) / np.linalg.norm(mean)
        assert update @ mean >= min(c, widest) * (mean @ mean) * (1 - 1e-5)
        np.testing.assert_allclose(conic(rows[::-1], c), update, atol=1e-6 * np.linalg.norm(mean))


@pytest.mark.parametrize(("rows", "tau", "expected"), [
    (TWO, 0, [-0.973329, 2.919986, 2.919986]), (TWO, 0.02, [-0.820033, 2.943429, 2.943429]),
    (TWO, 0.5, [0, 0, 0]),  # the authors' code gives (2.0889, 2.611178, 2.611178), which increases the main loss
    (TWO[::-1], 0.02, [1.838587, 4.160505, 4.160505]), (THREE, 0.02, [0.903050, 0.217728, 0, 1.066346]),
    (THREE, 0.5, [0.458671, 0.602835, 0.698074, 0.968970]), (THREE[::2], 0, THREE[0]),
])
def test_pcd_of_two_and_three_tasks(rows, tau, expected):
    np.testing.assert_allclose(methods.combine(methods.get("pcd", tau=tau), rows), expected, atol=2e-6)


def test_emtl_makes_contributions_equal():
    losses, lengths = np.array([0.5, 2.0]), np.linalg.norm(TWO, axis=1)
    weights = np.array([0.532909, 1.467091])
    np.testing.assert_allclose(methods.combine("emtl", TWO, losses), weights @ TWO, atol=1e-5)
    np.testing.assert_allclose(methods.combine(methods.get("emtl", penalty=0.0), TWO, losses),
                               methods.combine("mgda", TWO), atol=1e-6)
    strong = methods.combine(methods.get("emtl", penalty=1e9), TWO, losses)
    np.testing.assert_allclose(strong, weights @ TWO, atol=1e-3)
    found = np.linalg.lstsq(TWO.T, strong, rcond=None)[0] * lengths / losses
    assert found[0] == pytest.approx(found[1], rel=1e-4)


@pytest.mark.parametrize(("options", "expected"), [
    ({"tau": 0}, [0.377964473, 0.755928946, 2.267786838, -0.377964473]),
    ({}, [0.345804214, 0.787797744, 2.267203918, -0.345804214]),
    ({"tau": 0.3}, [-0.263627729, 0.349147683, 2.349752312, 0.535966780]),
    ({"main": 1}, [-0.827956138, 0.250269662, 1.020743892, 1.099970743]),
    ({"main": 2}, [-0.463110504, -1.467638326, 1.287165887, 1.106693447]),
])
def test_pcd(options, expected):
    np.testing.assert_allclose(methods.combine(methods.get("pcd", **options), J), expected, atol=5e-7)


def test_pcd_averages_squares():
    method = methods.get("pcd", beta=0.9)
    _, state = stepped(method, J)
    update, state = stepped(method, J * np.array([[1.0], [10], [1]]), state)
    np.testing.assert_allclose(update, [0.333793181, 0.799551590, 2.266689542, -0.333793181], atol=5e-7)
    np.testing.assert_allclose(state["squares"] / (1 - 0.9**2), [6, 159.315789474, 5.25], rtol=1e-5)


@pytest.mark.parametrize(("rows", "expected", "stopped"), [
    (OPPOSED, [0, 0], 1),  # the authors' code gives the exact reverse of the main gradient
    ([[0.0, 0], [1, 2]], [0, 0], 0),
    ([[1.0, 2], [0, 0]], [1, 2], 0),
    ([[1.0, 0], [0, 1], [0, -1]], [1, 0], 0),  # no direction helps both
    ([[3.0, 4]], [3, 4], 0),
])
def test_pcd_at_the_edges(rows, expected, stopped):
    update, state = stepped("pcd", rows)
    np.testing.assert_allclose(update, expected, atol=1e-6)
    assert state["stopped"] == stopped


def test_pcd_keeps_its_guarantee():
    rng = np.random.default_rng(1)
    seen = 0
    for _ in range(40):
        rows = rng.normal(size=(4, 7)) * np.exp(rng.normal(size=(4, 1)))
        update, state = stepped("pcd", rows)
        gains = rows @ update
        assert (gains[0] > 0) == (state["stopped"] == 0)
        assert (gains[1:] >= -1e-6 * np.linalg.norm(rows[1:], axis=1) * np.linalg.norm(rows[0])).all()
        seen += int(state["stopped"] == 0)
    assert seen > 30
    for cosine, reversed_ in ((-0.98, False), (-0.99, False), (-0.995, True)):  # -.99005 is the edge at tau .02
        rows = np.array([[1.0, 0], [cosine, np.sqrt(1 - cosine**2)]])
        update, state = stepped("pcd", rows)
        assert (state["stopped"] == 1) == reversed_
        assert update @ rows[0] >= 0
