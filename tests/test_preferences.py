"""Grids of preferences cover what they promise."""

import numpy as np
import pytest

from tfmtl2r import Task, preferences
from tfmtl2r.pareto.front import preference_error


def test_angles_between_the_single_task_ends():
    ends = np.array([[1.0, 3.0], [2.0, 1.0]])
    grid = preferences.by_angle(7, ends)
    np.testing.assert_allclose(grid.sum(axis=1), 1)
    rays = np.arctan2(1 / grid[:, 1], 1 / grid[:, 0])
    np.testing.assert_allclose(np.diff(rays), np.diff(rays)[0])
    np.testing.assert_allclose([preference_error(ends[0], grid[0]), preference_error(ends[1], grid[-1])], 0, atol=1e-12)
    assert grid[0, 0] > grid[-1, 0]  # the end of task 1 belongs to the highest importance of task 1
    np.testing.assert_allclose(preferences.by_angle(1, ends), preferences.by_angle(3, ends)[1:2])
    np.testing.assert_allclose(preferences.by_angle(5)[2], [0.5, 0.5])
    assert (preferences.by_angle(9) > 0).all()
    with pytest.raises(ValueError, match="same ray"):
        preferences.by_angle(3, [(1, 2), (2, 4)])
    with pytest.raises(ValueError, match="losses of two tasks"):
        preferences.by_angle(3, [(1, 2), (-2, 4)])


@pytest.mark.parametrize("tasks", [1, 2, 3, 5])
def test_low_discrepancy_is_uniform_on_the_simplex(tasks):
    grid = preferences.low_discrepancy(tasks, 2000)
    np.testing.assert_allclose(grid.sum(axis=1), 1)
    assert (grid > 0).all()
    np.testing.assert_allclose(grid.mean(axis=0), 1 / tasks, atol=0.01)
    # Uniform on the simplex: P(w_t > x) = (1 - x)^(T - 1).
    for x in (0.2, 0.5):
        expected = (1 - x) ** (tasks - 1)
        np.testing.assert_allclose((grid > x).mean(axis=0), expected, atol=0.02)
    np.testing.assert_array_equal(grid[:7], preferences.low_discrepancy(tasks, 7))


def test_low_discrepancy_leaves_smaller_gaps_than_chance(rng):
    """The largest hole among 64 preferences of 2 tasks is below twice the mean gap; at random it is about 5 times."""
    gaps = np.diff(np.sort(preferences.low_discrepancy(2, 64)[:, 0]))
    assert gaps.max() < 2.5 / 64
    assert np.diff(np.sort(rng.random(64))).max() > 2.5 / 64


def test_file(tmp_path):
    path = tmp_path / "preferences.txt"
    path.write_text("# relevance quality\n1, 3\n\n0.5 0.5  # equal\n1 0\n")
    np.testing.assert_allclose(preferences.from_file(path, 2), [[0.25, 0.75], [0.5, 0.5], [1, 0]])
    np.testing.assert_allclose(preferences.grid(str(path), 2), preferences.from_file(path, 2))
    for text, message in [("1 2 3\n", "line 1: expected 2 numbers"), ("1 1\n1 x\n", "line 2"), ("0 0\n", "not all 0"),
                          ("1 -1\n", "line 1"), ("1 nan\n", "line 1"), ("# nothing\n", "holds no preference")]:
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            preferences.from_file(path, 2)


def test_specs():
    assert preferences.grid("lattice:4", 3).shape == (15, 3)
    assert preferences.grid("spread:6", 4).shape == (6, 4)
    np.testing.assert_allclose(preferences.grid("angle:3", 2, [(1, 3), (2, 1)])[0], [0.75, 0.25])
    for spec, tasks, message in [("angle:3", 3, "for 2 tasks"), ("lattice:x", 2, "whole number"),
                                 ("grid:3", 2, "expected angle:N"), ("lattice", 2, "expected angle:N"),
                                 ("lattice:0", 2, "at least 1"), ("spread:0", 2, "at least 1"),
                                 ("angle:0", 2, "at least 1")]:
        with pytest.raises(ValueError, match=message):
            preferences.grid(spec, tasks)


def test_zeros_are_raised_for_methods_that_divide():
    raised = preferences.above_zero([[0.0, 1.0], [0.5, 0.5]])
    assert (raised > 0).all()
    np.testing.assert_allclose(raised.sum(axis=1), 1)
    np.testing.assert_allclose(raised[1], [0.5, 0.5])


def test_a_preference_by_name_is_put_into_the_order_of_the_tasks():
    tasks = [Task("a"), Task("b")]
    assert preferences.normalised({"b": 3, "a": 1}, tasks).tolist() == [0.25, 0.75]
    for wrong in ({"a": 1}, {"a": 1, "b": 1, "c": 1}, {}):
        with pytest.raises(ValueError, match="must have one number for each of a, b; it has"):
            preferences.normalised(wrong, tasks)


@pytest.mark.parametrize(("texts", "expected"), [
    (["a=1", "b=2"], [1, 2]), (["b=2,a=1"], [1, 2]), (["b=.5"], [0, 0.5]), (["1", "2"], [1, 2]), (["1,2"], [1, 2]),
    (["a=1,", "b=2"], None), (["1"], None), (["a=1", "2"], None), (["a=1", "a=2"], None), (["a="], None), (["a"], None),
    (["c=1"], None), (["=1", "2"], None),
])
def test_a_preference_on_a_command_line(texts, expected):
    if expected is None:
        with pytest.raises(ValueError, match=r"--preference .* a, b"):
            preferences.asked(texts, ["a", "b"])
    else:
        assert preferences.asked(texts, ["a", "b"]) == expected
