"""Reports about searches with several objectives, of Optuna and Ray Tune."""

import numpy as np
import pytest

from tfmtl2r import Experiment
from tfmtl2r.pareto.front import hypervolume, nearest, non_dominated, reference_point
from tfmtl2r.sweeps.planning import plan


def test_a_trial_that_is_nan_wins_or_vanishes():
    """An objective that is NaN fails a trial without naming it (https://github.com/optuna/optuna/issues/3779)."""
    with pytest.raises(ValueError, match=r"point 1 is \[nan, 2\.0\]: every objective must be a finite number"):
        non_dominated([[1, 2], [np.nan, 2]])


def test_equal_trials_dominate_each_other():
    """Documentation and code disagree whether equal points dominate each other
    (https://github.com/optuna/optuna/pull/3528)."""
    assert non_dominated([[1, 2], [1, 2], [1, 3]]).tolist() == [True, True, False]


def test_the_best_of_several_directions_is_an_error():
    """"The best trial of a study is only supported for single-objective optimization"
    (https://github.com/optuna/optuna/issues/2426)."""
    points = [[0.9, 10.0], [0.8, 5.0], [0.7, 12.0]]
    assert non_dominated(points, maximise=[True, False]).tolist() == [True, True, False]
    assert nearest(points, [0.99, 0.01], maximise=[True, False]) == 0
    assert nearest(points, [0.01, 0.99], maximise=[True, False]) == 1


def test_a_trial_that_is_repeated_counts_twice():
    """The front contains a repeated trial several times (https://github.com/optuna/optuna/pull/1054)."""
    points = np.array([[1.0, 3.0], [2.0, 1.0]])
    reference = reference_point(points)
    assert hypervolume(np.repeat(points, 3, axis=0), reference) == pytest.approx(hypervolume(points, reference))


def test_a_number_of_trials_is_silently_ignored():
    """``n_trials=1000`` gives 26 trials (https://github.com/optuna/optuna/issues/5088)."""
    base = Experiment(data="synthetic_conflict")
    rows = [[i / 10, 1 - i / 10] for i in range(1, 10)]
    assert len(plan(base, ["linear_scalarization", "mgda"], rows, seeds=(0, 1))) == 2 * (9 + 1)
    with pytest.raises(ValueError, match=r"two runs of this sweep are the same: .*list every method"):
        plan(base, ["linear_scalarization"], [*rows, rows[0]])
