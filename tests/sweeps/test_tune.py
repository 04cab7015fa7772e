"""A search counts what has ended, compares like with like, and refuses a space before its first trial."""

import json
import math
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
from test_sweep import SEARCH

from tfmtl2r import cli
from tfmtl2r.baselines import get as get_baseline
from tfmtl2r.errors import InputError, Stopped, UserError
from tfmtl2r.evaluation.split_metrics import of_metric
from tfmtl2r.experiment import Experiment
from tfmtl2r.sweeps import tuning
from tfmtl2r.sweeps.tuning import Search
from tfmtl2r.training.trackers import metrics_of

pytest.importorskip("optuna")
DATA = {"name": "synthetic_mslr", "num_lists": 16, "max_length": 8, "num_tasks": 2, "num_features": 8}
RATE = {"optimizer.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}
MIXED = {**RATE, "training.batch_size": {"low": 2, "high": 6}, "architecture.dropout": {"low": 0, "high": 1},
         "architecture.units": [[4], [8, 4]], "method": ["mgda", {"name": "cagrad", "c": 0.2}],
         "tasks.task_1.weight": [0.5, 2]}


def made(folder, given=None, **others):
    return Experiment("own", data=DATA, architecture={"name": "shared_bottom", "units": [4], "dropout": 0.1},
                      directory=str(folder), tune={"trials": 4, "space": given or RATE},
                      training={"epochs": 3, "patience": 0, "telemetry_every": 0, "batch_size": 4}).but(**others)


def value_of(experiment):
    """The value that the pretended training of a trial reaches."""
    return -abs(math.log10(experiment.optimizer.learning_rate) + 2)


@pytest.fixture
def pretended(monkeypatch):
    """Trials without training. The values of all epochs are those of ``value_of``, unless a test sets others."""
    seen = types.SimpleNamespace(experiments=[], value=value_of)

    def run(self, verbose, dataset, callbacks, overwrite):
        seen.experiments.append(self)
        history = {"val_stop_on": [seen.value(self)] * self.training.epochs, "val_task_1_loss": [1.0, 2.0, 3.0]}
        for epoch, value in enumerate(history["val_stop_on"]):
            for callback in callbacks:
                callback.on_epoch_end(epoch, {"val_stop_on": value})
        return None, types.SimpleNamespace(history=history)

    monkeypatch.setattr(Experiment, "run", run)
    monkeypatch.setattr(tuning.keras.backend, "clear_session", lambda: None)
    return seen


def searched(experiment):
    said = []
    with Search(experiment, said.append) as search:
        search.run()
    return search, said


def test_the_same_command_goes_on_to_the_asked_number(tmp_path, pretended):
    search, said = searched(made(tmp_path))
    assert len(said) == len(pretended.experiments) == 4
    assert len({one.optimizer.learning_rate for one in pretended.experiments}) == 4
    more, _ = searched(made(tmp_path, tune={"trials": 6}))
    assert len(pretended.experiments) == 6
    assert len({one.optimizer.learning_rate for one in pretended.experiments}) == 6
    values = [value_of(one) for one in pretended.experiments]
    best = pretended.experiments[values.index(max(values))]
    result = json.loads((search.folder / tuning.RESULT).read_text())
    assert result["best"][0] == values.index(max(values))
    assert [row["values"][0] for row in result["trials"]] == pytest.approx(values)
    assert result["num_lists"] == more.num_lists > 0
    from tfmtl2r.commands import train
    from tfmtl2r.commands._options import parse

    found = Experiment.of(parse(train.COMMAND, [str(search.folder / "experiment.toml")])[0])
    assert found.name == "own-best"
    assert Path(found.directory).resolve() == tmp_path.resolve()
    assert found.optimizer == best.optimizer
    assert f"values on {more.num_lists} validation lists; of 6 trials, " in str(more.table().caption)


def test_values_have_the_types_of_their_keys(tmp_path, pretended):
    searched(made(tmp_path, MIXED, tune={"trials": 8}))
    seen = pretended.experiments
    assert {type(one.training.batch_size) for one in seen} == {int}
    assert {one.training.batch_size for one in seen} <= {2, 3, 4, 5, 6}
    assert any(one.architecture["dropout"] not in (0, 1) for one in seen)
    assert all(one.architecture["units"] in ([4], [8, 4]) for one in seen)
    assert all(one.method in ("mgda", {"name": "cagrad", "c": 0.2}) for one in seen)
    assert all([task.name for task in one.select(one.dataset())] == ["task_1", "task_2"] for one in seen)
    assert {one.select(one.dataset())[0].weight for one in seen} <= {0.5, 2}
    assert {one.training.epochs for one in seen} == {3}  # the same budget


@pytest.mark.parametrize(("given", "message"), [
    ({"optimizer.learnig_rate": [0.1]}, "learnig_rate is not a key; did you mean 'learning_rate'"),
    ({"optimzer.learning_rate": [0.1]}, "optimzer is not a key; did you mean 'optimizer'"),
    ({"optimizer.learning_rate": {"low": 1.0, "high": 0.1}}, "low must be below high"),
    ({"optimizer.learning_rate": {"low": 0, "high": 0.1}}, "must be a number above 0"),
    ({"optimizer.learning_rate": {"low": 1e-3, "high": 0.1, "lg": True}}, "lg is no key of a range; did you me"),
    ({"optimizer.learning_rate": {"low": 1e-3}}, "expected a list of values or a range"),
    ({"optimizer.learning_rate": {"low": "a", "high": 2}}, "low must be a finite number"),
    ({"optimizer.learning_rate": {"low": 1e-3, "high": math.inf}}, "high must be a finite number"),
    ({"architecture.dropout": {"low": 0.0, "high": 0.5, "log": True}}, "low must be above 0 where log"),
    ({"optimizer.learning_rate": 0.1}, "expected a list of values or a range"),
    ({"optimizer.learning_rate": []}, "empty list"), ({"optimizer.learning_rate": [0.1, 0.1]}, "listed twice"),
    ({"training.batch_size": {"low": 1.5, "high": 4}}, "must be a whole number, not 1.5"),
    ({"method": ["mgda", "mdga"]}, "no method is called 'mdga'; did you mean 'mgda'"),
    ({"optimizer.name": ["adam", "adamm"]}, "did you mean 'adam'"),
    ({"architecture.dropot": [0.1]}, "dropot is not an option of shared_bottom; did you mean 'dropout'"),
    ({"tasks.task_3.weight": [1.0]}, "task_3"), ({"tasks.task_1.weigth": [1.0]}, "did you mean 'weight'"),
    ({"method": ["mgda"], "method.c": [0.1]}, "is in the space, too, and contains it"),
    ({"name": ["a", "b"]}, "no number of a trial depends on it"), ({"sweep.seeds": [[1]]}, "no number of a trial"),
    ({"training.stop_on": ["val_loss"]}, "choose it by tune.objectives"),
])
def test_a_space_is_refused_before_the_first_trial(tmp_path, given, message):
    with pytest.raises(UserError, match=message):
        Search(made(tmp_path, given))
    assert not (tmp_path / "own-tune").exists()


@pytest.mark.parametrize(("tune", "message"), [
    ({"objectives": ["val_task_1_ndgc@10"]}, "no logged number of the validation; did you mean"),
    ({"objectives": ["val_loss", "val_loss"]}, "several different numbers"), ({"objectives": []}, "must be one"),
])
def test_objectives_are_refused_before_the_first_trial(tmp_path, tune, message):
    with pytest.raises(UserError, match=message):
        Search(made(tmp_path, tune=tune))


def test_an_empty_space_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"tune\.space is empty"):
        Search(Experiment("own", data=DATA, directory=str(tmp_path)))


def test_a_value_that_is_no_number_is_a_failed_trial_and_counts(tmp_path, pretended):
    pretended.value = lambda one: value_of(one) if len(pretended.experiments) > 2 else math.nan
    search, said = searched(made(tmp_path))
    assert [line.split()[0] for line in said] == ["FAILED", "FAILED", "done", "done"]
    rows = json.loads((search.folder / tuning.RESULT).read_text())["trials"]
    assert [row["state"] for row in rows] == ["fail", "fail", "complete", "complete"]
    assert rows[0]["error"] == "val_stop_on is nan"
    pretended.value = lambda one: math.nan
    with pytest.raises(InputError, match=r"no trial of .* is complete; the first failed: val_stop_on is nan"):
        searched(made(tmp_path, name="never"))


def test_a_killed_trial_is_not_counted_and_trained_again(tmp_path, pretended):
    def stopped(one):
        if len(pretended.experiments) == 3:
            raise KeyboardInterrupt
        return value_of(one)

    pretended.value = stopped
    with pytest.raises(Stopped, match="keeps its finished trials, and the same command goes on"):
        searched(made(tmp_path))
    pretended.value = value_of
    search, said = searched(made(tmp_path))
    assert len(said) == 2
    assert len(search.finished) == 4
    rates = [one.optimizer.learning_rate for one in pretended.experiments]
    assert rates[2] == rates[3]
    assert len(set(rates)) == 4


def test_one_process_at_a_time_and_one_experiment_in_a_folder(tmp_path, pretended):
    searched(made(tmp_path))
    with Search(made(tmp_path)), pytest.raises(UserError, match=r"searches in .*: wait until it has ended"):
        searched(made(tmp_path))
    with pytest.raises(UserError, match=r"has training\.epochs=3, not 5: give the new search another name"):
        searched(made(tmp_path, training={"epochs": 5}))
    with pytest.raises(UserError, match=r"has tune\.space="):
        searched(made(tmp_path, {"optimizer.learning_rate": [0.1]}))
    (tmp_path / "own2-tune").mkdir()
    (tmp_path / "own2-tune/mine.txt").write_text("x")
    with pytest.raises(UserError, match="is not empty and contains no search"):
        searched(made(tmp_path, name="own2"))


def test_bad_trials_end_early(tmp_path, pretended):
    pretended.value = lambda one: 0.0 if len(pretended.experiments) <= 5 else -1.0
    search, said = searched(made(tmp_path, tune={"trials": 7}))
    assert [line.split()[0] for line in said] == ["done"] * 5 + ["pruned"] * 2
    assert "2 pruned" in str(search.table().caption)


def test_trees_have_as_many_trials_and_a_row_of_the_same_table(tmp_path, pretended):
    """Each trial is one choice of settings; values are those of the same numbers on the same lists."""
    pytest.importorskip("lightgbm")
    rivals = {"baselines": ["lightgbm"], "trials": 2, "objectives": ["val_stop_on"]}
    search, said = searched(made(tmp_path, tune=rivals))
    assert [line.split()[1] for line in said[2:]] == ["lightgbm", "lightgbm"]
    search, said = searched(made(tmp_path, tune={**rivals, "trials": 3}))
    assert len(said) == 2  # one of each more
    rival = search.rivals[0]
    found = json.loads((search.folder / tuning.RESULT).read_text())["baselines"]["lightgbm"]
    assert [row["number"] for row in found["trials"]] == [0, 1, 2]
    assert len({row["settings"]["learning_rate"] for row in found["trials"]}) == 3
    assert all(isinstance(row["settings"]["num_leaves"], int) for row in found["trials"])
    best = max(found["trials"], key=lambda row: row["values"][0])
    assert found["best"] == best["number"]
    settings = dict(best["settings"])
    fitted = get_baseline("lightgbm", rounds=[settings.pop("rounds")], grid=[settings]).fit(rival.training)
    vali, tasks = rival.training.vali, rival.training.tasks
    scores, gains = fitted.scores(vali), []
    for task in tasks:
        metric = metrics_of(task, True)[0]
        value, trivial, perfect = (of_metric(metric, vali, task, one).value for one in (
            scores[task.name], None, vali.columns[task.label]))
        gains.append((value - trivial) / (perfect - trivial))
    assert best["values"] == pytest.approx([sum(gains) / 2])
    rows = list(zip(*(column._cells for column in search.table().columns), strict=True))
    assert rows[-1][0] == f"lightgbm {best['number']}"
    assert "num_leaves=" in rows[-1][-1]
    assert "3 trials of lightgbm" in str(search.table().caption)


@pytest.mark.parametrize(("tune", "message"), [
    ({"baselines": ["average"]}, "average, which has no settings to choose"),
    ({"baselines": ["lightgbmm"]}, "did you mean 'lightgbm'"),
    ({"baselines": ["lightgbm"], "objectives": ["val_loss"]}, "'val_loss', which baselines do not have"),
])
def test_wrong_baselines_are_refused_before_the_first_trial(tmp_path, tune, message):
    with pytest.raises(UserError, match=message):
        Search(made(tmp_path, tune=tune))


def test_several_objectives_give_a_front(tmp_path, pretended):
    objectives = ["val_stop_on", "val_task_1_loss"]
    search, _ = searched(made(tmp_path, tune={"objectives": objectives}))
    result = json.loads((search.folder / tuning.RESULT).read_text())
    assert result["maximise"] == [True, False]
    assert result["best"] == [max(range(4), key=lambda n: result["trials"][n]["values"][0])]  # the losses are equal
    assert search.table().title == "front of trials"


def test_trials_on_another_validation_split_are_not_compared(tmp_path, pretended):
    with pytest.raises(InputError, match="other lists or labels, so that trials cannot be compared"):
        searched(made(tmp_path, {"data.num_lists": [12, 20]}))
    assert pretended.experiments == []


def test_no_trial_starts_after_the_time_is_over(tmp_path, pretended):
    with pytest.raises(InputError, match="is complete; give more minutes"):
        searched(made(tmp_path, tune={"minutes": 1e-12}))
    assert pretended.experiments == []


def test_a_missing_library_is_told(tmp_path, monkeypatch):
    find = tuning.importlib.util.find_spec
    monkeypatch.setattr(tuning.importlib.util, "find_spec", lambda name: None if name == "optuna" else find(name))
    with pytest.raises(InputError, match=r"pip install 'tfmtl2r\[tune\]'"):
        Search(made(tmp_path))


@pytest.mark.slow
def test_the_command_trains_and_prints_the_best(tmp_path, monkeypatch, capsys):
    """With real trainings, and a kill between or during trials: what a trial's run card holds is what its value is."""
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(SEARCH)
    with subprocess.Popen([sys.executable, "-m", "tfmtl2r.cli", "tune", "mine.toml"], stdout=subprocess.DEVNULL) as one:
        while not Path("runs/mine-tune/trial-0000/run.json").exists() and one.poll() is None:
            time.sleep(0.1)
        one.kill()
    assert cli.main(["tune", "mine.toml"]) == 0
    assert "best trials" in (shown := capsys.readouterr().out)
    assert "train the best: tfmtl2r train runs/mine-tune/experiment.toml" in shown
    rows = json.loads(Path("runs/mine-tune/tune.json").read_text())["trials"]
    assert len(rows) == 3
    assert "complete" in [row["state"] for row in rows]
    for row in (row for row in rows if row["state"] == "complete"):
        card = json.loads(Path(f"runs/mine-tune/trial-{row['number']:04d}/run.json").read_text())
        assert row["values"] == [card["history"]["val_stop_on"][-1]]
        assert card["config"]["optimizer"]["learning_rate"] == row["settings"]["optimizer.learning_rate"]
        assert "tune" not in card["config"]
    assert cli.main(["tune", "mine.toml", "--name", "other", "--set", 'tune.space.method=["mgdaa"]']) == 1
    assert "tune.space.method cannot be used: method is unknown: no method is called 'mgdaa'" in capsys.readouterr().err
