"""The runs of one task alone that a run finds beside itself."""

import numpy as np
import pytest

from tfmtl2r.experiment import Experiment
from tfmtl2r.runs.alone import losses_alone
from tfmtl2r.runs.card import RunCard
from tfmtl2r.runs.identity import PER_LIST


def write(folder, name, tasks, losses, vali="v", **settings):
    experiment = Experiment(name, data={"name": "synthetic_mslr", "num_tasks": 2, "tasks": tasks, **settings},
                            training={"patience": 0})
    results = {"test": {task: {"ndcg@10": {"value": 0.5, "num_lists": 2, "direction": "max"}} for task in tasks}}
    history = {f"val_{task}_loss": losses for task in tasks}
    card = RunCard(name, experiment.config(), {"vali": {"fingerprint": vali}}, results, history)
    card.save(folder / name)
    np.savez(folder / name / PER_LIST, **{f"test/{task}/ndcg@10": np.zeros(2) for task in tasks})
    return experiment.config()


def test_the_last_losses_of_runs_on_the_same_data_are_averaged(tmp_path):
    config = write(tmp_path, "both", ["task_1", "task_2"], [1.0, 0.5])
    write(tmp_path, "one", ["task_1"], [3.0, 2.0])
    write(tmp_path, "one-again", ["task_1"], [3.0, 1.0])
    write(tmp_path, "other-split", ["task_2"], [3.0, 1.0], vali="w")
    write(tmp_path, "other-data", ["task_2"], [3.0, 1.0], num_features=5)
    write(tmp_path, "without-number", ["task_2"], [1.0, float("nan")])
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("{")
    assert losses_alone(tmp_path / "both", config, "v") == {"task_1": pytest.approx(1.5)}


def test_a_run_is_no_reference_for_itself(tmp_path):
    config = write(tmp_path, "one", ["task_1"], [3.0, 2.0])
    assert losses_alone(tmp_path / "one", config, "v") == {}
    assert losses_alone(tmp_path / "missing" / "one", config, "v") == {}
