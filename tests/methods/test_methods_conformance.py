"""Every method, whatever it is called, keeps the promises of all methods and those of its own card."""

import numpy as np
import pytest
from method_runs import Run, built, compiled, first_step

from tfmtl2r import methods

NAMES = methods.names()
RNG = np.random.default_rng(3)
CONFLICTING = RNG.normal(size=(4, 30)) - 0.4 * RNG.normal(size=(1, 30))
# All of one shape, so that one trace per method serves them all.
DEGENERATE = {
    "conflict": CONFLICTING,
    "twins": CONFLICTING[[0, 0, 1, 2]],
    "opposed": CONFLICTING[[0, 0, 1, 1]] * np.array([1, -1, 1, -1])[:, None],
    "zero row": CONFLICTING * np.array([1, 0, 1, 1])[:, None],
    "nothing": 0 * CONFLICTING,
    "rank two": RNG.normal(size=(4, 2)) @ CONFLICTING[:2],
    "lengths over 24 decades": CONFLICTING * np.array([1e-12, 1, 1, 1e12])[:, None],
}
# Their random numbers are drawn in the precision of the gradients, and others in another precision.
DRAWS_IN_PRECISION = {"graddrop", "random_loss_weighting"}


def promising(promise):
    return [name for name in NAMES if promise in methods.card(name).promises]


def several_steps(run, count=4, start=0):
    """Steps over two epochs and more, with losses that move."""
    updates = []
    for k in range(start, start + count):
        rng = np.random.default_rng(k)
        losses = np.array([0.5, 1.0, 2.0, 0.7]) * rng.uniform(0.7, 1.0, 4)
        updates.append(run.step(CONFLICTING * rng.uniform(0.5, 1.5, (4, 1)), losses, epoch=k, after=0.9 * losses))
    return np.array(updates)


@pytest.mark.parametrize("name", NAMES)
class TestEveryMethod:
    def test_one_task_follows_its_gradient(self, name):
        step = methods.combine(built(name), [[2.0, -1.0]])
        assert step[0] > 0
        np.testing.assert_allclose(step, step[0] / 2 * np.array([2.0, -1.0]), rtol=1e-9)

    def test_finite_on_degenerate_gradients_of_any_scale(self, name):
        for kind, rows in DEGENERATE.items():
            for scale in (1e-12, 1.0, 1e12):
                assert np.isfinite(first_step(name, rows * scale)).all(), (kind, scale)

    def test_twenty_tasks_of_rank_four(self, name):
        for scale in (1e-12, 1.0, 1e12):
            assert np.isfinite(first_step(name, np.repeat(CONFLICTING, 5, 0) * scale)).all(), scale

    def test_graph_equals_eager(self, name):
        np.testing.assert_allclose(
            first_step(name, CONFLICTING), methods.combine(built(name), CONFLICTING), rtol=1e-9, atol=1e-12
        )

    def test_an_absent_task_has_no_say(self, name):
        present = [True, False, True, True]
        tampered = CONFLICTING.copy()
        tampered[1] *= -100
        np.testing.assert_allclose(
            first_step(name, tampered, present=present), first_step(name, CONFLICTING, present=present), rtol=1e-9
        )

    def test_the_state_of_an_absent_task_stands_still(self, name):
        run = Run(name, 4, 30)
        several_steps(run, 2)
        before = {key: run[key] for key in run.state}
        run.step(2 * CONFLICTING, [1.0, 9.0, 0.2, 0.3], present=[True, False, True, True], epoch=2)
        for key, value in before.items():
            if value.shape[:1] == (4,):
                np.testing.assert_array_equal(run[key][1], value[1], err_msg=key)

    def test_one_present_task_is_single_task_training(self, name):
        alone = 0 if "has_a_main_task" in methods.card(name).promises else 2
        got = first_step(name, CONFLICTING, present=[task == alone for task in range(4)])
        np.testing.assert_allclose(got, methods.combine(built(name), CONFLICTING[[alone]]), rtol=1e-9)

    def test_no_present_task_is_no_update(self, name):
        run = Run(name, 4, 30)
        before = {key: run[key] for key in run.state}
        np.testing.assert_array_equal(run.step(CONFLICTING, present=[False] * 4), np.zeros(30))
        for key, value in before.items():
            np.testing.assert_array_equal(run[key], value, err_msg=key)

    def test_description_rebuilds_it(self, name):
        assert methods.get(methods.registry.describe(built(name))) == built(name)

    def test_same_seed_same_result(self, name):
        np.testing.assert_array_equal(
            first_step(name, CONFLICTING, seed=5), first_step(name, CONFLICTING, seed=5)
        )

    def test_stops_and_goes_on_as_if_it_had_not(self, name, tmp_path):
        straight, stopped = Run(name, 4, 30), Run(name, 4, 30)
        expected = several_steps(straight, 6)
        several_steps(stopped, 3)
        np.savez(tmp_path / "state.npz", **{key: stopped[key] for key in stopped.state})
        resumed = Run(name, 4, 30)
        resumed.state = dict(np.load(tmp_path / "state.npz"))
        resumed.steps = 3
        np.testing.assert_array_equal(several_steps(resumed, 3, start=3), expected[3:])

    def test_one_trace_serves_every_step(self, name):
        """Whatever is present, however many steps and epochs are done: the trace that all tests here share."""
        run = Run(name, 4, 30)
        several_steps(run, 2)
        run.step(CONFLICTING, present=[True, False, True, False], epoch=7, seed=3)
        assert compiled(run.method, 4, 30, run.dtype, False).experimental_get_tracing_count() == 1

    def test_card_names_a_source_or_is_older_than_its_papers(self, name):
        card = methods.card(name)
        assert card.title
        assert "http" in card.paper or "http" in card.note


@pytest.mark.parametrize(
    "name", [name if built(name).needs <= {"losses_after"} else pytest.param(name, marks=pytest.mark.slow)
             for name in NAMES]
)
def test_float32_agrees_with_float64(name):
    single, double = (Run(name, 4, 30, dtype=dtype) for dtype in (np.float32, np.float64))
    for one, two in zip(several_steps(single), several_steps(double), strict=True):
        assert one.dtype == np.float32
        assert np.isfinite(one).all()
        if name not in DRAWS_IN_PRECISION:
            np.testing.assert_allclose(one, two, atol=2e-4 * np.linalg.norm(two))


def test_promises_are_those_that_are_tested():
    """A misspelt promise would hold nothing to account."""
    tested = {
        "sums_to_tasks", "ignores_row_scale", "ignores_loss_scale", "has_a_main_task", "permutation_equivariant",
        "non_conflicting", "stationary", "identity_without_conflict", "identity_without_sign_conflict",
        "ends_on_the_pareto_set", "ends_on_the_ray",
    }
    assert {promise for name in NAMES for promise in methods.card(name).promises} == tested


@pytest.mark.parametrize("name", promising("sums_to_tasks"))
def test_weights_sum_to_the_number_of_tasks(name):
    """So that equal weights are the plain sum, and learning rates of methods compare."""
    np.testing.assert_allclose(methods.combine(built(name), [[2.0, -1.0]]), [2.0, -1.0], rtol=1e-9)
    np.testing.assert_allclose(first_step(name, CONFLICTING[[0, 0, 0, 0]]), 4 * CONFLICTING[0], rtol=1e-9)


@pytest.mark.parametrize("name", promising("ignores_row_scale"))
def test_scaling_one_loss_changes_nothing(name):
    scaled = CONFLICTING * np.array([1e-3, 1.0, 50.0, 1e4])[:, None]
    np.testing.assert_allclose(first_step(name, scaled), first_step(name, CONFLICTING), rtol=1e-5)


@pytest.mark.parametrize("name", promising("ignores_loss_scale"))
def test_multiplying_a_loss_by_a_constant_changes_nothing(name):
    scales, losses = np.array([1e-3, 1.0, 50.0, 1e4]), np.array([0.5, 1.0, 2.0, 0.1])
    np.testing.assert_allclose(
        first_step(name, CONFLICTING * scales[:, None], losses=losses * scales),
        first_step(name, CONFLICTING, losses=losses), rtol=1e-5,
    )


@pytest.mark.parametrize("name", promising("has_a_main_task"))
def test_a_batch_without_the_main_task_changes_nothing(name):
    got = first_step(name, CONFLICTING, present=[False, True, True, True])
    np.testing.assert_array_equal(got, np.zeros(30))


@pytest.mark.parametrize("name", promising("permutation_equivariant"))
def test_order_of_tasks_does_not_matter(name):
    losses, order = np.array([0.5, 1.0, 2.0, 0.7]), [2, 0, 3, 1]
    np.testing.assert_allclose(
        first_step(name, CONFLICTING[order], losses=losses[order]), first_step(name, CONFLICTING, losses=losses),
        rtol=1e-8, atol=1e-10,
    )


@pytest.mark.parametrize("name", promising("non_conflicting"))
def test_update_opposes_no_task(name):
    for seed in range(20):
        rows = np.zeros((4, 30))
        rows[:, :6] = np.random.default_rng(seed).normal(size=(4, 6))
        step = first_step(name, rows)
        assert (rows @ step).min() >= -1e-8 * np.linalg.norm(step) * np.linalg.norm(rows, axis=1).max()


@pytest.mark.parametrize("name", promising("stationary"))
def test_update_vanishes_at_a_pareto_stationary_point(name):
    rows = np.r_[CONFLICTING[:3], -np.array([[0.2, 0.3, 0.5]]) @ CONFLICTING[:3]]
    assert np.linalg.norm(first_step(name, rows)) < 1e-7


@pytest.mark.parametrize("name", promising("identity_without_conflict"))
def test_without_conflict_it_is_the_plain_sum(name):
    rows = np.abs(CONFLICTING)
    np.testing.assert_allclose(first_step(name, rows), rows.sum(0), rtol=1e-9)


@pytest.mark.parametrize("name", promising("identity_without_sign_conflict"))
def test_without_sign_conflict_it_is_the_plain_sum(name):
    rows = np.abs(CONFLICTING) * np.sign(CONFLICTING[:1])
    np.testing.assert_allclose(first_step(name, rows), rows.sum(0), rtol=1e-9)


@pytest.mark.parametrize("name", [n for n in NAMES if built(n).takes_preference])
def test_preference_changes_the_update(name):
    equal = first_step(name, CONFLICTING)
    skewed = first_step(name, CONFLICTING, preference=np.array([8, 1, 1, 1]) / 11)
    assert np.linalg.norm(equal - skewed) > 1e-3


@pytest.mark.parametrize("name", [n for n in NAMES if not built(n).takes_preference])
def test_a_method_that_takes_no_preference_does_not_read_it(name):
    skewed = first_step(name, CONFLICTING, preference=np.array([8, 1, 1, 1]) / 11)
    np.testing.assert_array_equal(first_step(name, CONFLICTING), skewed)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"jacobian": [1.0, 2.0]}, r"shape \[T, P\]"),
        ({"jacobian": [[1.0, np.nan]]}, "not finite"),
        ({"losses": [1.0]}, "2 finite numbers"),
        ({"preference": [-1.0, 2.0]}, ">= 0"),
        ({"preference": [0.0, 0.0]}, "not all 0"),
    ],
)
def test_combine_refuses_bad_input(kwargs, message):
    with pytest.raises(ValueError, match=message):
        methods.combine("mgda", **{"jacobian": [[1.0, 2.0], [3.0, 4.0]], **kwargs})


def test_unknown_names_and_options_are_explained():
    with pytest.raises(ValueError, match="'pcgrd'; did you mean 'pcgrad'"):
        methods.get("pcgrd")
    with pytest.raises(TypeError, match=r"'graddrop' has no option leek; it accepts: leak"):
        methods.get("graddrop", leek=0.5)
    with pytest.raises(ValueError, match="leak must lie in"):
        methods.get("graddrop", leak=2.0)


@pytest.mark.parametrize("name", [n for n in NAMES if built(n).positive_preference])
def test_a_preference_of_zero_is_refused_by_ratio_methods(name):
    with pytest.raises(ValueError, match="divides by the preference"):
        methods.combine(built(name), CONFLICTING, preference=[1, 0, 1, 1])
