"""Every method, whatever it is called, keeps the promises of all methods and those of its own card."""

import dataclasses

import numpy as np
import pytest

from tfmtl2r import methods
from tfmtl2r._backend import tf
from tfmtl2r.methods._base import Signals
from tfmtl2r.methods._combine import merge, weigh

NAMES = methods.names()
RNG = np.random.default_rng(3)
CONFLICTING = RNG.normal(size=(4, 30)) - 0.4 * RNG.normal(size=(1, 30))


def promising(promise):
    return [name for name in NAMES if promise in methods.card(name).promises]


def signals(rows, losses=None, present=None, seed=0):
    tasks = len(rows)
    return Signals(
        losses=tf.constant(np.ones(tasks) if losses is None else losses),
        preference=tf.fill([tasks], tf.constant(1.0 / tasks, tf.float64)),
        present=tf.constant([True] * tasks if present is None else present),
        gram=tf.constant(rows @ rows.T),
        cross=tf.constant(rows @ rows.T),
        step=tf.constant(0, tf.int64),
        epoch=tf.constant(0, tf.int64),
        seed=tf.constant([seed, 0], tf.int32),
    )


def update(method, rows, **kwargs):
    """One step as the trainer computes it, with a present mask."""
    given = signals(rows, **kwargs)
    state = {key: tf.constant(value) for key, value in method.initial_state(*rows.shape).items()}
    if "rows" in method.needs:
        return merge(method, tf.constant(rows), given, state)[0].numpy()
    return weigh(method, given, state)[0].numpy() @ rows


@pytest.mark.parametrize("name", NAMES)
class TestEveryMethod:
    def test_one_task_follows_its_gradient(self, name):
        step = methods.combine(name, [[2.0, -1.0]])
        assert step[0] > 0
        np.testing.assert_allclose(step, step[0] / 2 * np.array([2.0, -1.0]), rtol=1e-9)

    @pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
    @pytest.mark.parametrize(
        "rows",
        [CONFLICTING, CONFLICTING[[0, 0]], np.r_[CONFLICTING[:1], -CONFLICTING[:1]],
         np.r_[CONFLICTING[:2], np.zeros((1, 30))], np.repeat(CONFLICTING, 5, 0)],
        ids=["conflict", "twins", "opposed", "zero_row", "twenty_rank_deficient"],
    )
    def test_finite_on_degenerate_gradients(self, name, rows, scale):
        assert np.isfinite(methods.combine(name, rows * scale)).all()

    def test_graph_equals_eager(self, name):
        method = methods.get(name)
        eager = methods.combine(method, CONFLICTING)
        given = signals(CONFLICTING)

        @tf.function(autograph=False)
        def step(gram, rows):
            state = {key: tf.constant(value) for key, value in method.initial_state(4, 30).items()}
            if "rows" in method.needs:
                return merge(method, rows, dataclasses.replace(given, gram=gram), state)[0]
            weights, _ = weigh(method, dataclasses.replace(given, gram=gram), state)
            return tf.linalg.matvec(rows, weights, transpose_a=True)

        graph = step(given.gram, tf.constant(CONFLICTING)).numpy()
        np.testing.assert_allclose(graph, eager, rtol=1e-9, atol=1e-12)

    def test_an_absent_task_has_no_say(self, name):
        method = methods.get(name)
        present = [True, False, True, True]
        tampered = CONFLICTING.copy()
        tampered[1] *= -100
        np.testing.assert_allclose(
            update(method, tampered, present=present), update(method, CONFLICTING, present=present), rtol=1e-9
        )

    def test_one_present_task_is_single_task_training(self, name):
        alone = 0 if "has_a_main_task" in methods.card(name).promises else 2
        got = update(methods.get(name), CONFLICTING, present=[task == alone for task in range(4)])
        np.testing.assert_allclose(got, methods.combine(name, CONFLICTING[[alone]]), rtol=1e-9)

    def test_no_present_task_is_no_update(self, name):
        got = update(methods.get(name), CONFLICTING, present=[False] * 4)
        np.testing.assert_array_equal(got, np.zeros(30))

    def test_description_rebuilds_it(self, name):
        method = methods.get(name)
        assert methods.get(methods.registry.describe(method)) == method

    def test_same_seed_same_result(self, name):
        np.testing.assert_array_equal(
            methods.combine(name, CONFLICTING, seed=5), methods.combine(name, CONFLICTING, seed=5)
        )

    def test_card_names_a_source_or_is_older_than_its_papers(self, name):
        card = methods.card(name)
        assert card.title
        assert "http" in card.paper or "http" in card.note


@pytest.mark.parametrize("name", promising("sums_to_tasks"))
def test_weights_sum_to_the_number_of_tasks(name):
    """So that equal weights are the plain sum, and learning rates of methods compare."""
    np.testing.assert_allclose(methods.combine(name, [[2.0, -1.0]]), [2.0, -1.0], rtol=1e-9)
    np.testing.assert_allclose(methods.combine(name, CONFLICTING[[0, 0, 0]]), 3 * CONFLICTING[0], rtol=1e-9)


@pytest.mark.parametrize("name", promising("ignores_row_scale"))
def test_scaling_one_loss_changes_nothing(name):
    scaled = CONFLICTING * np.array([1e-3, 1.0, 50.0, 1e4])[:, None]
    np.testing.assert_allclose(methods.combine(name, scaled), methods.combine(name, CONFLICTING), rtol=1e-5)


@pytest.mark.parametrize("name", promising("ignores_loss_scale"))
def test_multiplying_a_loss_by_a_constant_changes_nothing(name):
    scales, losses = np.array([1e-3, 1.0, 50.0, 1e4]), np.array([0.5, 1.0, 2.0, 0.1])
    np.testing.assert_allclose(
        methods.combine(name, CONFLICTING * scales[:, None], losses * scales),
        methods.combine(name, CONFLICTING, losses), rtol=1e-5,
    )


@pytest.mark.parametrize("name", promising("has_a_main_task"))
def test_a_batch_without_the_main_task_changes_nothing(name):
    got = update(methods.get(name), CONFLICTING, present=[False, True, True, True])
    np.testing.assert_array_equal(got, np.zeros(30))


@pytest.mark.parametrize("name", promising("permutation_equivariant"))
def test_order_of_tasks_does_not_matter(name):
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(
        methods.combine(name, CONFLICTING[order]), methods.combine(name, CONFLICTING), rtol=1e-8, atol=1e-10
    )


@pytest.mark.parametrize("name", promising("non_conflicting"))
def test_update_opposes_no_task(name):
    for seed in range(20):
        rows = np.random.default_rng(seed).normal(size=(5, 8))
        step = methods.combine(name, rows)
        assert (rows @ step).min() >= -1e-8 * np.linalg.norm(step) * np.linalg.norm(rows, axis=1).max()


@pytest.mark.parametrize("name", promising("stationary"))
def test_update_vanishes_at_a_pareto_stationary_point(name):
    rows = np.random.default_rng(1).normal(size=(3, 7))
    rows = np.r_[rows, -np.array([[0.2, 0.3, 0.5]]) @ rows]
    assert np.linalg.norm(methods.combine(name, rows)) < 1e-7


@pytest.mark.parametrize("name", promising("identity_without_conflict"))
def test_without_conflict_it_is_the_plain_sum(name):
    rows = np.abs(CONFLICTING)
    np.testing.assert_allclose(methods.combine(name, rows), rows.sum(0), rtol=1e-9)


@pytest.mark.parametrize("name", promising("identity_without_sign_conflict"))
def test_without_sign_conflict_it_is_the_plain_sum(name):
    rows = np.abs(CONFLICTING) * np.sign(CONFLICTING[:1])
    np.testing.assert_allclose(methods.combine(name, rows), rows.sum(0), rtol=1e-9)


@pytest.mark.parametrize("name", [n for n in NAMES if methods.get(n).takes_preference])
def test_preference_changes_the_update(name):
    equal, skewed = methods.combine(name, CONFLICTING), methods.combine(name, CONFLICTING, preference=[8, 1, 1, 1])
    assert np.linalg.norm(equal - skewed) > 1e-3


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


@pytest.mark.parametrize("name", [n for n in NAMES if methods.get(n).positive_preference])
def test_a_preference_of_zero_is_refused_by_ratio_methods(name):
    with pytest.raises(ValueError, match="divides by the preference"):
        methods.combine(name, CONFLICTING, preference=[1, 0, 1, 1])
