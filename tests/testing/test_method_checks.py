"""A method that breaks one rule is caught by the check of that rule: a check that cannot fail is worthless."""

import dataclasses
import itertools
import subprocess
import sys

import numpy as np
import pytest

from tfmtl2r._backend import tf
from tfmtl2r.linalg import min_norm
from tfmtl2r.methods.base import GramMethod, JacobianMethod, Scalarisation
from tfmtl2r.promises import PROMISES
from tfmtl2r.testing import check_method, method_checks
from tfmtl2r.testing.method import SUITE

PLAIN = ("sums_to_tasks", "permutation_equivariant")


@dataclasses.dataclass(frozen=True)
class Wrong(GramMethod):
    """Plain sums, apart from what ``weights`` does to them; subclasses break one rule each."""

    def weigh(self, signals, state):
        return self.weights(signals), state

    def weights(self, signals):
        return tf.ones_like(signals.losses)


class ByPosition(Wrong):
    def weights(self, signals):
        return tf.range(1, signals.losses.shape[0] + 1, dtype=signals.losses.dtype)


class Mean(Wrong):
    def weights(self, signals):
        return tf.fill(signals.losses.shape, tf.constant(1 / signals.losses.shape[0], signals.losses.dtype))


class LooksAtTheAbsent(Wrong):
    def weights(self, signals):
        return tf.fill(signals.losses.shape, 1.0 + tf.reduce_sum(tf.linalg.diag_part(signals.gram)))


class Ascends(Wrong):
    def weights(self, signals):
        return -tf.ones_like(signals.losses)


class Overflows(Wrong):
    def weights(self, signals):
        return tf.linalg.diag_part(signals.gram) ** 20


class ReadsThePreference(Wrong):
    def weights(self, signals):
        return signals.preference * signals.losses.shape[0]


class ForgetsThePreference(Wrong):
    takes_preference = True
    positive_preference = True


class RoundsInFloat32(Wrong):
    def weights(self, signals):
        eps = 1e-9 if signals.losses.dtype == tf.float64 else 1e-2
        return tf.ones_like(signals.losses) + tf.constant(eps, signals.losses.dtype)


class PythonRandom(Wrong):
    def weights(self, signals):
        return tf.random.uniform(signals.losses.shape, dtype=signals.losses.dtype)


class CountsOutsideItsState(Wrong):
    def weights(self, signals):
        return tf.ones_like(signals.losses) * tf.py_function(lambda: next(COUNTER), [], signals.losses.dtype)


class StateGrows(Wrong):
    """A number of its state becomes an array, which costs a second trace."""

    def initial_state(self, num_tasks, num_parameters=None):
        return {"seen": np.zeros([], np.float32)}

    def weigh(self, signals, state):
        return tf.ones_like(signals.losses), {"seen": tf.cast(signals.present, tf.float32)}


class SquareRoots(Scalarisation):
    def objective(self, losses, signals, state):
        return tf.reduce_sum(tf.sqrt(losses)), state


class FirstRow(JacobianMethod):
    def combine(self, rows, signals, state):
        return rows.shape[0] * rows[0], state


class ForgetsItsSolver(Wrong):
    def weights(self, signals):
        return min_norm(signals.gram).weights


class Constant(JacobianMethod):
    def combine(self, rows, signals, state):
        return tf.ones_like(rows[0]), state


COUNTER = itertools.count(1)
CASES = [
    (ByPosition(), "permutation_equivariant", PLAIN),
    (Mean(), "sums_to_tasks", PLAIN),
    (LooksAtTheAbsent(), "absent_task_has_no_influence", ()),
    (Ascends(), "one_task", ()),
    (Ascends(), "non_conflicting", ("non_conflicting",)),
    (Wrong(), "non_conflicting", ("non_conflicting",)),
    (Wrong(), "non_conflicting_if_independent", ("non_conflicting_if_independent",)),
    (Overflows(), "finite_updates", ()),
    (Overflows(), "twenty_tasks", ()),
    (Wrong(), "ignores_row_scale", ("ignores_row_scale",)),
    (SquareRoots(), "ignores_loss_scale", ("ignores_loss_scale",)),
    (ReadsThePreference(), "preference_is_not_read", ()),
    (ForgetsThePreference(), "preference_changes_the_update", ()),
    (RoundsInFloat32(), "float32_agrees_with_float64", ()),
    (PythonRandom(), "same_seed_same_update", ()),
    (PythonRandom(), "graph_equals_eager", ()),
    (CountsOutsideItsState(), "resumes", ()),
    (StateGrows(), "one_trace", ()),
    (Wrong(), "stationary", ("stationary",)),
    (Mean(), "identity_without_conflict", ("identity_without_conflict",)),
    (Mean(), "identity_without_sign_conflict", ("identity_without_sign_conflict",)),
    (Ascends(), "ends_on_the_pareto_set", ("ends_on_the_pareto_set",)),
    (Ascends(), "ends_on_a_convex_front", ("ends_on_the_pareto_set",)),
    (Ascends(), "ends_on_a_concave_front", ("ends_on_the_pareto_set",)),
    (Ascends(), "ends_near_the_pareto_set_with_noise", ("ends_on_the_pareto_set",)),
    (Wrong(), "ends_near_the_ray_with_noise", ("ends_on_the_ray",)),
    (Wrong(), "ends_near_the_relative_ray_with_noise", ("ends_on_the_ray", "ignores_loss_scale")),
    (Wrong(), "ends_on_the_ray", ("ends_on_the_ray",)),
    (Wrong(), "ends_on_the_relative_ray", ("ends_on_the_ray", "ignores_loss_scale")),
    (Wrong(), "has_a_main_task", ("has_a_main_task",)),
    (LooksAtTheAbsent(), "main_task_alone", ("has_a_main_task",)),
    (FirstRow(), "one_present_task", ()),
    (Constant(), "no_present_task", ()),
    (Overflows(), "finite_in_float32", ()),
    (ForgetsItsSolver(), "declares_its_solver", ()),
]


@pytest.mark.parametrize(("method", "name", "promises"), CASES, ids=lambda v: v if isinstance(v, str) else None)
def test_the_named_check_catches_it(method, name, promises):
    # A state that grows is refused where it is returned, before a check can compare anything.
    said = "InputError: .* returned the shape .* expected" if name == "one_trace" else "given .*: expected .* found"
    with pytest.raises(AssertionError, match=rf"{type(method).__name__}\(\) fails {name}: {said}"):
        check_method(method, only=name, promises=promises)


UNREGISTERED = {"description_rebuilds_it", "card_names_a_source"}


@pytest.mark.parametrize("name", sorted(UNREGISTERED))
def test_a_class_without_a_name_cannot_be_described(name):
    with pytest.raises(AssertionError, match=f"fails {name}: InputError: Wrong"):
        check_method(Wrong(), only=name)


def test_every_check_is_shown_to_fail():
    checks = {check.name for promises in ((), set(PROMISES) - {"ignores_loss_scale"}, PROMISES)
              for method in (Wrong(), ForgetsThePreference()) for check in SUITE.checks(method, promises=promises)}
    assert {name for _, name, _ in CASES} | UNREGISTERED == checks


class Scaled(Wrong):
    """No dataclass of its own: it inherits an equality that does not look at ``scale``."""

    def __init__(self, scale):
        object.__setattr__(self, "scale", scale)

    def weights(self, signals):
        return tf.fill(signals.losses.shape, tf.constant(self.scale, signals.losses.dtype))


@pytest.mark.parametrize("first", [1.0, -1.0])
def test_methods_that_compare_equal_do_not_share_a_trace(first):
    """Whichever is checked first, the verdicts are its own."""
    right, wrong = Scaled(1.0), Scaled(-1.0)
    assert right == wrong
    for method in (right, wrong) if first > 0 else (wrong, right):
        for name in ("identity_without_conflict", "ends_on_the_pareto_set"):
            if method is right:
                check_method(method, only=name, promises=[name])
            else:
                with pytest.raises(AssertionError, match=f"fails {name}: given"):
                    check_method(method, only=name, promises=[name])


def test_what_keeps_every_rule_passes():
    names = {check.name for check in SUITE.checks(Wrong(), promises=PLAIN)} - UNREGISTERED
    assert set(check_method(Wrong(), only=names, promises=PLAIN)) == names


def test_a_message_names_check_thing_input_expected_and_found():
    with pytest.raises(AssertionError) as failed:
        check_method(Constant(), only="one_task")
    assert str(failed.value) == (
        "Constant() fails one_task: given the only gradient [2, -1] at (1,): expected [-0.5], found [1.]")


def test_names_that_are_no_checks_are_explained():
    with pytest.raises(ValueError, match="'stationary' is not promised by the method pcgrad; its checks are one"):
        check_method("pcgrad", only="stationary")
    with pytest.raises(ValueError, match="'sums' is no check of the method pcgrad"):
        method_checks("pcgrad", {"sums": "since"})
    with pytest.raises(ValueError, match="no promise is called 'statoinary'"):
        check_method("pcgrad", promises=("statoinary",))


def test_expected_failures_have_reasons_and_are_strict():
    with pytest.raises(ValueError, match="the expected failure of 'one_task' needs a reason, not ' '"):
        method_checks("pcgrad", {"one_task": " "})
    given, only = {"one_task": "it is only a test"}, ["one_task", "sums_to_tasks"]
    one, two = method_checks("pcgrad", given, only=only, marks=lambda _: [pytest.mark.slow])
    assert (one.id, two.id) == ("pcgrad-one_task", "pcgrad-sums_to_tasks")
    mark = one.marks[-1]
    assert (mark.name, mark.kwargs["reason"], mark.kwargs["strict"]) == ("xfail", "it is only a test", True)
    assert [mark.name for mark in two.marks] == ["slow"]


@pytest.mark.slow
def test_pytest_is_not_needed():
    code = "import sys, tfmtl2r.testing as t; t.check_method('ls', only='one_task'); assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
