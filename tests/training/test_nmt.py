"""NMT: the closed-form optima of its quadratics, and what holds in every step."""

import functools
import math

import numpy as np
import pytest

from tfmtl2r import MultiTaskRanker, Task, methods
from tfmtl2r._backend import keras, tf
from tfmtl2r.experiment import Experiment
from tfmtl2r.methods.base import Signals
from tfmtl2r.methods.deciding import weigh
from tfmtl2r.methods.wrappers import Every

INF = math.inf


@functools.cache
def _descent(method, matrices, targets, lr):
    """A traced function ``(start, steps, scales) -> (x, state)`` for the losses ``s_t / 2 |A_t x - b_t|^2``."""
    rows, offsets = (tf.constant(np.array(value), tf.float64) for value in (matrices, targets))
    tasks, dims = rows.shape[0], rows.shape[2]
    vector = tf.TensorSpec([dims], tf.float64)

    @tf.function(autograph=False, jit_compile=True,  # compiled, a step of this tiny loop takes a microsecond
                 input_signature=[vector, tf.TensorSpec([], tf.int64), tf.TensorSpec([tasks], tf.float64)])
    def run(start, steps, scales):
        def step(k, x, state):
            residual = tf.linalg.matvec(rows, x) - offsets
            signals = Signals(
                losses=0.5 * scales * tf.reduce_sum(residual**2, axis=1),
                preference=tf.fill([tasks], tf.constant(1 / tasks, tf.float64)),
                present=tf.ones([tasks], tf.bool), step=k, epoch=tf.zeros([], tf.int64),
            )
            weights, state = weigh(method, signals, state)
            gradients = scales[:, None] * tf.linalg.matvec(rows, residual, transpose_a=True)
            # Weights sum to T here and to 1 in the closed forms.
            return k + 1, x - lr / tasks * tf.linalg.matvec(gradients, weights, transpose_a=True), state

        state = {key: tf.constant(value) for key, value in method.initial_state(tasks).items()}
        _, x, state = tf.while_loop(lambda k, x, state: k < steps, step, (tf.zeros([], tf.int64), start, state))
        return x, state.get("multipliers", x)

    return run


def descend(method, problem, start, steps, lr=0.1, scales=None):
    run = _descent(method, *problem, lr)
    x, lam = run(np.array(start, float), steps, np.ones(len(problem[0])) if scales is None else np.array(scales))
    return x.numpy(), lam.numpy().astype(float)


# A: L1 = x^2 / 2, L2 = ((x - 1)^2 + (y - 1)^2) / 2, L1 <= .02.
A = ((((1.0, 0.0), (0.0, 0.0)), ((1.0, 0.0), (0.0, 1.0))), ((0.0, 0.0), (1.0, 1.0)))
INACTIVE = (A[0], ((0.0, 0.0), (0.0, 1.0)))
B = ((((1.0,),), ((1.0,),)), ((0.0,), (1.0,)))
# C: L1 = (x - 1)^2 / 2, L2 = (x + y - 3)^2 / 2, L3 = |theta|^2 / 2.
NONE = (0.0, 0.0, 0.0)
C = ((((1.0, 0.0, 0.0), NONE, NONE), ((1.0, 1.0, 0.0), NONE, NONE),
      ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))), ((1.0, 0.0, 0.0), (3.0, 0.0, 0.0), NONE))


class TestOracleA:
    @pytest.mark.product
    @pytest.mark.parametrize("start", [(0.0, 0.0), (3.0, -2.0)])
    @pytest.mark.parametrize(("rescale", "damping"), [(True, 0.0), (True, 1.0), (False, 0.0), (False, 1.0), (True, 10)])
    def test_the_optimum_and_its_multiplier(self, start, rescale, damping):
        method = methods.get("nmt", bounds=(0.02, INF), rescale=rescale, damping=damping)
        x, lam = descend(method, A, start, 20000)
        np.testing.assert_allclose(x, [0.2, 1.0], atol=1e-4)
        np.testing.assert_allclose(lam, [4.0, 0.0], atol=1e-2)  # so that the weights are .8 and .2
        slackness = lam[0] * (0.5 * x[0] ** 2 - 0.02)
        assert abs(slackness) < 1e-4

    def test_strong_damping_overflows_without_the_re_scaling(self):
        method = methods.get("nmt", bounds=(0.02, INF), rescale=False, damping=10.0)
        x, _ = descend(method, A, (3.0, -2.0), 20000)
        assert not np.isfinite(x).all()

    def test_an_inactive_constraint_has_no_multiplier(self):
        x, lam = descend(methods.get("nmt", bounds=(0.02, INF)), INACTIVE, (0.0, 0.0), 500)
        np.testing.assert_allclose(x, [0.0, 1.0], atol=1e-6)
        np.testing.assert_array_equal(lam, 0)


@pytest.mark.parametrize(
    ("steps", "x", "lam"), [(1000, 0.0865, 10.61), (10000, 0.0405, 23.71), (100000, 0.0188, 52.15)]
)
def test_oracle_b_without_slater_the_multiplier_grows_for_ever(steps, x, lam):
    found, multipliers = descend(methods.get("nmt", bounds=(0.0, INF)), B, (0.0,), steps)
    np.testing.assert_allclose(found, [x], rtol=5e-3)
    np.testing.assert_allclose(multipliers[0], lam, rtol=5e-3)
    np.testing.assert_allclose(found, 1 / (1 + multipliers[0]), rtol=1e-2)


def test_oracle_b_diverges_without_the_re_scaling():
    found, _ = descend(methods.get("nmt", bounds=(0.0, INF), rescale=False), B, (0.0,), 100000)
    assert not np.isfinite(found).all()


class TestOracleC:
    OPTIMUM, MULTIPLIERS = (1.1, 1.8, 0.0), (7.0, 18.0, 0.0)

    def test_three_tasks(self):
        x, lam = descend(methods.get("nmt", bounds=(0.005, 0.005, INF)), C, (1.0, 2.0, 0.5), 40000)
        np.testing.assert_allclose(x, self.OPTIMUM, atol=2e-3)
        np.testing.assert_allclose(lam, self.MULTIPLIERS, rtol=1e-2)
        np.testing.assert_allclose(0.5 * x @ x, 2.225, rtol=1e-3)

    def test_equal_weights_sacrifice_the_middle_task(self):
        x, _ = descend(methods.get("linear_scalarization"), C, (1.0, 2.0, 0.5), 2000)
        np.testing.assert_allclose(x, [1.0, 1.0, 0.0], atol=1e-6)  # losses (0, .5, 1)

    @pytest.mark.parametrize("scale", [0.5, 2.0])
    def test_scaling_the_goal_scales_the_multipliers_only(self, scale):
        x, lam = descend(methods.get("nmt", bounds=(0.005, 0.005, INF)), C, (1.0, 2.0, 0.5), 60000,
                         scales=(1.0, 1.0, scale))
        np.testing.assert_allclose(x, self.OPTIMUM, atol=3e-3)
        np.testing.assert_allclose(lam, scale * np.array(self.MULTIPLIERS), rtol=2e-2)

    @pytest.mark.parametrize("scale", [0.5, 2.0])
    def test_scaling_a_constraint_divides_its_multiplier(self, scale):
        x, lam = descend(methods.get("nmt", bounds=(0.005 * scale, 0.005, INF)), C, (1.0, 2.0, 0.5), 60000,
                         scales=(scale, 1.0, 1.0))
        np.testing.assert_allclose(x, self.OPTIMUM, atol=3e-3)
        np.testing.assert_allclose(lam, np.array(self.MULTIPLIERS) / [scale, 1, 1], rtol=2e-2)


class Run:
    """NMT over several steps on losses that are given."""

    def __init__(self, tasks, **options):
        self.method = methods.get("nmt", **options)
        self.state = {key: tf.constant(value) for key, value in self.method.initial_state(tasks).items()}

    def __getitem__(self, key):
        return self.state[key].numpy()

    def step(self, losses, epoch=0, present=None):
        losses = np.asarray(losses, float)
        present = np.ones(len(losses), bool) if present is None else np.array(present)
        signals = Signals(
            losses=tf.constant(np.where(present, losses, 0.0)), preference=None, present=tf.constant(present),
            epoch=tf.constant(epoch, tf.int64),
        )
        weights, self.state = weigh(self.method, signals, self.state)
        return weights.numpy()


class TestEveryStep:
    def test_a_multiplier_follows_the_sign_of_its_violation_and_is_never_negative(self, rng):
        run = Run(2, bounds=(0.5, INF), dual_lr=0.3)
        for loss in rng.uniform(0.0, 1.0, 25):
            before = run["multipliers"][0]
            run.step([loss, 1.0])
            after = run["multipliers"][0]
            assert after >= 0
            if loss > 0.5:
                assert after > before
            elif before > 0:
                assert after < before
            else:
                assert after == 0

    def test_the_formula_over_two_steps(self):
        run = Run(3, bounds=(0.5, 1.0, INF), dual_lr=2.0)
        np.testing.assert_allclose(run.step([0.75, 0.5, 3.0]), [0, 0, 3])  # the multipliers were still 0
        np.testing.assert_allclose(run["multipliers"], [0.5, 0, 0])
        np.testing.assert_allclose(run.step([1.0, 1.5, 3.0]), 3 * np.array([0.5, 0, 1]) / 1.5)
        np.testing.assert_allclose(run["multipliers"], [1.5, 1.0, 0])
        np.testing.assert_allclose(run["violations"], [0.5, 0.5, 0])

    def test_weights_sum_to_the_tasks_however_large_a_multiplier(self):
        run = Run(3, bounds=(0.0, 0.0, INF), dual_lr=1e6)
        for _ in range(3):
            weights = run.step([1.0, 2.0, 3.0])
            np.testing.assert_allclose(weights.sum(), 3, rtol=1e-9)
            assert (weights >= 0).all()  # a convex combination times T: no longer than the longest gradient times T
        assert weights[2] < 1e-5
        plain = Run(3, bounds=(0.0, 0.0, INF), dual_lr=10.0, rescale=False)
        for _ in range(2):
            weights = plain.step([1.0, 2.0, 3.0])
        np.testing.assert_allclose(weights, 3 * np.array([10.0, 20.0, 1.0]))

    def test_no_gradient_through_multipliers_and_bounds(self):
        run = Run(2, bounds=(0.5, INF), damping=2.0)
        losses = tf.constant([1.0, 1.0], tf.float64)
        present, epoch = tf.constant([True, True]), tf.constant(0, tf.int64)
        signals = Signals(losses=losses, preference=None, present=present, epoch=epoch)
        watched = [tf.constant([0.7, 0.0]), tf.constant([0.5, INF])]
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([losses, *watched])
            state = {**run.state, "multipliers": watched[0], "bounds": watched[1]}
            value, _ = run.method.objective(losses, signals, state)
        hat = 0.7 + 2.0 * 0.5
        np.testing.assert_allclose(tape.gradient(value, losses), 2 * np.array([hat, 1.0]) / (1 + hat), rtol=1e-6)
        assert tape.gradient(value, watched) == [None, None]

    def test_momentum_and_cap(self):
        run = Run(2, bounds=(0.5, INF), momentum=0.75, max_multiplier=0.3)
        run.step([1.5, 1.0])
        np.testing.assert_allclose(run["violations"][0], 0.25)
        np.testing.assert_allclose(run["multipliers"][0], 0.25)
        run.step([1.5, 1.0])
        np.testing.assert_allclose(run["violations"][0], 0.75 * 0.25 + 0.25)
        np.testing.assert_allclose(run["multipliers"][0], 0.3, rtol=1e-6)


class TestStagesByEpoch:
    def test_levels_train_in_turn_and_what_they_reached_is_their_bound(self):
        run = Run(3, priorities=(2, 1, 3), tolerance=0.1, stage_epochs=2)
        for epoch, losses in enumerate([[9, 4, 9], [9, 2, 9]]):
            np.testing.assert_allclose(run.step(np.array(losses) + 0.5, epoch), [0, 3, 0])
            np.testing.assert_allclose(run.step(np.array(losses) - 0.5, epoch), [0, 3, 0])
        np.testing.assert_allclose(run.step([8, 2.2, 8], 2), [3, 0, 0])  # the mean of the second epoch was 2
        np.testing.assert_allclose(run["bounds"], [INF, 2.2, INF], rtol=1e-6)
        run.step([8, 3.2, 8], 3)
        np.testing.assert_allclose(run["multipliers"], [0, 1, 0], rtol=1e-5)
        np.testing.assert_allclose(run.step([8, 2.2, 8], 3), [1.5, 1.5, 0], rtol=1e-5)
        run.step([1, 2.2, 1], 4)
        np.testing.assert_allclose(run["bounds"], [1.1 * 8, 2.2, INF], rtol=1e-6)  # and stays where it is
        np.testing.assert_array_equal(run["goals"], [0, 0, 1])
        run.step([1, 1, 1], 50)
        np.testing.assert_allclose(run["bounds"], [1.1 * 8, 2.2, INF], rtol=1e-6)

    def test_equal_priorities_are_one_goal(self):
        run = Run(3, priorities=(1, 2, 1), stage_epochs=1)
        np.testing.assert_allclose(run.step([1.0, 2.0, 3.0]), [1.5, 0, 1.5])
        np.testing.assert_allclose(run.step([1.0, 2.0, 3.0], present=[True, True, False]), [2, 0, 0])
        np.testing.assert_allclose(run.step([1.0, 2.0, 3.0], epoch=1), [0, 3, 0])
        np.testing.assert_allclose(run["bounds"], [1.01, INF, 3.03], rtol=1e-6)

    def test_a_task_that_was_absent_gets_its_bound_later(self):
        run = Run(2, stage_epochs=1, tolerance=0.0)
        run.step([2.0, 5.0])
        np.testing.assert_allclose(run.step([9.0, 5.0], 1, present=[False, True]), [0, 1])
        np.testing.assert_array_equal(run["bounds"], [INF, INF])
        run.step([3.0, 5.0], 1)
        np.testing.assert_allclose(run["bounds"], [2.0, INF])

    def test_without_stages_goals_are_left_to_a_driver(self):
        run = Run(2, stage_epochs=0)
        for epoch in (0, 7):
            np.testing.assert_allclose(run.step([1.0, 1.0], epoch), [2, 0])
        assert np.isinf(run["bounds"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priorities": (1, 2), "bounds": (1.0, INF)}, "priorities or bounds, not both"),
        ({"priorities": (0, 1)}, "whole numbers from 1"), ({"priorities": (1.5, 2)}, "whole numbers from 1"),
        ({"bounds": (1.0, 2.0)}, "infinite for at least one"), ({"bounds": (math.nan, INF)}, "infinite for at"),
        ({"bounds": (-INF, INF)}, "infinite for at least one"),
        ({"tolerance": -0.1}, "tolerance must be at least 0"), ({"tolerance": math.nan}, "tolerance must be at least"),
        ({"damping": -1.0}, "damping must be at least 0"), ({"stage_epochs": -1}, "stage_epochs must be at least 0"),
        ({"dual_lr": 0.0}, "dual_lr must be above 0"), ({"max_multiplier": 0.0}, "max_multiplier must be above 0"),
        ({"momentum": 1.0}, "momentum must lie in"),
    ],
)
def test_options_are_validated(options, message):
    with pytest.raises(ValueError, match=message):
        methods.get("nmt", **options)


@pytest.mark.parametrize("option", ["priorities", "bounds"])
def test_one_number_per_task(option):
    values = {"priorities": (1, 2), "bounds": (1.0, INF)}[option]
    with pytest.raises(ValueError, match=f"2 {option} for 3 tasks"):
        methods.combine(methods.get("nmt", **{option: values}), np.eye(3))


class TestTaskPriority:
    def tasks(self, *priorities):
        return [Task(name, priority=priority) for name, priority in zip("abc", priorities, strict=True)]

    def test_the_tasks_priorities_are_the_default(self):
        model = MultiTaskRanker("shared_bottom", self.tasks(2, 1, 2))
        model.compile(keras.optimizers.SGD(), method="nmt")
        assert model.method.priorities == (2, 1, 2)
        assert methods.registry.describe(model.method)["priorities"] == [2, 1, 2]
        np.testing.assert_array_equal(model.method.levels(3), [1, 0, 1])

    def test_explicit_ones_and_other_methods_are_left_alone(self):
        for method in (methods.get("nmt", priorities=(3, 2, 1)), methods.get("nmt", bounds=(1, 1, INF)),
                       methods.get("mgda")):
            assert method.for_tasks(self.tasks(2, 1, 2)) is method
        listed = methods.get("nmt")
        assert listed.for_tasks(self.tasks(None, None, None)) is listed
        np.testing.assert_array_equal(listed.levels(3), [0, 1, 2])

    def test_all_tasks_or_none_have_one(self):
        with pytest.raises(ValueError, match="task 'b' has no priority but others have one"):
            methods.get("nmt").for_tasks(self.tasks(1, None, 2))


def test_too_few_epochs_for_the_last_task_are_refused(tmp_path):
    nmt = methods.get("nmt")
    assert [nmt.epochs_needed(tasks) for tasks in (1, 2, 3)] == [1, 3, 5]
    assert methods.get("nmt", priorities=(1, 1, 2), stage_epochs=3).epochs_needed(3) == 4
    assert methods.get("nmt", bounds=(0.5, INF)).epochs_needed(2) == 1
    assert Every("nmt", steps=2).epochs_needed(3) == 5
    data = {"name": "synthetic_mslr", "num_lists": 8, "num_tasks": 3, "num_features": 4}
    experiment = Experiment("short", data=data, method="nmt", directory=str(tmp_path),
                            training={"epochs": 4, "patience": 0})
    with pytest.raises(ValueError, match=r"short: NMT takes 5 epochs to come to the last of 3 tasks, but epochs is 4"):
        experiment.run(verbose=0)


def test_what_a_task_reached_is_its_mean_over_lists():
    method = methods.get("nmt", stage_epochs=1, tolerance=0.0)
    state = method.initial_state(2)
    for epoch, loss, lists in ((0, 1.0, 64.0), (0, 9.0, 1.0), (1, 1.0, 64.0)):
        seen = Signals(
            losses=tf.constant([loss, loss]), preference=tf.constant([0.5, 0.5]), present=tf.constant([True, True]),
            count=tf.constant([lists, lists]), epoch=tf.constant(epoch, tf.int64),
        )
        _, state = weigh(method, seen, state)
    np.testing.assert_allclose(state["bounds"], [(64 + 9) / 65, INF], rtol=1e-6)


@pytest.mark.slow
def test_early_stopping_waits_for_the_last_task(tmp_path):
    data = {"name": "synthetic_mslr", "num_lists": 8, "num_tasks": 2, "num_features": 4, "max_length": 6}
    experiment = Experiment("patient", data=data, method="nmt", directory=str(tmp_path),
                            architecture={"name": "shared_bottom", "units": [4], "head_units": []},
                            training={"epochs": 8, "patience": 1, "telemetry_every": 0})
    model, card = experiment.run(verbose=0)
    kept = np.flatnonzero(card.history["kept"])
    assert len(kept) == 1
    assert kept[0] >= 2  # the third epoch is the first in which the second task is the goal
    assert model.method_state.read()[0]["goals"].numpy().tolist() == [0.0, 1.0]
