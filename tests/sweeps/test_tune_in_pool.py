"""Trials of a search that are trained in several processes at a time."""

import json
import threading
from pathlib import Path

import pytest
from test_tune import RATE, made, searched, value_of

from tfmtl2r.experiment import Experiment
from tfmtl2r.runs.card import RunCard
from tfmtl2r.sweeps import pool, tuning

pytest.importorskip("optuna")


@pytest.fixture
def pretended(monkeypatch):
    """Workers without processes, whose trainings reach the values of ``value_of``."""
    both, jobs = threading.Barrier(2, timeout=30), []

    def run(self, job, judge=None):
        jobs.append(job)
        if len(jobs) <= 2:
            both.wait()  # two trials are trained at a time
        experiment = Experiment.of({key: value for key, value in job.items() if key != "watched"})
        value = value_of(experiment)
        if len(jobs) == 3:
            return "its process ended with code -9"
        if job["watched"]:
            for epoch in range(experiment.training.epochs):
                if judge(epoch, value if len(jobs) < 8 else -100.0):
                    return None
        history = {"val_stop_on": [value] * experiment.training.epochs, "val_task_1_loss": [2.0]}
        RunCard(job["name"], job, {}, {}, history).save(experiment.folder)
        return None

    monkeypatch.setattr(pool.Worker, "run", run)
    monkeypatch.setattr(pool.Worker, "ready", lambda self, over: not over.is_set())
    return jobs


def test_as_many_trials_as_asked(tmp_path, pretended):
    search, said = searched(made(tmp_path, tune={"trials": 9, "jobs": 2}))
    assert len(pretended) == len(said) == 9
    assert {job["watched"] for job in pretended} == {"val_stop_on"}
    rows = json.loads((search.folder / tuning.RESULT).read_text())["trials"]
    states = [row["state"] for row in rows]
    assert sorted(row["number"] for row in rows) == list(range(9))
    assert states.count("fail") == 1
    [failed] = [row for row in rows if row["error"]]
    assert failed["error"].startswith("its process ended with code -9; see ")
    assert failed["error"].endswith("log.txt")
    assert states[-1] == "pruned"
    assert not (search.folder / "trial-0008").exists()
    best = max((row for row in rows if row["state"] == "complete"), key=lambda row: row["values"])
    assert search.best[0].number == best["number"]
    more, _ = searched(made(tmp_path, tune={"trials": 10, "jobs": 2}))
    assert len(pretended) == 10
    assert len(more.finished) == 10


def test_several_objectives_are_not_watched(tmp_path, pretended):
    searched(made(tmp_path, tune={"trials": 2, "jobs": 2, "objectives": ["val_stop_on", "val_task_1_loss"]}))
    assert {job["watched"] for job in pretended} == {None}


def test_a_trial_that_is_cut_off_is_no_failure(tmp_path, monkeypatch):
    """As when Ctrl-C comes during a trial. The next search trains it again."""
    def run(self, job, judge=None):
        seen[0].stopped = True
        return "its process ended with code -9"

    seen, real = [], pool.Pool.__enter__
    monkeypatch.setattr(pool.Pool, "__enter__", lambda self: (seen.append(self), real(self))[1])
    monkeypatch.setattr(pool.Worker, "run", run)
    monkeypatch.setattr(pool.Worker, "ready", lambda self, over: not over.is_set())
    with pytest.raises(ValueError, match=r"no trial of .* is complete; give more minutes"):
        searched(made(tmp_path, tune={"trials": 2, "jobs": 2}))
    with tuning.Search(made(tmp_path, tune={"trials": 2, "jobs": 2})) as search:
        assert search.finished == []
        assert len(search.study.trials) >= 1


def test_files_that_registered_a_choice_are_imported_by_the_workers(tmp_path, pretended, monkeypatch):
    seen = []
    monkeypatch.setattr(tuning, "extensions", lambda jobs: seen.extend(jobs) or [])
    space = {**RATE, "method": ["mgda", "cagrad"]}
    searched(made(tmp_path, space, tune={"trials": 2, "jobs": 2}))
    assert {"mgda", "cagrad"} <= {job["method"] for job in seen}


@pytest.mark.slow
def test_real_trials_in_two_processes(tmp_path):
    """The value of a trial is that of its card, and a trial that is worse ends early."""
    search, said = searched(made(tmp_path, tune={"trials": 2, "jobs": 2}))
    assert len(said) == 2
    for row in json.loads((search.folder / tuning.RESULT).read_text())["trials"]:
        folder = Path(search.folder) / f"trial-{row['number']:04d}"
        assert row["values"] == [RunCard.load(folder).history["val_stop_on"][-1]]
        assert not RunCard.load(folder).served
        assert (folder / "log.txt").is_file()
