"""Planted conflicts: none is missed, and goals that agree raise no alarm."""

from __future__ import annotations

import pytest

from tfmtl2r.advice import advise, pilot
from tfmtl2r.errors import InputError
from tfmtl2r.experiment import Experiment

DATA = {
    "rows": ("synthetic_rows", {"rows": 3000, "dim": 30}, lambda cosine: {"correlation": cosine}, 64),
    "binary": ("synthetic_conflict", {"rows": 4000}, lambda cosine: {"cosine": cosine}, 64),
    "lists": ("synthetic_mslr", {"num_lists": 160, "num_tasks": 2, "num_features": 20, "max_length": 20},
              lambda cosine: {"conflict": (1 - cosine) / 2}, 8),
}  # fmt: skip


def planted(kind, cosine, seed, **more):
    name, options, agree, size = DATA[kind]
    return Experiment(
        "planted", data={"name": name, "seed": seed, **options, **agree(cosine)},
        architecture={"name": "shared_bottom", "units": [32]}, optimizer={"learning_rate": 3e-3},
        training={"epochs": 4, "batch_size": size, "seed": seed, "telemetry_every": 0}, **more)  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("kind", list(DATA))
def test_planted_conflicts_are_found_and_nothing_else(kind):
    """At -0.9 every conflict is found. At 1 there is no alarm, and at 0 at most one among two seeds."""
    found = {cosine: [bool(advise(pilot(planted(kind, cosine, seed), seconds=2.0)).conflicts) for seed in range(2)]
             for cosine in (-0.9, 0.0, 1.0)}
    assert found[-0.9] == [True] * 2
    assert found[1.0] == [False] * 2
    assert sum(found[0.0]) <= 1


@pytest.mark.slow
def test_the_pilot_leaves_the_method_out_and_one_task_is_refused():
    """A method, weights of goals and stages do not change the pilot, which is about equal weights."""
    plain, other = (pilot(planted("lists", -0.9, 0, **more), seconds=0.5) for more in (
        {}, {"method": "mgda", "gradients": "features", "preference": None}))
    assert [(pair.order, pair.layers) for pair in plain.pairs] == [(pair.order, pair.layers) for pair in other.pairs]
    assert plain.width == 32
    assert plain.has_lists
    assert {goal.loss for goal in plain.goals} == {"softmax"}
    with pytest.raises(InputError, match="one task, task_1, and nothing can fight"):
        pilot(planted("lists", -0.9, 0, tasks=["task_1"]))


@pytest.mark.long
@pytest.mark.parametrize(("units", "loses"), [([1], True), ([32], False)])
def test_a_goal_loses_by_sharing_where_the_trunk_is_too_narrow(units, loses):
    """One number per item cannot order the items for both goals; 32 numbers can."""
    data = {"name": "synthetic_mslr", "num_lists": 160, "num_tasks": 2, "num_features": 20, "max_length": 20,
            "conflict": 0.5}
    experiment = Experiment(
        "narrow", data=data, architecture={"name": "shared_bottom", "units": units, "activation": "tanh",
                                           "head_units": []},
        optimizer={"learning_rate": 2e-2}, training={"epochs": 8, "batch_size": 8, "telemetry_every": 0})  # fmt: skip
    facts = pilot(experiment, seconds=2.0)
    found = advise(facts)
    assert bool(found.losers) == loses
    assert any("loses by sharing" in line for line in found.verdict) == loses
    if loses:
        assert found.equal_weights == all(one.gain <= 0 for one in facts.trials)
        assert facts.width == 1
        assert facts.trials
        better = [one for one in found.suggestions if "In the pilot it gained" in one.reason]
        assert len(better) == sum(one.gain > 0 for one in facts.trials)
        assert all("a goal loses by sharing" in one.reason or "gradients oppose" in one.reason for one in better)
