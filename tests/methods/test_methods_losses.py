"""Scalarisations: values written as their formulas, and what their state does over several steps."""

import dataclasses

import numpy as np
import pytest

from tfmtl2r import methods
from tfmtl2r._backend import tf
from tfmtl2r.methods.base import Scalarisation, Signals
from tfmtl2r.methods.deciding import standing_still, weigh


def softmax(x):
    e = np.exp(np.asarray(x) - np.max(x))
    return e / e.sum()


def weights_of(method, losses, preference=None, seed=0):
    """Task weights of the first step."""
    return methods.combine(method, np.eye(len(losses)), losses, preference, seed)


class Run:
    """A method over several steps."""

    def __init__(self, method, tasks, preference=None, dtype=tf.float64):
        self.method = methods.get(method)
        self.dtype = dtype
        self.state = {key: tf.constant(value) for key, value in self.method.initial_state(tasks).items()}
        self.preference = np.full(tasks, 1 / tasks) if preference is None else np.asarray(preference)
        self.steps = 0

    def signals(self, losses, epoch=0, present=None):
        present = np.ones(len(losses), bool) if present is None else np.asarray(present)
        return Signals(
            losses=tf.constant(np.where(present, losses, 0.0), self.dtype),
            preference=tf.constant(self.preference, self.dtype), present=tf.constant(present),
            step=tf.constant(self.steps, tf.int64), epoch=tf.constant(epoch, tf.int64),
            seed=tf.constant([0, self.steps], tf.int32),
        )

    def step(self, losses, **kwargs):
        weights, self.state = weigh(self.method, self.signals(losses, **kwargs), self.state)
        self.steps += 1
        return weights.numpy()

    def learn(self, losses, losses_after, **kwargs):
        given = self.signals(losses, **kwargs)
        after = self.method.learn(tf.constant(losses_after, self.dtype), given, self.state)
        self.state = standing_still(given.present, self.state, after, "learn")

    def __getitem__(self, key):
        return self.state[key].numpy()


LOSSES = np.array([0.5, 2.0, 4.0])
SCALARISATIONS = [name for name in methods.names() if isinstance(methods.get(name), Scalarisation)]


@pytest.mark.parametrize(
    ("name", "options", "losses", "preference", "expected"),
    [
        ("stl", {"task": 1}, LOSSES, None, [0, 1, 0]),
        ("uw", {}, LOSSES, None, [0.5, 0.5, 0.5]),
        ("imtl_l", {}, LOSSES, None, [1, 1, 1]),
        ("scale_invariant", {}, LOSSES, None, 1 / LOSSES),
        ("scale_invariant", {}, LOSSES, [0.5, 0.3, 0.2], 3 * np.array([0.5, 0.3, 0.2]) / LOSSES),
        ("gls", {}, LOSSES, None, 4 ** (1 / 3) / (3 * LOSSES)),
        ("wc", {}, [1, 2, 1], None, [0, 3, 0]),
        ("wc", {}, [1, 2, 2], None, [0, 1.5, 1.5]),
        ("wc", {}, [1, 2, 1], [0.7, 0.2, 0.1], [9 * 0.7, 0, 0]),
        ("soft_wc", {"mu": 0.1}, [0.2, 1, 0.7], [0.5, 0.3, 0.2],
         9 * np.array([0.5, 0.3, 0.2]) * softmax(np.array([0.1, 0.3, 0.14]) / 0.1)),
        ("stch", {"warmup": 0, "mu": 0.5}, LOSSES, [0.5, 0.3, 0.2],
         3 * softmax(np.log([0.5, 0.3, 0.2]) / 0.5) / LOSSES),
        ("stch", {}, LOSSES, [0.5, 0.3, 0.2], 3 * np.array([0.5, 0.3, 0.2]) / LOSSES),
        ("pbi", {}, [1, 2], None, [1 - 5, 1 + 5]),
        ("pbi", {"theta": 0.0}, [1, 2], [0.8, 0.2], np.sqrt(2 / 17) * np.array([1, 4])),
        ("pbi", {}, [1, 4], [0.8, 0.2], np.sqrt(2 / 17) * np.array([1, 4])),
        ("cosmos", {"lam": 0.0}, [1, 2], [0.8, 0.2], [1.6, 0.4]),
        ("cosmos", {"lam": 3.0}, [1, 4], [0.8, 0.2], [1.6, 0.4]),
        ("cosmos", {}, [1, 2], None, 1 - 2 * (np.array([1, 1]) / np.sqrt(10) - 3 / np.sqrt(10) * np.array([1, 2]) / 5)),
        ("dwa", {}, LOSSES, None, [1, 1, 1]),
        ("ec", {}, LOSSES, None, [3, 0, 0]),
        ("famo", {}, LOSSES, None, 3 / LOSSES / np.sum(1 / LOSSES)),
    ],
)
def test_weights_of_the_first_step(name, options, losses, preference, expected):
    np.testing.assert_allclose(weights_of(methods.get(name, **options), losses, preference), expected, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "options", "losses", "preference", "expected"),
    [
        ("gls", {}, LOSSES, None, 1.587401),
        ("soft_wc", {"mu": 0.1}, [0.2, 1, 0.7], [0.5, 0.3, 0.2], 9 * 0.329060),
        ("pbi", {}, [1, 2], None, np.sqrt(2) * 5.656854),
        ("cosmos", {}, [1, 2], None, 2 * 0.551317),
        ("imtl_l", {}, [0.5, 4], None, 4.5),
    ],
)
def test_objective_of_the_first_step(name, options, losses, preference, expected):
    run = Run(methods.get(name, **options), len(losses), preference)
    given = run.signals(losses)
    value, _ = run.method.objective(given.losses, given, run.state)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.product
@pytest.mark.parametrize("name", SCALARISATIONS)
def test_weights_are_finite_for_any_scale_of_the_losses_in_float32(name):
    for losses in ([1e-12, 1e-3, 1e12], [1e-12] * 3, [1e12] * 3, [0.0, 1.0, 2.0], [0.0] * 3):
        run = Run(name, 3, dtype=tf.float32)
        for epoch in range(6):
            assert np.isfinite(run.step(losses, epoch=epoch)).all()
        assert all(np.isfinite(run[key][run[key] < np.inf]).all() for key in run.state)


def test_stl_refuses_a_task_that_does_not_exist():
    with pytest.raises(ValueError, match="task 2 does not exist, there are 2"):
        methods.combine(methods.get("stl", task=2), np.eye(2))


def test_uw_settles_at_the_log_of_the_loss():
    run = Run(methods.get("uw", lr=0.5), 3)
    first = run.step(LOSSES)
    np.testing.assert_allclose(run["log_variance"], -0.5 * 0.5 * (1 - LOSSES), rtol=1e-6)
    for _ in range(300):
        last = run.step(LOSSES)
    np.testing.assert_allclose(run["log_variance"], np.log(LOSSES), atol=1e-5)
    np.testing.assert_allclose(last, 0.5 / LOSSES, rtol=1e-5)
    np.testing.assert_allclose(first, 0.5)


def test_imtl_l_brings_every_loss_to_one():
    losses = np.array([0.5, 4.0])
    run = Run(methods.get("imtl_l", lr=0.3), 2)
    for _ in range(300):
        last = run.step(losses)
    np.testing.assert_allclose(run["log_scale"], -np.log(losses), atol=1e-5)
    np.testing.assert_allclose(last * losses, 1, rtol=1e-5)
    given = run.signals(losses)
    np.testing.assert_allclose(run.method.objective(given.losses, given, run.state)[0], 2 + np.log(2.0), rtol=1e-6)


def test_learned_scales_survive_a_huge_loss():
    for name, key in (("uw", "log_variance"), ("imtl_l", "log_scale")):
        run = Run(name, 2)
        run.step([1e9, 1.0])
        assert 0 < abs(run[key][0]) <= 0.1 + 1e-6


def test_rlw_draws_from_the_simplex_and_is_the_plain_sum_in_expectation():
    run, losses = Run("rlw", 4), [1.0, 2.0, 3.0, 4.0]

    @tf.function(autograph=False)
    def draw(seeds):
        given = run.signals(losses)
        return tf.map_fn(lambda seed: weigh(run.method, dataclasses.replace(given, seed=seed), {})[0], seeds,
                         fn_output_signature=tf.float64)

    draws = draw(tf.stack([tf.zeros(1500, tf.int32), tf.range(1500)], 1)).numpy()
    assert (draws > 0).all()
    np.testing.assert_allclose(draws.sum(1), 4)
    np.testing.assert_allclose(draws.mean(0), 1, atol=4 * draws.std() / np.sqrt(len(draws)))
    assert np.abs(run.step(np.ones(4)) - run.step(np.ones(4))).max() > 1e-3


def test_dwa_weighs_by_the_ratio_of_the_last_two_epochs():
    """Epoch means, also with several batches per epoch."""
    run = Run(methods.get("dwa", temperature=0.7), 3)
    means = np.array([[4.0, 2.0, 1.0], [2.0, 1.8, 1.0]])
    for epoch in (0, 1):
        for share in (0.5, 1.5):
            np.testing.assert_allclose(run.step(share * means[epoch], epoch=epoch), 1)
    expected = 3 * softmax(means[1] / means[0] / 0.7)
    for _ in range(3):
        np.testing.assert_allclose(run.step(LOSSES, epoch=2), expected, rtol=1e-6)
    assert expected[2] > expected[1] > expected[0]
    np.testing.assert_allclose(run.step(means[1], epoch=3), 3 * softmax(LOSSES / means[1] / 0.7), rtol=1e-6)


def test_dwa_task_that_misses_an_epoch_is_compared_with_its_own_last_ones():
    run = Run("dwa", 2)
    run.step([4.0, 1.0], epoch=0)
    run.step([1.0, 1.0], epoch=1)
    for _ in range(2):
        np.testing.assert_allclose(run.step([1.0, 9.0], epoch=2, present=[True, False]), [1, 0])
    run.step([1.0, 1.0], epoch=3, present=[True, False])
    np.testing.assert_allclose(run.step([1.0, 1.0], epoch=4), [1, 1], rtol=1e-6)  # ratios 1/1 and 1/1
    assert run["epoch"].tolist() == [4, 4]


def test_ec_multipliers_rise_while_violated_and_return_to_zero_with_slack():
    run = Run(methods.get("ec", bounds=(np.inf, 0.5, np.inf), mu=0.2, momentum=0.5), 3)
    seen = []
    for _ in range(10):
        weights = run.step([1.0, 1.0, 1.0])
        seen.append(run["multipliers"][1])
    np.testing.assert_allclose(seen, 0.2 * np.arange(1, 11), rtol=1e-5)
    np.testing.assert_allclose(weights, 3 * np.array([1, 2, 0]) / 3, rtol=1e-5)
    run.step([1.0, 0.25, 1.0])
    np.testing.assert_allclose(run["average"][1], 0.625)
    falling = []
    for _ in range(40):
        weights = run.step([1.0, 0.25, 1.0])
        falling.append(run["multipliers"][1])
    assert (np.diff(falling[3:]) <= 0).all()
    assert falling[-1] == 0
    np.testing.assert_allclose(weights, [3, 0, 0])


def test_ec_finds_the_constrained_optimum():
    """min (x - 1)^2 subject to (x + 1)^2 <= 1 ends at x = 0, where the bound is active."""
    run, x = Run(methods.get("ec", bounds=(np.inf, 1.0), momentum=0.0), 2), 0.9
    for _ in range(300):
        weights = run.step([(x - 1) ** 2, (x + 1) ** 2])
        x -= 0.1 * (weights @ [2 * (x - 1), 2 * (x + 1)])
    assert abs(x) < 1e-3
    np.testing.assert_allclose(run["multipliers"][1], 1, atol=1e-2)


def test_ec_bounds_can_be_set_between_steps_and_main_be_another_task():
    run = Run(methods.get("ec", main=1), 2)
    np.testing.assert_allclose(run.step([1.0, 1.0]), [0, 2])
    run.state["bounds"] = tf.constant([0.5, np.inf], tf.float32)
    assert run.step([1.0, 1.0])[0] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"bounds": (1.0,)}, "1 bounds for 2 tasks"), ({"main": 2}, "main task 2 does not exist")],
)
def test_ec_refuses_what_does_not_fit_the_tasks(options, message):
    with pytest.raises(ValueError, match=message):
        methods.combine(methods.get("ec", **options), np.eye(2))


def test_stch_bounds_the_maximum_from_above():
    for mu in (0.05, 1.0):
        run = Run(methods.get("stch", mu=mu, warmup=1), 3, [0.5, 0.3, 0.2])
        run.step(LOSSES, epoch=0)
        losses = LOSSES * [0.5, 0.9, 0.7]
        given = run.signals(losses, epoch=1)
        smooth = run.method.objective(given.losses, given, run.state)[0].numpy() / 3
        largest = np.log(3 * np.array([0.5, 0.3, 0.2]) * [0.5, 0.9, 0.7]).max()
        assert largest <= smooth + 1e-12 <= largest + mu * np.log(3) + 1e-9


def test_stch_takes_the_nadir_from_the_last_warmup_epoch():
    run = Run(methods.get("stch", warmup=2, mu=0.3), 2)
    np.testing.assert_allclose(run.step([9.0, 9.0], epoch=0), [1 / 9, 1 / 9])
    for losses in ([1.0, 4.0], [3.0, 8.0]):
        np.testing.assert_allclose(run.step(losses, epoch=1), 1 / np.array(losses))
    np.testing.assert_allclose(run["nadir"], [2, 6])
    expected = 2 * softmax(np.log([1 / 2, 5 / 6]) / 0.3) / [1, 5]
    for epoch in (2, 3):
        np.testing.assert_allclose(run.step([1.0, 5.0], epoch=epoch), expected, rtol=1e-6)
    np.testing.assert_allclose(run["nadir"], [2, 6])


def test_soft_wc_lies_between_wc_and_ls():
    losses, preference = [1.0, 0.4, 0.8], [0.3, 0.5, 0.2]
    sharp, flat = methods.get("soft_wc", mu=1e-3), methods.get("soft_wc", mu=1e4)
    np.testing.assert_allclose(weights_of(sharp, losses, preference), weights_of("wc", losses, preference), atol=1e-8)
    np.testing.assert_allclose(weights_of(flat, losses, preference), weights_of("ls", losses, preference), rtol=1e-3)


@pytest.mark.parametrize("name", ["stch", "wc", "soft_wc"])
def test_a_preference_of_zero_is_finite(name):
    assert np.isfinite(weights_of(name, LOSSES, [1.0, 1.0, 0.0])).all()


def test_famo_gives_less_to_a_task_whose_log_loss_fell_more():
    run = Run(methods.get("famo", lr=0.1, gamma=0.01), 3)
    run.step(LOSSES)
    after = LOSSES * [0.5, 0.9, 1.0]
    run.learn(LOSSES, after)
    share, gained = np.full(3, 1 / 3), -np.log([0.5, 0.9, 1.0])
    expected = -0.1 * share * (gained - share @ gained)
    np.testing.assert_allclose(run["logits"], expected, rtol=1e-5)
    assert run["logits"][0] < run["logits"][1] < run["logits"][2]
    weights = run.step(LOSSES)
    np.testing.assert_allclose(weights, 3 * softmax(expected) / LOSSES / (softmax(expected) / LOSSES).sum(), rtol=1e-6)
    before = run["logits"]
    run.learn(LOSSES, LOSSES)
    np.testing.assert_allclose(run["logits"], (1 - 0.1 * 0.01) * before, rtol=1e-5)


def test_famo_ignores_absent_tasks_when_it_learns():
    run = Run("famo", 3)
    run.state["logits"] = tf.constant([0.1, 5.0, -0.1])
    run.learn(LOSSES, LOSSES / 2, present=[True, False, True])
    np.testing.assert_allclose(run["logits"][1], 5)
    np.testing.assert_allclose(run["logits"][[0, 2]], 0.1 * np.array([1, -1]) * (1 - 0.025 * 1e-3), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("stl", {"task": -1}, "task must be >= 0"),
        ("uw", {"lr": -1.0}, "lr must be >= 0"),
        ("imtl_l", {"lr": float("nan")}, "lr must be >= 0"),
        ("dwa", {"temperature": 0.0}, "temperature must be above 0"),
        ("soft_wc", {"mu": 0.0}, "mu must be above 0"),
        ("stch", {"mu": -1.0}, "mu must be above 0"),
        ("stch", {"warmup": -1}, "warmup must be >= 0"),
        ("pbi", {"theta": -1.0}, "theta must be >= 0"),
        ("cosmos", {"lam": -1.0}, "lam must be >= 0"),
        ("ec", {"bounds": (0.0, 1.0)}, "bounds must be above 0"),
        ("ec", {"main": -1}, "main must be >= 0"),
        ("ec", {"mu": 0.0}, "mu must be above 0"),
        ("ec", {"momentum": 1.0}, "momentum must lie in"),
        ("famo", {"lr": -1.0}, "lr and gamma must be >= 0"),
    ],
)
def test_options_are_validated(name, options, message):
    with pytest.raises(ValueError, match=message):
        methods.get(name, **options)


@pytest.mark.parametrize("name", ["scale_invariant", "gls", "stch", "famo", "cosmos"])
def test_methods_that_need_positive_losses_say_so(name):
    with pytest.raises(ValueError, match="needs losses above 0"):
        methods.combine(name, np.eye(2), losses=[1.0, 0.0])
