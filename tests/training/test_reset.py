"""A ranker that starts afresh trains exactly as a new one would, on the steps that it has compiled."""

import numpy as np
import pytest

from tfmtl2r import MultiTaskRanker
from tfmtl2r._backend import keras
from tfmtl2r.experiment import Experiment
from tfmtl2r.runs import identity
from tfmtl2r.sweeps.worker import Trainings
from tfmtl2r.training.reset import start_as

TOWERS = {"name": "mmoe", "num_experts": 2, "expert_units": [6], "head_units": [4], "dropout": 0.3, "gate_dropout": 0.2}


def ranker(problem, seed=0, method="famo", preference=None, rate=0.01, conditioned=None, **architecture):
    keras.utils.set_random_seed(seed)
    model = MultiTaskRanker({**TOWERS, **architecture}, problem.tasks, problem.schema, conditioned=conditioned)
    model.compile(keras.optimizers.Adam(rate), method=method, preference=preference, seed=seed, train_metrics=False)
    return model


def fit(model, problem):
    history = model.fit(problem.batches(), epochs=2, verbose=0, validation_data=problem.batches()).history
    return history, [np.array(v) for v in model.weights], model.predict(problem.x, layout="items")


def assert_same(one, two):
    assert one[0] == two[0]
    for mine, theirs in zip(one[1], two[1], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for task, scores in one[2].items():
        np.testing.assert_array_equal(scores, two[2][task])


@pytest.mark.parametrize(("method", "conditioned"), [
    ("famo", None),  # remembers, and is asked after the update
    pytest.param("pcgrad", None, marks=pytest.mark.slow),  # draws an order of tasks
    pytest.param("linear_scalarization", 1.0, marks=pytest.mark.slow),  # draws a preference
])  # fmt: skip
@pytest.mark.slow
def test_it_trains_as_a_new_one_and_traces_nothing(problem, method, conditioned):
    # Normalised twice, it would round twice.
    weights = {} if method == "famo" else {"preference": [0.87, 0.04, 0.74]}
    old = ranker(problem, 0, method, conditioned=conditioned)
    first = fit(old, problem)
    step = old.train_function
    assert start_as(old, ranker(problem, 5, method, conditioned=conditioned, **weights))
    again = fit(old, problem)
    assert old.train_function is step
    assert_same(again, fit(ranker(problem, 5, method, conditioned=conditioned, **weights), problem))
    assert first[0] != again[0]


def test_what_a_compiled_step_holds_on_to_must_be_the_same(problem):
    old = ranker(problem)
    old.prepare(problem.x)
    before = [np.array(v) for v in old.weights]
    for other in (ranker(problem, 1, "mgda"), ranker(problem, 1, rate=0.1), ranker(problem, 1, num_experts=3),
                  ranker(problem, 1, {"name": "famo", "gamma": 0.5}), ranker(problem, 1, dropout=0.1)):
        assert not start_as(old, other)
    for variable, value in zip(old.weights, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert old.seed == 0
    with pytest.raises(ValueError, match="must be compiled"):
        start_as(old, MultiTaskRanker(TOWERS, problem.tasks, problem.schema))


@pytest.mark.slow
def test_the_seed_may_change_between_steps(problem):
    """As a variable: the compiled step draws anew."""
    model, same = ranker(problem, 3), ranker(problem, 3)
    model.method_state.seed.assign(4)
    data = problem.batches()
    drawn, other = (float(m.train_on_batch(*next(iter(data)), return_dict=True)["loss"]) for m in (model, same))
    assert drawn != other


@pytest.mark.long
def test_a_worker_keeps_the_compiled_steps_where_it_may(tmp_path):
    """Runs of one process, each as if it were alone."""
    data = {"name": "synthetic_mslr", "num_lists": 16, "max_length": 8, "num_tasks": 2, "num_features": 8}
    common = {"data": data, "architecture": {"name": "shared_bottom", "units": [8], "dropout": 0.2},
              "directory": str(tmp_path)}
    training = {"epochs": 2, "patience": 0, "batch_size": 4, "telemetry_every": 0}
    plan = [("a", "moco", 0), ("b", "moco", 1), ("c", "stch", 1), ("d", "stch", 2), ("e", "moco", 1)]
    worker, rankers = Trainings(), []
    for name, method, seed in plan:
        experiment = Experiment(name, method=method, training={**training, "seed": seed}, **common)
        worker.run(experiment.config())
        rankers.append(worker.ranker)
        alone = Trainings()
        alone.run(experiment.but(name=f"{name}-alone").config())
        mine, theirs = (np.load(tmp_path / run / "per_list.npz") for run in (name, f"{name}-alone"))
        for key in set(mine) - {identity.KEY}:
            np.testing.assert_array_equal(mine[key], theirs[key])
    assert rankers[0] is rankers[1]
    assert rankers[2] is rankers[3]
    assert rankers[1] is not rankers[2]
    preference = {"task_1": 1, "task_2": 2}
    with pytest.raises(ValueError, match="MGDA has no preference"):
        worker.run(Experiment("f", method="mgda", preference=preference, training=training, **common).config())
    assert worker.ranker is None
