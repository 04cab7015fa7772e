"""Every method, whatever it is called, keeps the promises of all methods and those of its own card."""

import numpy as np
import pytest

from tfmtl2r import methods
from tfmtl2r.promises import PROMISES
from tfmtl2r.registry import Card
from tfmtl2r.testing import method_checks
from tfmtl2r.testing.fronts import PROBLEMS, distance_to_stationarity
from tfmtl2r.testing.method import CONFLICTING, SUITE, card_of, several_steps
from tfmtl2r.testing.steps import Run, built

ROUNDED = "its default smoothing rounds off the kink along the ray"
EXPECTED_FAILURES = {
    "soft_weighted_chebyshev": dict.fromkeys(("ends_on_the_ray", "ends_near_the_ray_with_noise"), ROUNDED),
    "stch": dict.fromkeys(("ends_on_the_relative_ray", "ends_near_the_relative_ray_with_noise"), ROUNDED),
}
SHARP = [methods.get("soft_weighted_chebyshev", mu=1e-5), methods.get("stch", mu=1e-2, warmup=0)]
RAYS = {check for failures in EXPECTED_FAILURES.values() for check in failures}


def slow(check):
    return [pytest.mark.long] if check.slow else []


def names_of(method):
    return {check.name for check in SUITE.checks(method)}


CHECKS = [check for name in methods.names() for check in method_checks(name, EXPECTED_FAILURES.get(name), marks=slow)]
CHECKS += [check for method in SHARP for check in method_checks(method, only=RAYS & names_of(method), marks=slow)]


@pytest.mark.product
@pytest.mark.parametrize("check", CHECKS)
def test_keeps_its_promises(check):
    check()


@pytest.mark.product
@pytest.mark.parametrize("name", methods.names())
def test_the_state_of_an_absent_task_stands_still(name):
    run = Run(name, 4, 30)
    several_steps(run, 2)
    before = {key: run[key] for key in run.state}
    run.step(2 * CONFLICTING, [1.0, 9.0, 0.2, 0.3], present=[True, False, True, True], epoch=2)
    for key, value in before.items():
        if value.shape[:1] == (4,):
            np.testing.assert_array_equal(run[key][1], value[1], err_msg=key)


@pytest.mark.parametrize("name", [name for name in methods.names() if built(name).positive_preference])
def test_a_preference_of_zero_is_refused_by_ratio_methods(name):
    with pytest.raises(ValueError, match="divides by the preference"):
        methods.combine(name, CONFLICTING, preference=[1, 0, 1, 1])


def test_every_promise_is_made_and_checked():
    made = {promise for name in methods.names() for promise in methods.card(name).promises}
    assert made == set(PROMISES) == SUITE.promises_checked


def test_a_card_makes_no_unknown_promise():
    with pytest.raises(ValueError, match=r"no promise is called 'statoinary'; .*stationary"):
        Card(title="Mine", promises=("statoinary",))
    assert card_of(methods.get("mgda")) == methods.card("mgda")


def test_starts_are_not_on_the_pareto_set():
    for problem in PROBLEMS.values():
        for start in map(np.array, problem.starts):
            assert not problem.inside(start)
            assert distance_to_stationarity(problem, start) > 0.1


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
