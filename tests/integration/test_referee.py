"""The recipe that checks another library's aggregators: its adapter on aggregators of our own, and on TorchJD's."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

RECIPES = Path(__file__).parents[2] / "recipes"
PROMISES = ("sums_to_tasks", "permutation_equivariant", "non_conflicting", "stationary", "ends_on_the_pareto_set")


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPES))
    import referee

    return referee


def mean(tasks):
    return lambda rows, seed: rows.mean(0)


def shortest(tasks):
    """Of two gradients the shortest convex combination; the mean of any other number."""

    def aggregate(rows, seed):
        if len(rows) != 2:
            return rows.mean(0)
        a, b = rows
        share = np.clip((b - a) @ b / max((a - b) @ (a - b), 1e-300), 0, 1)
        return share * a + (1 - share) * b

    return aggregate


def refuses(tasks):
    raise RuntimeError(f"{tasks} tasks are too many")


def broken(verdicts):
    return {promise for promise, checks in verdicts.items() if any(checks.values())}


def test_each_peer_is_held_to_the_promises_of_the_method(recipe):
    found = recipe.verdicts(recipe.Peer("mean", mean), PROMISES)
    assert set(found) == set(PROMISES)
    assert broken(found) == {"non_conflicting", "stationary"}
    assert broken(recipe.verdicts(recipe.Peer("shortest", shortest), PROMISES)) == {"non_conflicting", "stationary"}
    refused = recipe.verdicts(recipe.Peer("refuses", refuses), PROMISES[:1])["sums_to_tasks"]
    assert "4 tasks are too many" in refused["sums_to_tasks"] or "1 tasks are too many" in refused["sums_to_tasks"]


def test_each_peer_has_verdicts_of_its_own(recipe):
    """The first and the second peer differ, and a trace of the one must not serve the other."""
    for _ in range(2):
        by_first = recipe.verdicts(recipe.Peer("same", lambda tasks: lambda rows, seed: rows[0]), PROMISES[:2])
        by_mean = recipe.verdicts(recipe.Peer("same", mean), PROMISES[:2])
        assert (broken(by_first), broken(by_mean)) == ({"permutation_equivariant"}, set())


def test_absent_tasks_do_not_reach_the_aggregator(recipe):
    from tfmtl2r.testing import check_method

    absent = ["absent_task_has_no_influence", "one_present_task", "no_present_task"]
    assert check_method(recipe.Peer("mean", mean), only=absent) == absent


def test_the_table_names_what_is_kept_and_broken(recipe, capsys):
    recipe.referee({"linear_scalarization": recipe.Peer("sum", mean), "mgda": recipe.Peer("mean", mean)})
    printed = capsys.readouterr().out
    assert "sums to tasks, permutation equivariant" in printed
    assert "mean, stationary: given gradients with" in printed


def test_without_torchjd_nothing_is_checked(recipe, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torchjd", None)
    monkeypatch.setattr(sys, "argv", ["referee.py", "mgda"])
    assert recipe.main() == 0
    assert "install PyTorch" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["referee.py", "mgdaa"])
    assert recipe.main() == 2


@pytest.mark.skipif(importlib.util.find_spec("torchjd") is None, reason="TorchJD is not installed")
def test_torchjd(recipe):
    assert broken(recipe.verdicts(recipe.torchjd_peer("upgrad"), ("non_conflicting", "sums_to_tasks"))) == set()
