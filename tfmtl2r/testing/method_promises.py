"""Checks of the promises of a method's card. Names and formulas of promises are in :mod:`tfmtl2r.promises`."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from tfmtl2r import methods
from tfmtl2r.methods.base import Method
from tfmtl2r.testing.checks import close, require
from tfmtl2r.testing.fronts import PROBLEMS, adam, descent, distance_to_stationarity, on_the_ray, sgd, unit
from tfmtl2r.testing.method import CONFLICTING, LOSSES, SUITE, TASKS, WIDTH, gradients_needed
from tfmtl2r.testing.steps import first_step

SCALES = np.array([1e-3, 1.0, 50.0, 1e4])
NOISE = 0.3
"""The length of the noise in a gradient, as a share of the gradient's length."""
LOSS_SCALES = ((1.0, 1.0), (1e-3, 1e-3), (50.0, 50.0), (1.0, 10.0), (10.0, 1.0))
PREFERENCES = ((0.5, 0.5), (0.8, 0.2), (0.2, 0.8))


@SUITE.add("sums_to_tasks")
def sums_to_tasks(method: Method) -> None:
    """Equal gradients give the plain sum."""
    close(methods.combine(method, [[2.0, -1.0]]), [2.0, -1.0], "the only gradient [2, -1]", rtol=1e-9)
    close(first_step(method, CONFLICTING[[0] * TASKS]), TASKS * CONFLICTING[0], "four equal gradients", rtol=1e-9)


@SUITE.add("ignores_row_scale")
def ignores_row_scale(method: Method) -> None:
    """Scaling gradients does not change the update."""
    scaled = first_step(method, CONFLICTING * SCALES[:, None])
    close(scaled, first_step(method, CONFLICTING), "gradients times (1e-3, 1, 50, 1e4)", rtol=1e-5)


@SUITE.add("ignores_loss_scale")
def ignores_loss_scale(method: Method) -> None:
    """Scaling losses and their gradients does not change the update."""
    losses = np.array([0.5, 1.0, 2.0, 0.1])
    scaled = first_step(method, CONFLICTING * SCALES[:, None], losses=losses * SCALES)
    close(scaled, first_step(method, CONFLICTING, losses=losses), "losses times (1e-3, 1, 50, 1e4)", rtol=1e-5)


@SUITE.add("has_a_main_task")
def has_a_main_task(method: Method) -> None:
    """A batch without the main task changes nothing."""
    got = first_step(method, CONFLICTING, present=[False, True, True, True])
    close(got, 0.0, "a batch without task 0")


@SUITE.add("permutation_equivariant")
def permutation_equivariant(method: Method) -> None:
    """The order of the tasks does not matter."""
    order = [2, 0, 3, 1]
    permuted = first_step(method, CONFLICTING[order], losses=LOSSES[order])
    close(permuted, first_step(method, CONFLICTING, losses=LOSSES), f"tasks in the order {order}", 1e-8, 1e-10)


@SUITE.add("non_conflicting")
def non_conflicting(method: Method) -> None:
    """The update opposes no gradient, whether or not the gradients are linearly dependent."""
    _opposes_none(method, TASKS - 1)
    _opposes_none(method, 6)


@SUITE.add("non_conflicting_if_independent")
def non_conflicting_if_independent(method: Method) -> None:
    """The update opposes no gradient if the gradients are linearly independent."""
    _opposes_none(method, 6)


def _opposes_none(method: Method, rank: int) -> None:
    for seed in range(20):
        rows = np.zeros((TASKS, WIDTH))
        rows[:, :rank] = np.random.default_rng(seed).normal(size=(TASKS, rank))
        step = first_step(method, rows)
        least, longest = (rows @ step).min(), np.linalg.norm(rows, axis=1).max()
        # At a stationary point, the step is a rounding error of the longest gradient.
        allowed = 1e-8 * max(np.linalg.norm(step), 1e-4 * longest) * longest
        given = f"normal gradients of rank {min(rank, TASKS)} and seed {seed}"
        require(least >= -allowed, given, "no <d, g_t> below 0", rows @ step)


@SUITE.add("stationary")
def stationary(method: Method) -> None:
    """The update vanishes at a Pareto stationary point."""
    rows = np.r_[CONFLICTING[:3], -np.array([[0.2, 0.3, 0.5]]) @ CONFLICTING[:3]]
    length = np.linalg.norm(first_step(method, rows))
    require(length < 1e-7, "gradients with g_4 = -.2 g_1 - .3 g_2 - .5 g_3", "an update of length 0", length)


@SUITE.add("identity_without_conflict")
def identity_without_conflict(method: Method) -> None:
    """Gradients that do not conflict are added up."""
    rows = np.abs(CONFLICTING)
    close(first_step(method, rows), rows.sum(0), "gradients of positive numbers", rtol=1e-9)


@SUITE.add("identity_without_sign_conflict")
def identity_without_sign_conflict(method: Method) -> None:
    """Gradients that agree on the sign of each coordinate are added up."""
    rows = np.abs(CONFLICTING) * np.sign(CONFLICTING[:1])
    close(first_step(method, rows), rows.sum(0), "gradients of equal signs", rtol=1e-9)


OPTIMIZERS = ((sgd, 0.02), (adam, 0.05))
"""Optimizers as in training, which do not normalise the update, with the learning rates of the first step."""


def _ends_on_the_pareto_set(
    method: Method, name: str, steps: int = 400, rate: float = 0.15, optimizer: Any = unit, decay: float = 0.05
) -> None:
    problem = PROBLEMS[name]
    for start in problem.starts:
        x = descent(method, name, steps, rate, optimizer, decay)(np.array(start), np.full(2, 0.5), np.ones(2)).numpy()
        given = f"the losses {name!r} from {start} with {optimizer.__name__}"
        require(problem.inside(x), given, "an end on the Pareto set", x)
        distance = distance_to_stationarity(problem, x)
        require(distance < 0.05, given, "a distance to stationarity below 0.05", distance)


@SUITE.add("ends_on_the_pareto_set")
def ends_on_the_pareto_set(method: Method) -> None:
    """Descent ends on the Pareto set of two bowls, one steeper than the other."""
    _ends_on_the_pareto_set(method, "quadratic")
    for optimizer, rate in OPTIMIZERS:
        _ends_on_the_pareto_set(method, "quadratic", 500, rate, optimizer, 0.02)


@SUITE.add("ends_on_the_pareto_set", slow=lambda method: True)
def ends_on_a_concave_front(method: Method) -> None:
    """Descent ends on the Pareto set of Fonseca and Fleming, whose front is concave."""
    _ends_on_the_pareto_set(method, "fonseca_fleming")


@SUITE.add("ends_on_the_pareto_set", slow=lambda method: True)
def ends_on_a_convex_front(method: Method) -> None:
    """Descent ends on the Pareto set of a smooth ZDT1, whose front is convex."""
    _ends_on_the_pareto_set(method, "zdt")


@SUITE.add("ends_on_the_pareto_set", slow=lambda method: True)
def ends_near_the_pareto_set_with_noise(method: Method) -> None:
    """Descent with Adam along noisy gradients ends near the Pareto set, at several scales of the losses."""
    run = descent(method, "quadratic", 1000, 0.05, adam, 0.02, NOISE)
    for scales in LOSS_SCALES:
        for start in PROBLEMS["quadratic"].starts:
            x = run(np.array(start), np.full(2, 0.5), np.array(scales)).numpy()
            given = f"noisy gradients of losses times {scales} from {start}"
            distance = distance_to_stationarity(PROBLEMS["quadratic"], x)
            require(distance < 0.15, given, "a distance to stationarity below 0.15", distance)


def _ends_near_the_ray_with_noise(method: Method, relative: bool) -> None:
    start = np.array(PROBLEMS["bowls"].starts[0])
    first = PROBLEMS["bowls"].losses(start).numpy()
    for optimizer, rate, all_scales in ((adam, 0.05, LOSS_SCALES), (sgd, 0.02, ((1.0, 1.0),))):
        run = descent(method, "bowls", 2000, rate, optimizer, 0.02, NOISE)
        for preference, scales in itertools.product(PREFERENCES, all_scales):
            end = run(start, np.array(preference), np.array(scales)).numpy()
            given = f"noisy gradients, the preference {preference}, losses times {scales} and {optimizer.__name__}"
            close(end, on_the_ray(preference, 1 / first if relative else scales), given, atol=0.08)


@SUITE.add("ends_on_the_ray", slow=lambda method: True,
           when=lambda method, promises: "ignores_loss_scale" not in promises)
def ends_near_the_ray_with_noise(method: Method) -> None:
    """Descent along noisy gradients ends near the ray, at several scales of the losses."""
    _ends_near_the_ray_with_noise(method, relative=False)


@SUITE.add("ends_on_the_ray", slow=lambda method: True, when=lambda method, promises: "ignores_loss_scale" in promises)
def ends_near_the_relative_ray_with_noise(method: Method) -> None:
    """Descent along noisy gradients ends near the ray of the losses divided by their values at the start."""
    _ends_near_the_ray_with_noise(method, relative=True)


def _ends_on_the_ray(method: Method, relative: bool) -> None:
    start = np.array(PROBLEMS["bowls"].starts[0])
    first = PROBLEMS["bowls"].losses(start).numpy()
    # A scalarisation can have a kink along its ray. Steps then oscillate across the kink, and decrease slowly.
    run = descent(method, "bowls", 400 if gradients_needed(method) else 2000)
    for preference in PREFERENCES:
        for scales in ((1e-3, 1e-3), (1.0, 1.0), (10.0, 10.0), (1.0, 10.0)):
            end = run(start, np.array(preference), np.array(scales)).numpy()
            expected = on_the_ray(preference, 1 / first if relative else scales)
            close(end, expected, f"the preference {preference} and losses times {scales}", atol=0.03)
        expected = on_the_ray(preference, 1 / first if relative else (1.0, 1.0))
        for optimizer, rate in OPTIMIZERS:
            with_it = descent(method, "bowls", 1000, rate, optimizer, 0.02)
            end = with_it(start, np.array(preference), np.ones(2)).numpy()
            close(end, expected, f"the preference {preference} with {optimizer.__name__}", atol=0.03)


@SUITE.add("ends_on_the_ray", when=lambda method, promises: "ignores_loss_scale" not in promises)
def ends_on_the_ray(method: Method) -> None:
    """Descent ends where preference times loss is equal for both tasks, at every scale of the losses."""
    _ends_on_the_ray(method, relative=False)


@SUITE.add("ends_on_the_ray", when=lambda method, promises: "ignores_loss_scale" in promises)
def ends_on_the_relative_ray(method: Method) -> None:
    """Descent ends where preference times loss, divided by the loss at the start, is equal for both tasks."""
    _ends_on_the_ray(method, relative=True)
