"""Methods that promise it end on the Pareto set, driven by their own weights from several starts."""

import numpy as np
import pytest
from fronts import PROBLEMS, descent, distance_to_stationarity
from method_runs import built

from tfmtl2r import methods

PROMISING = [name for name in methods.names() if "ends_on_the_pareto_set" in methods.card(name).promises]
SLOW = [pytest.param(problem, marks=pytest.mark.slow) for problem in ("fonseca_fleming", "zdt")]


@pytest.mark.parametrize("problem", ["quadratic", *SLOW])
@pytest.mark.parametrize("name", PROMISING)
def test_ends_on_the_pareto_set(name, problem):
    run = descent(built(name), problem)
    for start in PROBLEMS[problem].starts:
        x = run(np.array(start), np.full(2, 0.5), np.ones(2)).numpy()
        assert PROBLEMS[problem].inside(x), (start, x)
        assert distance_to_stationarity(PROBLEMS[problem], x) < 0.05, (start, x)


def test_starts_are_not_on_the_pareto_set():
    for problem in PROBLEMS.values():
        for start in map(np.array, problem.starts):
            assert not problem.inside(start)
            assert distance_to_stationarity(problem, start) > 0.1
