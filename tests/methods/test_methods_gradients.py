"""Methods on task gradients: values from the papers and independent recomputations, and what each method guarantees."""

import numpy as np
import pytest

from tfmtl2r import methods
from tfmtl2r._backend import tf
from tfmtl2r.methods.base import Signals
from tfmtl2r.methods.deciding import weigh
from tfmtl2r.testing.steps import Run

# Two conflicting gradients and three of rank three, for which several libraries agree on the values below to 1e-4.
TWO = np.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
THREE = np.array([[1.0, 0.0, 0.0, 1.0], [-1.0, 2.0, 0.0, 0.5], [0.5, -1.0, 3.0, 0.0]])
FIVE = np.random.default_rng(7).normal(size=(5, 12)) - 0.5 * np.random.default_rng(8).normal(size=12)


def steps(method, batches, epoch=0, losses=None, present=None, cross=None, preference=None, eager=True):
    """Several steps with the state carried along: the updates and the last state."""
    run = Run(method, *batches[0].shape, preference=preference, eager=eager)
    updates = [
        run.step(rows, losses[k] if losses else None, present[k] if present else None,
                 epoch if isinstance(epoch, int) else epoch[k], cross=cross[k] if cross else None)
        for k, rows in enumerate(batches)
    ]
    return updates, {key: run[key] for key in run.state}


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.mark.parametrize(
    ("name", "options", "jacobian", "losses", "expected", "tolerance"),
    [
        ("aligned_mtl", {}, TWO, None, 2 * np.array([0.2133, 0.9673, 0.9673]), 2e-4),
        ("aligned_mtl", {}, THREE, None, 3 * np.array([0.166, 0.3481, 0.5203, 0.4705]), 3e-4),
        ("imtl_g", {}, TWO, None, 2 * np.array([0.0767, 1.0, 1.0]), 2e-4),
        ("imtl_g", {}, THREE, None, 3 * np.array([0.3973, 0.3715, 0.2312]) @ THREE, 5e-4),
        ("imtl_full", {}, TWO, None, 2 * np.array([0.0767, 1.0, 1.0]), 2e-4),
        ("fair_grad", {"alpha": 1.0, "max_norm": 0.0}, TWO, None, [0.0766, 0.9985, 0.9985], 1e-4),
        ("fair_grad", {"alpha": 2.0, "max_norm": 0.0}, TWO, None, np.array([0.4714, 0.3195]) @ TWO, 5e-4),
        ("fair_grad", {"alpha": 1.0, "max_norm": 0.0}, THREE, None, np.array([0.7335, 0.5762, 0.3691]) @ THREE, 3e-4),
        ("fair_grad", {"alpha": 0.0, "max_norm": 0.0}, TWO, None, [2.0, 2.0, 2.0], 1e-9),
        ("upgrad", {}, TWO, None, 2 * np.array([0.5 + 11 / 18, 0.5 + 11 / 38]) @ TWO, 1e-6),
        ("upgrad", {}, THREE, None, 3 * np.array([0.3971, 0.5237, 0.4115]) @ THREE, 1e-3),
        ("dual_proj", {}, TWO, None, 2 * np.array([5 / 9, 10 / 9, 10 / 9]), 1e-6),
        ("dual_proj", {}, THREE, None, THREE.sum(0), 1e-9),
        ("conflict_free", {}, TWO, None, [0.1588, 2.0706, 2.0706], 1e-4),
        ("conflict_free", {}, THREE, None, [0.4535, 1.6416, 2.2251, 1.8701], 1e-4),
        ("gradvac", {}, TWO, None, [0.5848, 3.8012, 3.8012], 1e-4),
        ("modo", {}, TWO, None, 2 * np.array([0.505, 0.495]) @ TWO, 5e-4),
        ("modo", {"gamma": 0.1}, TWO, None, 2 * TWO[0], 1e-9),
        ("moco", {"variant": "libmtl"}, TWO, [0.5, 2.0], 2 * np.array([0.3546, 0.1094, 0.1094]), 2e-4),
        ("db_mtl", {"beta": 0.0}, TWO, [0.5, 2.0], [0.259, 3.3765, 3.3765], 1e-4),
        ("excess_mtl", {}, TWO, None, [2.0, 2.0, 2.0], 1e-9),
        ("sdmgrad", {"lam": 0.0}, TWO, None, [0.0, 2.0, 2.0], 1e-9),
        ("cagrad", {"c": 0.0}, TWO, None, [2.0, 2.0, 2.0], 1e-9),
        (
            "trimmed_mean", {"trim": 1},
            [[1e11, 3.0], [1.0, -1e11], [-1e10, 1e10], [2.0, 2.0]], None, [4 * 1.5, 4 * 2.5], 1e-9,
        ),
        (
            "krum", {"f": 1, "k": 4},
            [[1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [75.0, -666.0, 23.0], [1.0, 2.0, 3.0], [2.0, 0.0, 1.0]], None,
            5 * np.array([1.25, 0.75, 1.5]), 1e-9,
        ),
    ],
)
def test_golden(name, options, jacobian, losses, expected, tolerance):
    got = methods.combine(methods.get(name, **options), jacobian, losses=losses)
    np.testing.assert_allclose(got, expected, atol=tolerance)


@pytest.mark.parametrize("c", [0.2, 0.4, 0.9])
@pytest.mark.parametrize("rows", [TWO, THREE, FIVE], ids=["two", "three", "five"])
def test_cagrad_moves_to_the_edge_of_its_ball_and_helps_the_worst_off(rows, c):
    mean = rows.mean(0)
    step = methods.combine(methods.get("cagrad", c=c), rows) * (1 + c) / len(rows)
    np.testing.assert_allclose(np.linalg.norm(step - mean), c * np.linalg.norm(mean), rtol=1e-8)
    others = np.random.default_rng(0).normal(size=(5000, len(mean)))
    others = mean + c * np.linalg.norm(mean) * others / np.linalg.norm(others, axis=1, keepdims=True)
    assert (rows @ step).min() >= (others @ rows.T).min(axis=1).max() - 1e-9


def test_cagrad_with_a_large_ball_goes_where_mgda_goes():
    for rows in (TWO, THREE, FIVE):
        step = methods.combine(methods.get("cagrad", c=1e4), rows)
        assert cosine(step, methods.combine("mgda", rows)) > 1 - 1e-6


@pytest.mark.parametrize("lam", [0.0, 0.6, 5.0])
def test_sdmgrad_meets_its_optimality_condition(lam):
    step = methods.combine(methods.get("sdmgrad", lam=lam), FIVE) * (1 + lam) / 5
    combination = step - lam * FIVE.mean(0)  # g_w
    slope = FIVE @ step
    weights = np.linalg.lstsq(FIVE.T, combination, rcond=None)[0]
    np.testing.assert_allclose(weights.sum(), 1, atol=1e-9)
    assert weights.min() > -1e-9
    assert slope.min() >= weights @ slope - 1e-9


def test_sdmgrad_far_from_mgda_is_the_plain_sum():
    np.testing.assert_allclose(methods.combine(methods.get("sdmgrad", lam=1e6), FIVE), FIVE.sum(0), rtol=1e-4)


def test_stochastic_sdmgrad_comes_to_the_exact_solution_and_reads_the_second_batch():
    method = methods.get("sdmgrad", solve="stochastic")
    assert "second_batch" in method.needs
    assert "second_batch" not in methods.get("sdmgrad").needs
    updates, state = steps(method, [FIVE] * 25, eager=False)
    np.testing.assert_allclose(updates[-1], methods.combine("sdmgrad", FIVE), atol=1e-3)
    np.testing.assert_allclose(state["weights"].sum(), 1)
    assert np.linalg.norm(updates[0] - steps(method, [FIVE], cross=[np.eye(5)])[0][0]) > 1e-3


@pytest.mark.parametrize("rows", [TWO, THREE, FIVE], ids=["two", "three", "five"])
def test_imtl_g_has_equal_projections(rows):
    step = methods.combine("imtl_g", rows)
    projections = rows @ step / np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(projections, projections[0], rtol=1e-9)
    weights = np.linalg.lstsq(rows.T, step, rcond=None)[0]
    np.testing.assert_allclose(weights.sum(), len(rows), rtol=1e-9)


def test_imtl_g_never_climbs_every_loss():
    """Scaled to sum 1, the weights of these gradients would: their sum is negative before."""
    draws = [np.random.default_rng(seed).normal(size=(3, 3)) for seed in range(200)]
    turned = [rows for rows in draws if np.linalg.solve(rows @ rows.T, np.linalg.norm(rows, axis=1)).sum() < 0]
    assert turned
    for rows in turned:
        assert (rows @ methods.combine("imtl_g", rows)).min() > 0


def test_imtl_full_brings_scaled_losses_to_one():
    updates, state = steps(methods.get("imtl_full", lr=0.1), [TWO] * 100, losses=[[0.5, 4.0]] * 100)
    np.testing.assert_allclose(state["log_scale"], [np.log(2), -np.log(4)], atol=1e-3)
    scaled = TWO * np.array([2.0, 0.25])[:, None]
    np.testing.assert_allclose(updates[-1], methods.combine("imtl_g", scaled), rtol=1e-3)


G2 = np.array([[18.0, -22.0], [-22.0, 38.0]])
J3 = np.linalg.cholesky([[2.0, 1.0], [1.0, 3.0]])


@pytest.mark.parametrize(
    ("gram", "losses", "preference", "alpha"),
    [
        (G2, (1, 3), (0.5, 0.5), (0.289080, 0.710920)),
        (G2, (3, 1), (0.5, 0.5), (0.944607, 0.055393)),
        (G2, (1, 1), (0.8, 0.2), (0.855140, 0.144860)),
        (G2, (2, 2), (0.5, 0.5), (0.55, 0.45)),
        (J3 @ J3.T, (0.5, 2), (0.8, 0.2), (0.0, 1.0)),
    ],
)
def test_epo_solves_the_linear_program_of_its_authors(gram, losses, preference, alpha):
    """Off the ray, losses move towards it; on the ray, no loss rises, and the sum of the losses falls most."""
    rows = np.linalg.cholesky(gram)
    found = methods.combine("epo", rows, losses=np.float64(losses), preference=preference)
    np.testing.assert_allclose(found, 2 * np.array(alpha) @ rows, atol=1e-4)


def test_epo_of_five_tasks():
    rows = np.array([[1, 0, 0, 1, 0, 0], [-1, 2, 0, 0.5, 0, 1], [0.5, -1, 3, 0, 0, 0], [0, -1, 0, 2, 1, 0],
                     [-0.5, 0, -1, 0, 1, 2]])
    losses = np.array([0.2, 1, 0.7, 0.4, 1.5])
    for given, preference, alpha in (
        (losses, np.full(5, 0.2), (0, 0.900766, 0.099234, 0, 0)),
        (losses, [0.4, 0.15, 0.15, 0.15, 0.15], (0, 0.876400, 0.123600, 0, 0)),
        (np.ones(5), np.full(5, 0.2), (0, 0.137931, 0, 0.862069, 0)),
    ):
        found = methods.combine("epo", rows, losses=given, preference=preference)
        np.testing.assert_allclose(found, 5 * np.array(alpha) @ rows, atol=2e-5)


@pytest.mark.parametrize("name", ["epo", "wc_mgda"])
def test_the_scale_of_all_losses_does_not_matter_to_ratio_methods(name):
    base = methods.combine(name, FIVE, losses=[1.0, 3.0, 2.0, 0.5, 1.0], preference=[1, 2, 3, 4, 5])
    for scale in (1e-6, 1e3):
        losses = scale * np.array([1.0, 3.0, 2.0, 0.5, 1.0])
        got = methods.combine(name, scale * FIVE, losses=losses, preference=[1, 2, 3, 4, 5])
        np.testing.assert_allclose(got, scale * base, rtol=1e-6)


def test_epo_without_a_way_down_follows_the_highest_weighted_loss():
    rows = np.zeros((2, 3))
    method = methods.get("epo")
    signals = Signals(
        losses=tf.constant([1.0, 2.0]), preference=tf.constant([0.8, 0.2]), present=tf.constant([True, True]),
        gram=tf.constant(rows @ rows.T),
    )
    np.testing.assert_allclose(weigh(method, signals, {})[0], [2.0, 0.0])


def test_wc_mgda_stands_between_weighted_chebyshev_and_weighted_mgda():
    losses, preference = [1.0, 4.0, 2.0, 0.5, 1.0], np.array([1, 2, 3, 4, 5]) / 15
    steep = methods.combine(methods.get("wc_mgda", u=1e-9), FIVE, losses, preference)
    assert cosine(steep, FIVE[np.argmax(preference * losses)]) > 1 - 1e-9
    flat = methods.combine(methods.get("wc_mgda", u=1e6), FIVE, losses, preference)
    assert cosine(flat, methods.combine("mgda", FIVE * preference[:, None])) > 1 - 1e-6


def test_wc_mgda_keeps_the_scales_of_the_first_step():
    method, losses = methods.get("wc_mgda", u=1.0), [np.ones(5), np.full(5, 3.0)]
    updates, state = steps(method, [FIVE, FIVE], losses=losses)
    np.testing.assert_allclose(state["loss_scale"], np.sqrt(5), rtol=1e-6)
    np.testing.assert_allclose(state["gram_scale"], np.trace(FIVE @ FIVE.T), rtol=1e-6)
    fresh = methods.combine(method, FIVE, losses[1])
    np.testing.assert_allclose(fresh, updates[0], rtol=1e-6)  # alone, a common factor of the losses drops out


def test_gradnorm_golden():
    """Lengths 1 and 2, losses .5 and .9 of first losses 1: targets (.90552, 2.18679), slopes (1, -2)."""
    rows = np.array([[1.0, 0.0], [0.0, 2.0]])
    method = methods.get("gradnorm", lr=0.1)
    updates, state = steps(method, [rows] * 3, epoch=[0, 1, 1], losses=[[1.0, 1.0], [0.5, 0.9], [0.5, 0.9]])
    np.testing.assert_allclose(updates[0], [1.0, 2.0])
    np.testing.assert_allclose(updates[1], [1.0, 2.0])
    np.testing.assert_allclose(updates[2], [0.857143, 2 * 1.142857], atol=1e-5)
    np.testing.assert_allclose(state["weights"].sum(), 2, rtol=1e-6)
    np.testing.assert_allclose(state["first"], [1.0, 1.0])


def test_gradnorm_measures_against_the_mean_of_the_first_epoch_and_rests_when_balanced():
    rows = np.eye(2)
    losses = [[1.0, 2.0], [3.0, 2.0], [1.0, 1.0]]
    updates, state = steps(methods.get("gradnorm"), [rows] * 3, epoch=[0, 0, 1], losses=losses)
    np.testing.assert_allclose(state["first"], [2.0, 2.0])
    np.testing.assert_array_equal(state["weights"], [1.0, 1.0])
    np.testing.assert_allclose(updates[-1], [1.0, 1.0])


def test_gradvac_reaches_its_goal_and_follows_what_it_sees():
    method = methods.get("gradvac", beta=0.5)
    _, state = steps(method, [TWO])
    np.testing.assert_allclose(state["rho"][0, 1], -0.4206, atol=1e-4)
    rows = np.eye(2)
    state = {"rho": tf.constant([[0.0, 0.5], [0.5, 0.0]])}
    signals = Signals(
        losses=tf.ones([2], tf.float64), preference=tf.constant([0.5, 0.5], tf.float64),
        present=tf.constant([True, True]), gram=tf.constant(rows @ rows.T), seed=tf.constant([0, 0]),
    )
    weights, _ = weigh(method, signals, state)
    np.testing.assert_allclose(weights, 1 + 0.57735 * np.ones(2), atol=1e-5)  # (1, .57735) has cosine .5 with (0, 1)


def test_gradvac_starts_as_pcgrad():
    for rows in (TWO, FIVE):
        np.testing.assert_allclose(
            methods.combine(methods.get("gradvac", beta=0.0), rows, seed=3), methods.combine("pcgrad", rows, seed=3)
        )


@pytest.mark.parametrize("rows", [TWO, THREE, FIVE], ids=["two", "three", "five"])
def test_aligned_gradients_are_orthogonal_and_equally_long(rows):
    tasks = len(rows)
    corners = np.eye(tasks) * 0.9 + 0.1 / tasks  # preferences that span all; the update is linear in them
    updates = np.array([methods.combine("aligned_mtl", rows, preference=p) for p in corners]) / tasks
    aligned = np.linalg.solve(corners, updates)
    np.testing.assert_allclose(aligned @ aligned.T, np.eye(tasks) * np.linalg.eigvalsh(rows @ rows.T)[0], atol=1e-8)


def test_aligned_mtl_scales_by_the_chosen_eigenvalue():
    values = np.linalg.eigvalsh(THREE @ THREE.T)
    smallest = methods.combine("aligned_mtl", THREE)
    for scale, value in (("median", values[1]), ("mean", values.mean())):
        expected = smallest * np.sqrt(value / values[0])
        np.testing.assert_allclose(methods.combine(methods.get("aligned_mtl", scale=scale), THREE), expected)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 5.0])
def test_fair_grad_solves_its_equation(alpha):
    step = methods.combine(methods.get("fair_grad", alpha=alpha, max_norm=0.0), FIVE)
    weights = np.linalg.lstsq(FIVE.T, step, rcond=None)[0]
    np.testing.assert_allclose((FIVE @ step) * weights ** (1 / alpha), 1, rtol=1e-7)


def test_fair_grad_is_nash_mtl_at_one_and_limits_its_length():
    np.testing.assert_allclose(methods.combine("fair_grad", FIVE), methods.combine("nash_mtl", FIVE), rtol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(methods.combine("fair_grad", FIVE)), 1)
    half = methods.combine(methods.get("fair_grad", max_norm=0.5), FIVE)
    np.testing.assert_allclose(half, 0.5 * methods.combine("fair_grad", FIVE))


def test_upgrad_is_linear_in_the_scale_of_every_row():
    def at(scales):
        return methods.combine("upgrad", FIVE * np.asarray(scales)[:, None])

    one, other = np.array([1.0, 2.0, 0.5, 1.0, 3.0]), np.array([0.3, 1.0, 4.0, 2.0, 1.0])
    np.testing.assert_allclose(at(0.3 * one + 2 * other), 0.3 * at(one) + 2 * at(other), rtol=1e-7)


def test_dual_proj_is_the_nearest_unconflicting_step():
    step, total = methods.combine("dual_proj", FIVE), FIVE.sum(0)
    random = np.random.default_rng(0).normal(size=(4000, 12)) * 0.5 + step
    feasible = random[(random @ FIVE.T).min(axis=1) >= 0]
    assert len(feasible) > 10
    assert np.linalg.norm(step - total) <= np.linalg.norm(feasible - total, axis=1).min()


def test_conflict_free_cosines_are_equal_or_as_preferred():
    step = methods.combine("conflict_free", FIVE)
    cosines = FIVE @ step / np.linalg.norm(FIVE, axis=1) / np.linalg.norm(step)
    np.testing.assert_allclose(cosines, cosines[0], rtol=1e-9)
    assert cosines[0] > 0
    np.testing.assert_allclose(np.linalg.norm(step), (FIVE @ step).sum() / np.linalg.norm(step))
    preference = np.array([1.0, 2, 3, 4, 5]) / 15
    step = methods.combine("conflict_free", FIVE, preference=preference)
    cosines = FIVE @ step / np.linalg.norm(FIVE, axis=1) / np.linalg.norm(step)
    np.testing.assert_allclose(cosines / preference, cosines[0] / preference[0], rtol=1e-8)


STATEFUL = ["sdmgrad:stochastic", "imtl_full", "wc_mgda", "gradnorm", "gradvac", "modo", "moco", "db_mtl", "excess_mtl"]


@pytest.mark.parametrize("name", STATEFUL)
def test_an_absent_task_resumes_where_it_was(name):
    name, _, solve = name.partition(":")
    method = methods.get(name, **({"solve": solve} if solve else {}))
    rng = np.random.default_rng(0)
    batches = [FIVE + 0.1 * rng.normal(size=FIVE.shape) for _ in range(3)]
    present = [[True] * 5, [True, True, False, True, True], [False] * 5]
    given = {"epoch": 1, "losses": [np.array([1.0, 2.0, 3.0, 0.5, 1.5])] * 3}
    _, before = steps(method, batches[:1], **given)
    _, after = steps(method, batches, present=present, **given)
    moved = 0
    for key, old in before.items():
        if old.shape[:1] == (5,):
            np.testing.assert_array_equal(after[key][2], old[2])
            moved += np.abs(after[key] - old).max()
    assert moved > 0 or all(not old.shape for old in before.values())


def test_mass_that_absent_tasks_hold_stays_theirs():
    """All weight on the first task, which is then absent: the others share equally, and it gets its weight back."""
    method = methods.get("modo", gamma=0.1)
    present = [[True, True], [False, True], [True, True]]
    updates, state = steps(method, [TWO] * 3, present=present)
    np.testing.assert_allclose(updates[0], 2 * TWO[0])
    np.testing.assert_allclose(updates[1], TWO[1])
    np.testing.assert_allclose(state["weights"].sum(), 1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cagrad", {"c": -1.0}, "c must be >= 0"),
        ("sdmgrad", {"lam": -1.0}, "lam must be >= 0"),
        ("sdmgrad", {"solve": "sgd"}, "'exact' or 'stochastic'"),
        ("sdmgrad", {"steps": 0}, "steps at least 1"),
        ("imtl_full", {"lr": -1.0}, "lr must be >= 0"),
        ("epo", {"tolerance": 0.0}, "between 0 and 1"),
        ("wc_mgda", {"u": 0.0}, "above 0"),
        ("gradnorm", {"alpha": -1.0}, "must be >= 0"),
        ("gradvac", {"beta": 2.0}, r"in \[0, 1\]"),
        ("aligned_mtl", {"scale": "max"}, "one of min, median, mean"),
        ("modo", {"gamma": -1.0}, "must be >= 0"),
        ("fair_grad", {"alpha": float("nan")}, "must be >= 0"),
        ("moco", {"beta": 0.0}, r"in \(0, 1\]"),
        ("moco", {"rho": -1.0}, "must be >= 0"),
        ("moco", {"variant": "mine"}, "'paper' or 'libmtl'"),
        ("db_mtl", {"beta": 1.0}, r"in \[0, 1\)"),
        ("db_mtl", {"beta_sigma": -1.0}, "beta_sigma"),
        ("excess_mtl", {"warmup": -1}, "must be >= 0"),
        ("trimmed_mean", {"trim": -1}, "must be >= 0"),
        ("krum", {"k": 0}, "at least 1"),
    ],
)
def test_impossible_options_are_explained(name, options, message):
    with pytest.raises(ValueError, match=message):
        methods.get(name, **options)


def test_log_methods_are_their_methods_on_log_losses():
    losses = np.array([0.5, 2.0, 1.0, 3.0, 0.1])
    for name in ("cagrad", "imtl_g"):
        expected = methods.combine(name, FIVE / losses[:, None])
        np.testing.assert_allclose(methods.combine(f"log_{name}", FIVE, losses=losses), expected, rtol=1e-7)
