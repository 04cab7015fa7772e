"""Experiments: when the validation split is looked at, and settings that change how a training runs."""

import dataclasses
import logging

import numpy as np
import pytest

from tfmtl2r import Dense, Schema, Task
from tfmtl2r._backend import keras, tf
from tfmtl2r.commands._options import parse
from tfmtl2r.commands.train import COMMAND
from tfmtl2r.data import Lists, batches, leaks
from tfmtl2r.data.quality import leaks_of
from tfmtl2r.datasets import DataSet
from tfmtl2r.experiment import Experiment
from tfmtl2r.sweeps.planning import named
from tfmtl2r.training import fitting

SMALL = {"data": {"name": "synthetic_mslr", "num_lists": 16, "max_length": 8, "num_tasks": 2, "num_features": 8},
         "architecture": {"name": "shared_bottom", "units": [4]}}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("every", "looks"), [(1, 5), (2, 3), (0, 1)])
def test_validation_comes_as_often_as_asked_and_at_the_end(tmp_path, every, looks):
    experiment = Experiment("a", directory=str(tmp_path), **SMALL, training={
        "epochs": 5, "patience": 0, "validate_every": every, "batch_size": 8, "telemetry_every": 0})
    _, card = experiment.run(verbose=0)
    assert len(card.history["loss"]) == 5
    assert len(card.history["val_task_1_loss"]) == looks


def test_an_entry_that_changes_no_task_is_refused():
    data = {"name": "kuairand_excerpt", "tasks": ["click"]}
    experiment = Experiment("x", data=data, tasks=[{"name": "clik", "loss": "bce"}])
    with pytest.raises(ValueError, match="the entry 'clik' of tasks changes no task; did you mean 'click'"):
        experiment.select(experiment.dataset())


@dataclasses.dataclass(frozen=True)
class Ready(DataSet):
    """A data set whose tasks an experiment may change."""

    def tasks(self):
        return Task("click", kind="binary"), Task("like", kind="binary")

    def read(self, split):
        names = ("click", "like", "x", "tab", "weight", "other")
        columns = {name: np.arange(6.0) % 2 - (split == "test" and name == "other") for name in names}
        return Lists(columns, offsets=np.array([0, 3, 6]))


@pytest.mark.parametrize("change", [
    {"only_where": {"column": "tab", "is": 1}}, {"weight_column": "weight"}, {"propensity_column": "weight"},
    {"label": "other"}, {"loss": "bce"},
])
def test_a_task_alone_reads_the_features_that_it_reads_among_others(change):
    """No column that another task's entry names becomes an input where only this task is trained."""
    dataset = Ready()
    among = Experiment("a", data=dataset, tasks=[{"name": "click", **change}, "like"], architecture="single_task")
    alone = among.but(data={"name": dataset, "tasks": ["like"]})  # as a sweep does
    expected, found = (one.model(dataset).schema.names for one in (among, alone))
    assert found == expected
    assert "x" in found
    assert change.get("only_where", {}).get("column", next(iter(change.values()))) not in found


def test_rules_of_the_data_choose_rows_of_a_ready_data_set_too():
    rules = {"column": "tab", "is": 1}
    experiment = Experiment("a", data={"name": Ready(), "only_where": rules}, tasks=["click"])
    dataset = experiment.dataset()
    assert [dataset.lists(split).num_items for split in dataset.splits] == [3, 3, 3]
    assert dataset.lists("train").sizes.tolist() == [1, 2]
    assert "tab" not in dataset.schema().names
    assert "tab" in Ready().schema().names
    found = Experiment.of(parse(COMMAND, ["--data", "kuairand_excerpt", "--data.only-where",
                                          '{column = "is_like", is = 1}'])[0])
    assert found.tree()["data"]["only_where"] == {"column": "is_like", "is": 1}
    assert found.dataset().lists("vali").column("is_like").tolist() == [1] * found.dataset().lists("vali").num_items
    with pytest.raises(ValueError, match="data, the train split: only_where leaves none of 6 rows"):
        Ready().where({"column": "tab", "is": 7}).lists("train")


def test_a_training_tells_suspected_leaks_before_its_first_step(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Experiment, "_train", lambda *_: pytest.fail("first step"))
    rows = [f"{i // 4},{i % 4},{i % 2},{i % 2}" for i in range(120)]
    (tmp_path / "log.csv").write_text("\n".join(["q,x,seen,click", *rows]))
    experiment = Experiment("a", data={"files": str(tmp_path / "log.csv"), "list_id": "q"}, directory=str(tmp_path),
                            tasks=[{"name": "click", "kind": "binary"}])
    with pytest.raises(pytest.fail.Exception, match="first step"):
        experiment.run(verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert "SUSPECTED LEAK: seen gives click away (equal, correlation 1.0000): remove it from the inputs" in lines


def test_the_same_lists_are_examined_once(monkeypatch):
    """The trainings of a sweep share their data, and differ in little else."""
    rows, seen = Lists({"x": np.arange(9.0), "y": np.repeat([0.0, 1.0, 2.0], 3), "z": np.arange(9.0) % 2}), []
    monkeypatch.setattr(leaks, "leaks_of", lambda lists, targets, names: (
        seen.append((*targets, *names)) or leaks_of(lists, targets, names)))
    x, both = Schema([Dense("x")]), Schema([Dense("x"), Dense("z")])
    first, again = (leaks.suspected_leaks(rows, x, [Task("y")]) for _ in range(2))
    assert first == again
    assert len(first) == 1
    assert not leaks.suspected_leaks(rows, both, [Task("other", label="z")])[1:]
    leaks.suspected_leaks(dataclasses.replace(rows), x, [Task("y")])
    assert seen == [("y", "x"), ("z", "x", "z"), ("y", "x")]


@pytest.mark.parametrize(("change", "message"), [
    ({"transform": "log1p"}, "test split: .*'other': -1.0 in row .*takes numbers from 0"),
    ({"only_where": {"column": "gone", "is": 1}}, "train split: .*no column 'gone'"),
])
def test_each_task_is_checked_on_all_splits_whatever_was_checked_before(change, message):
    """A worker trains many experiments on one data set."""
    dataset, task = Ready(), Task("other", kind="regression")
    schema = dataset.schema([task])
    dataset.check([task], schema)
    with pytest.raises(ValueError, match=message):
        dataset.check([dataclasses.replace(task, **change)], schema)


def test_it_decides_no_number_and_not_where_validation_decides():
    often, rarely = (Experiment("a", training={"patience": 0, "validate_every": every}) for every in (1, 0))
    assert named(often).name == named(rarely).name
    for patience, options in ((1, {}), (0, {"staged": True}),
                              (0, {"constraints": [{"task": "like", "loses_at_most": "1%"}]})):
        with pytest.raises(ValueError, match=r"training\.validate_every must be 1, not 2, with patience"):
            Experiment("a", training={"patience": patience, "validate_every": 2}, **options)
    with pytest.raises(ValueError, match="validate_every must be at least 0"):
        Experiment("a", training={"patience": 0, "validate_every": -1})


@pytest.mark.slow
def test_buckets_and_deterministic_operations_reach_the_training(tmp_path, monkeypatch):
    """Batches hold lists of similar length, and TensorFlow is told once."""
    asked, made = [], []
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: asked.append(True))
    monkeypatch.setattr(fitting, "batches", lambda *a, **k: made.append(k.get("buckets")) or batches(*a, **k))
    training = {"epochs": 1, "batch_size": 4, "telemetry_every": 0, "deterministic": True, "buckets": [3, 5]}
    Experiment("b", directory=str(tmp_path), training=training, **SMALL).run(verbose=0)
    assert (asked, made[0]) == ([True], (3, 5))
    for wrong in ("auto2", [0.5], 3):
        with pytest.raises(ValueError, match=r"training\.buckets\S* must be"):
            Experiment(training={"buckets": wrong})
    assert Experiment(training={"buckets": "auto"}).training.buckets == "auto"


@pytest.mark.slow
def test_a_run_has_a_log_of_its_epochs_and_warnings(tmp_path, caplog):
    """Not of what came before and after."""
    training = {"epochs": 2, "patience": 0, "batch_size": 8, "telemetry_every": 0}

    class Warns(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch:
                logging.getLogger("tfmtl2r.data").warning("a strange %s", "value")

    Experiment("l", directory=str(tmp_path), training=training, **SMALL).run(verbose=0, callbacks=[Warns()])
    logging.getLogger("tfmtl2r").warning("afterwards")
    found = [line.split(maxsplit=2)[2] for line in (tmp_path / "l/log.txt").read_text().splitlines()]
    assert len(found) == 3
    assert found[0].startswith("epoch 1: loss ")
    assert "val_task_1_loss" in found[0]
    assert found[1] == "a strange value"
