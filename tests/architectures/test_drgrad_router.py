"""DRGrad's router and updater against the paper's cases and invariants."""

import numpy as np
import pytest

from tfmtl2r import Dense, Schema, architectures
from tfmtl2r._backend import tf


def routed(*gradients, architecture=None, **options):
    """gR' and gR'' for the gradients of T1', T1'' and the auxiliary towers, each a vector."""
    stacked = np.array(gradients, np.float64)
    if architecture is None:
        architecture = router(len(gradients) - 1, **options)
    (after,), _ = architecture.route([tf.constant(stacked[:, :, None], tf.float32)], {"lead": tf.constant(0.0)})
    change = after.numpy()[..., 0] - stacked.astype(np.float32)
    np.testing.assert_array_equal(after[2:, :, 0], stacked[2:].astype(np.float32), err_msg="auxiliary towers")
    return change[0], change[1]


def router(tasks=2, **options):
    architecture = architectures.get("drgrad", num_experts=1, expert_units=(1,), head_units=(1,), **options)
    architecture.connect([f"task_{t}" for t in range(tasks)], Schema([Dense("x")]))
    return architecture


def formula(own, twin, other, gamma=1.0, reading="matched"):
    """The paper's router for one auxiliary, written with indicators."""
    def cosine(a, b):
        return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))

    def ratio(b):
        return np.clip(np.linalg.norm(own) / np.linalg.norm(b), 0, 1) ** gamma

    first, second = (twin, other) if reading == "matched" else (other, twin)
    xi_1, xi_2 = cosine(own, first), cosine(own, second)
    to_own = (1 - (xi_1 < 0) * xi_1) * ratio(first) * twin + (xi_2 >= 0) * ratio(second) * other
    return to_own, max(-xi_1 * xi_2, 0.0) * twin


@pytest.mark.parametrize(("twin", "other", "to_own", "to_twin"), [
    ((-1.2, 1.6), (3, 4), (-0.36, 2.08), (-0.432, 0.576)),
    ((1.2, 1.6), (3, 4), (1.2, 1.6), (0, 0)),
    ((1.2, 1.6), (-3, 4), (0.6, 0.8), (0.432, 0.576)),
    ((-1.2, 1.6), (-3, 4), (-0.96, 1.28), (0, 0)),
])
def test_cases_by_hand(twin, other, to_own, to_twin):
    for got, expected in zip(routed((1, 0), twin, other), (to_own, to_twin), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_the_typeset_reading_by_hand():
    to_own, to_twin = routed((1, 0), (-1.2, 1.6), (3, 4), reading="typeset")
    np.testing.assert_allclose(to_own, (-0.24, 0.32), atol=1e-6)
    np.testing.assert_allclose(to_twin, (-0.432, 0.576), atol=1e-6)


@pytest.mark.parametrize(("reading", "gamma"), [("matched", 1.0), ("matched", 2.5), ("typeset", 1.0)])
def test_invariants_of_the_router(rng, reading, gamma):
    """On random triples of all sizes: the formula; T1'' keeps its direction; the auxiliary's part helps; the bound."""
    architecture = router(2, reading=reading, gamma=gamma)
    for _ in range(30):
        own, twin, other = rng.normal(size=(3, 4)) * 10.0 ** rng.uniform(-2, 2, (3, 1))
        to_own, to_twin = routed(own, twin, other, architecture=architecture)
        for got, expected in zip((to_own, to_twin), formula(own, twin, other, gamma, reading), strict=True):
            largest = max(map(np.linalg.norm, (own, twin, other)))
            np.testing.assert_allclose(got, expected, rtol=1e-3, atol=2e-5 * largest)
        share = to_twin @ twin / (twin @ twin)
        assert -1e-5 <= share <= 1 + 1e-5
        np.testing.assert_allclose(to_twin, share * twin, atol=1e-4 * np.linalg.norm(twin))
        opposed = (own @ twin) * (own @ other) < 0
        assert (share > 1e-6) == opposed or abs(share) < 1e-5
        if reading == "matched":
            rounding = 1e-4 * np.linalg.norm(own)
            ratio = min(np.linalg.norm(own) / np.linalg.norm(twin), 1) ** gamma
            cosine = own @ twin / np.linalg.norm(own) / np.linalg.norm(twin)
            of_other = to_own - (1 - min(cosine, 0)) * ratio * twin
            assert of_other @ own >= -rounding * np.linalg.norm(own)
            assert np.linalg.norm(to_own) <= 3 * np.linalg.norm(own) + rounding
            if gamma == 1 and np.linalg.norm(own) <= np.linalg.norm(twin):  # PCGrad's projection
                projected = own + to_own - ratio * twin - of_other
                expected = own - min(0, own @ twin) / (twin @ twin) * twin
                np.testing.assert_allclose(projected, expected, rtol=1e-3, atol=rounding)


def test_scale_of_the_router(rng):
    own, twin, other = rng.normal(size=(3, 4))
    to_own, to_twin = routed(own, twin, other)
    for got, expected in zip(routed(7 * own, 7 * twin, 7 * other), (7 * to_own, 7 * to_twin), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5)
    large = other * 2 * np.linalg.norm(own) / np.linalg.norm(other)
    for got, expected in zip(routed(own, twin, 1000 * large), routed(own, twin, large), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("zero", [0, 1, 2])
@pytest.mark.parametrize("reading", ["matched", "typeset"])
def test_a_zero_gradient_says_nothing(rng, zero, reading):
    gradients = rng.normal(size=(3, 4))
    gradients[zero] = 0
    to_own, to_twin = routed(*gradients, reading=reading)
    assert np.isfinite([to_own, to_twin]).all()
    np.testing.assert_array_equal(to_twin, 0)
    if zero == 0:
        np.testing.assert_array_equal(to_own, 0)


def test_several_auxiliary_tasks(rng):
    """Each helps where it agrees; the one that agrees or disagrees most decides for T1''."""
    own, twin, *others = rng.normal(size=(5, 6))
    to_own, to_twin = routed(own, twin, *others)
    alone = [formula(own, twin, other)[0] for other in others]
    of_twin = formula(own, twin, -own)[0]  # an opposed auxiliary adds nothing
    np.testing.assert_allclose(to_own, of_twin + sum(a - of_twin for a in alone), rtol=1e-4, atol=1e-5)
    cosines = [own @ o / np.linalg.norm(o) for o in others]
    strongest = others[int(np.argmax(np.abs(cosines)))]
    np.testing.assert_allclose(to_twin, formula(own, twin, strongest)[1], rtol=1e-4, atol=1e-5)


def test_scopes(rng):
    """Each variable on its own, all as one vector, or the first kernel alone."""
    own, twin, other = rng.normal(size=(3, 6))
    parts = [np.array([g[:2], g[2:]], object) for g in (own, twin, other)]
    as_variables = [tf.constant(np.array([p[i] for p in parts], np.float32)[:, None]) for i in (0, 1)]
    each, _ = router(scope="per_variable").route(as_variables, {"lead": tf.constant(0.0)})
    for i, gradient in enumerate(each):
        expected = parts[0][i] + formula(*(p[i] for p in parts))[0]
        np.testing.assert_allclose(gradient[0, 0], expected.astype(float), rtol=1e-4, atol=1e-5)
    whole, _ = router(scope="tower").route(as_variables, {"lead": tf.constant(0.0)})
    np.testing.assert_allclose(tf.concat(whole, -1)[0, 0], own + formula(own, twin, other)[0], rtol=1e-4, atol=1e-5)


def test_updater_adds_up_the_norms():
    architecture = router(router=False)
    state = {"lead": tf.constant(0.0)}
    for own, twin in ((1.0, 0.5), (2.0, 0.5)):
        rows = np.zeros((3, 2, 1), np.float32)
        rows[0, 0], rows[1, 1] = own, -twin
        (same,), state = architecture.route([tf.constant(rows)], state)
        np.testing.assert_array_equal(same, rows)
    architecture.lead.assign(state["lead"])
    np.testing.assert_allclose(architecture.mu, (0.880797, 0.119203), atol=1e-6)
    slower = router(updater_temperature=2.0)
    slower.lead.assign(2.0)
    np.testing.assert_allclose(slower.mu[0], 1 / (1 + np.exp(-1)), rtol=1e-6)
    forgetting = router(router=False, updater_decay=0.5)
    _, state = forgetting.route([tf.constant(rows)], {"lead": tf.constant(4.0)})
    np.testing.assert_allclose(state["lead"], 0.5 * 4 + 2 - 0.5)
    np.testing.assert_array_equal(router().mu, (0.5, 0.5))


def test_updater_takes_the_norms_of_the_updates(rng):
    gradients = rng.normal(size=(3, 4))
    _, state = router().route([tf.constant(gradients[:, :, None], tf.float32)], {"lead": tf.constant(1.0)})
    to_own, to_twin = formula(*gradients)
    expected = 1.0 + np.linalg.norm(gradients[0] + to_own) - np.linalg.norm(gradients[1] + to_twin)
    np.testing.assert_allclose(state["lead"], expected, rtol=1e-5)
