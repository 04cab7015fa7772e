"""Checks of balancing methods: properties of all methods. :mod:`tfmtl2r.testing.method_promises` adds the promises."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from tfmtl2r import methods
from tfmtl2r.errors import InputError
from tfmtl2r.linalg import settling
from tfmtl2r.methods.base import Method
from tfmtl2r.registry import Card
from tfmtl2r.testing.checks import Check, Suite, close, finite, require
from tfmtl2r.testing.steps import Run, built, first_step

TASKS, WIDTH = 4, 30
_RNG = np.random.default_rng(3)
CONFLICTING = _RNG.normal(size=(TASKS, WIDTH)) - 0.4 * _RNG.normal(size=(1, WIDTH))
"""Four gradients of which some oppose each other."""
# All of one shape, so that one trace per method serves them all.
DEGENERATE = {
    "conflict": CONFLICTING,
    "twins": CONFLICTING[[0, 0, 1, 2]],
    "opposed": CONFLICTING[[0, 0, 1, 1]] * np.array([1, -1, 1, -1])[:, None],
    "zero row": CONFLICTING * np.array([1, 0, 1, 1])[:, None],
    "nothing": 0 * CONFLICTING,
    "rank two": _RNG.normal(size=(TASKS, 2)) @ CONFLICTING[:2],
    "lengths over 24 decades": CONFLICTING * np.array([1e-12, 1, 1, 1e12])[:, None],
}
LOSSES = np.array([0.5, 1.0, 2.0, 0.7])
SKEWED = np.array([8, 1, 1, 1]) / 11


def card_of(method: Method) -> Card | None:
    """The card of a method, or None for a method whose class is not registered."""
    try:
        return methods.card(methods.registry.describe(method)["name"])
    except InputError:
        return None


def _promises(method: Method) -> Collection[str]:
    card = card_of(method)
    return card.promises if card else ()


SUITE = Suite("method", built, _promises)


def check_method(
    method: Method, *, only: str | Collection[str] | None = None, promises: Collection[str] | None = None
) -> list[str]:
    """Checks the properties of all methods, and the promises of the method's card.

    Args:
        method: a name, a mapping ``{"name": ..., **options}`` or a method.
        only: names of the checks to run; by default all checks that apply.
        promises: promises to check, in place of the promises of the card.

    Returns:
        The names of the checks that were run.

    Raises:
        AssertionError: for the first check that fails; the message contains check, method, input, expected and found
            result.
        InputError: for a name in ``only`` that is not a check of this method.

    >>> import dataclasses
    >>> from tfmtl2r._backend import tf
    >>> from tfmtl2r.methods.base import GramMethod
    >>> @dataclasses.dataclass(frozen=True)
    ... class Shortest(GramMethod):  # weights the tasks by the inverse length of their gradients
    ...     def weigh(self, signals, state):
    ...         squares = tf.linalg.diag_part(signals.gram)
    ...         return tf.math.divide_no_nan(tf.ones_like(squares), tf.sqrt(squares)), state
    >>> check_method(Shortest(), only=["finite_updates", "ignores_row_scale"], promises=["ignores_row_scale"])
    ['finite_updates', 'ignores_row_scale']
    >>> check_method(Shortest(), only="sums_to_tasks", promises=["sums_to_tasks"])
    Traceback (most recent call last):
    AssertionError: Shortest() fails sums_to_tasks: given the only gradient [2, -1] at (0,): expected [ 2., -1.], ...
    """
    return SUITE.run(method, only, promises)


def method_checks(
    method: Method,
    expected_failures: Mapping[str, str] | None = None,
    *,
    only: str | Collection[str] | None = None,
    marks: Callable[[Check], Collection[Any]] | None = None,
) -> list[Any]:
    """The checks of a method, one parameter each, for ``@pytest.mark.parametrize("check", method_checks("mine"))``.

    The test calls the parameter: ``check()``.

    Args:
        method: a name, a mapping ``{"name": ..., **options}`` or a method.
        expected_failures: name of a check -> the reason why the method fails it. If this check passes, the test fails.
        only: names of the checks; by default all checks that apply.
        marks: returns further pytest marks for a check, for example ``pytest.mark.slow`` if ``check.slow``.

    Raises:
        InputError: for a name that is not a check of this method, or an expected failure without a reason.
    """
    return SUITE.parameters(method, expected_failures, only, marks)


def several_steps(run: Run, count: int = 4, start: int = 0) -> np.ndarray:
    """The updates ``[count, P]`` of steps over several epochs, with changing losses."""
    updates = []
    for k in range(start, start + count):
        rng = np.random.default_rng(k)
        losses = LOSSES * rng.uniform(0.7, 1.0, TASKS)
        updates.append(run.step(CONFLICTING * rng.uniform(0.5, 1.5, (TASKS, 1)), losses, epoch=k, after=0.9 * losses))
    return np.array(updates)


@SUITE.add()
def one_task(method: Method) -> None:
    """The update of a single task is its gradient times a positive number."""
    step = methods.combine(method, [[2.0, -1.0]])
    require(step[0] > 0, "the only gradient [2, -1]", "a step along it", step)
    close(step, step[0] / 2 * np.array([2.0, -1.0]), "the only gradient [2, -1]", rtol=1e-9)


@SUITE.add()
def finite_updates(method: Method) -> None:
    """Degenerate gradients of any scale give a finite update."""
    for kind, rows in DEGENERATE.items():
        for scale in (1e-12, 1.0, 1e12):
            finite(first_step(method, rows * scale), f"gradients with {kind}, times {scale:g}")


@SUITE.add()
def twenty_tasks(method: Method) -> None:
    """Twenty gradients of rank four, at any scale, give a finite update."""
    for scale in (1e-12, 1.0, 1e12):
        finite(first_step(method, np.repeat(CONFLICTING, 5, 0) * scale), f"20 gradients of rank 4, times {scale:g}")


@SUITE.add()
def graph_equals_eager(method: Method) -> None:
    """A traced step and :func:`tfmtl2r.methods.combine` agree."""
    expected = methods.combine(method, CONFLICTING)
    close(first_step(method, CONFLICTING), expected, "a traced step", rtol=1e-9, atol=1e-12)


@SUITE.add()
def absent_task_has_no_influence(method: Method) -> None:
    """The gradient of a task without labels in the batch does not change the update."""
    present, tampered = [True, False, True, True], CONFLICTING.copy()
    tampered[1] *= -100
    expected = first_step(method, CONFLICTING, present=present)
    close(first_step(method, tampered, present=present), expected, "another gradient of absent task 1", rtol=1e-9)


def _one_present(method: Method, alone: int) -> None:
    got = first_step(method, CONFLICTING, present=[task == alone for task in range(TASKS)])
    expected = methods.combine(method, CONFLICTING[[alone]])
    close(got, expected, f"a batch where only task {alone} is present", rtol=1e-9)


@SUITE.add(when=lambda method, promises: "has_a_main_task" not in promises)
def one_present_task(method: Method) -> None:
    """A batch with one present task trains as if there were no other task."""
    _one_present(method, 2)


@SUITE.add("has_a_main_task")
def main_task_alone(method: Method) -> None:
    """A batch where only the main task is present trains as if there were no other task."""
    _one_present(method, 0)


@SUITE.add()
def no_present_task(method: Method) -> None:
    """A batch without present tasks gives an update of 0 and does not change the state."""
    run = Run(method, TASKS, WIDTH)
    before = {key: run[key] for key in run.state}
    close(run.step(CONFLICTING, present=[False] * TASKS), 0.0, "a batch without present tasks")
    for key, value in before.items():
        close(run[key], value, f"a batch without present tasks, the state {key!r}")


@SUITE.add()
def description_rebuilds_it(method: Method) -> None:
    """The method's description, which files contain, gives an equal method."""
    described = methods.registry.describe(method)
    require(methods.get(described) == method, f"the description {described}", method, methods.get(described))


@SUITE.add()
def same_seed_same_update(method: Method) -> None:
    """All randomness is a function of ``Signals.seed``."""
    close(first_step(method, CONFLICTING, seed=5), first_step(method, CONFLICTING, seed=5), "seed 5 twice")


@SUITE.add()
def resumes(method: Method) -> None:
    """Training that continues from a stored state gives the same updates as training without a stop."""
    straight, stopped, resumed = (Run(method, TASKS, WIDTH) for _ in range(3))
    expected = several_steps(straight, 6)
    several_steps(stopped, 3)
    resumed.state = {key: stopped[key] for key in stopped.state}
    resumed.steps = 3
    close(several_steps(resumed, 3, start=3), expected[3:], "the state after 3 steps in a new run")


@SUITE.add()
def one_trace(method: Method) -> None:
    """One trace serves every step, for all present tasks and numbers of epochs."""
    run = Run(method, TASKS, WIDTH)
    several_steps(run, 2)
    run.step(CONFLICTING, present=[True, False, True, False], epoch=7, seed=3)
    close(run.traced.experimental_get_tracing_count(), 1, "several steps, the number of traces")


@SUITE.add()
def declares_its_solver(method: Method) -> None:
    """A method declares ``iterates`` if, and only if, its step runs a solver that repeats rounds."""
    with settling.watched() as solvers:
        methods.combine(method, CONFLICTING)
    require(method.iterates == bool(solvers.solved), f"iterates = {method.iterates}",
            "iterates = True with a solver, and False without", f"{len(solvers.solved)} runs of a solver")


@SUITE.add()
def card_names_a_source(method: Method) -> None:
    """The card has a title, and a link in its paper, or a note on what the method does."""
    card = methods.card(methods.registry.describe(method)["name"])
    require(card.title, "the card", "a title", card)
    require("http" in card.paper or card.note, "the card", "a link in paper, or a note", card)


def gradients_needed(method: Method) -> bool:
    """Whether a method reads gradients and not the losses alone."""
    return not method.needs <= {"losses_after"}


@SUITE.add(slow=gradients_needed)
def finite_in_float32(method: Method) -> None:
    """Gradients and losses of float32 give finite updates of float32."""
    for update in several_steps(Run(method, TASKS, WIDTH, dtype=np.float32)):
        require(update.dtype == np.float32, "gradients of float32", "an update of float32", update.dtype)
        finite(update, "gradients of float32")


@SUITE.add(slow=gradients_needed)
def float32_agrees_with_float64(method: Method) -> None:
    """Updates in float32 differ from updates in float64 by at most 2e-4 of their length."""
    single, double = (several_steps(Run(method, TASKS, WIDTH, dtype=dtype)) for dtype in (np.float32, np.float64))
    for k, (one, two) in enumerate(zip(single, double, strict=True)):
        close(one, two, f"gradients of float32, step {k}", atol=2e-4 * float(np.linalg.norm(two)))


@SUITE.add(when=lambda method, promises: method.takes_preference)
def preference_changes_the_update(method: Method) -> None:
    """A method that declares ``takes_preference`` reads the preference."""
    gap = np.linalg.norm(first_step(method, CONFLICTING) - first_step(method, CONFLICTING, preference=SKEWED))
    require(gap > 1e-3, "the preference (8, 1, 1, 1) / 11", "another update than with equal preference", gap)


@SUITE.add(when=lambda method, promises: not method.takes_preference)
def preference_is_not_read(method: Method) -> None:
    """A method that does not declare ``takes_preference`` ignores the preference."""
    skewed = first_step(method, CONFLICTING, preference=SKEWED)
    close(skewed, first_step(method, CONFLICTING), "the preference (8, 1, 1, 1) / 11")
