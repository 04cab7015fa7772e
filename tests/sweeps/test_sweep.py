"""Sweeps: what is run, what is trusted, and that neither interruptions nor neighbours change a number."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tfmtl2r.experiment import Experiment
from tfmtl2r.preferences import das_dennis
from tfmtl2r.report.hparams import flatten
from tfmtl2r.runs.card import RunCard
from tfmtl2r.runs.finished import load
from tfmtl2r.runs.identity import PER_LIST
from tfmtl2r.runs.places import CARD, LOG
from tfmtl2r.sweeps import planning as plans
from tfmtl2r.sweeps import pool
from tfmtl2r.sweeps.lines import LineProcess
from tfmtl2r.sweeps.sweep import Sweep
from tfmtl2r.task import Task

BASE = Experiment(
    name="base", data={"name": "synthetic_mslr", "num_lists": 16, "max_length": 8, "num_tasks": 2, "num_features": 8},
    architecture={"name": "shared_bottom", "units": [8, 4]},
    training={"epochs": 2, "patience": 0, "batch_size": 4, "telemetry_every": 0},
)
GRID = das_dennis(2, 2)
BOUND = {"task": "task_1", "loses_at_most": "1%"}


SEARCH = """
name = "mine"
data = {name = "synthetic_mslr", num_lists = 16, max_length = 8, num_tasks = 1, num_features = 4}
architecture = {name = "shared_bottom", units = [4]}
training = {epochs = 2, batch_size = 8}
[tune]
trials = 3
space = {"optimizer.learning_rate" = {low = 1e-3, high = 1e-1, log = true}}
"""
"""An experiment file of a search, whose last table is that of the search."""


def small_plan(seeds=(0,)):
    return plans.plan(BASE, ["linear_scalarization", "mgda"], GRID, seeds)


def test_plan_is_every_combination_once():
    planned = plans.plan(BASE, ["linear_scalarization", {"name": "cagrad", "c": 0.5}, "epo"], GRID, (3, 4),
                         ["shared_bottom", "mmoe"])
    # cagrad takes preferences in this library; mgda below does not.
    assert len(planned) == 2 * 3 * len(GRID) * 2
    assert len({experiment.name for experiment in planned}) == len(planned)
    shares = [experiment.preference and tuple(experiment.preference.values()) for experiment in small_plan()]
    assert shares == [(1, 0), (0.5, 0.5), (0, 1), None]
    assert all(min(e.preference.values()) > 0 for e in planned if e.method == "epo")
    with pytest.raises(ValueError, match="two runs of this sweep are the same: mgda-shared_bottom-s1"):
        plans.plan(BASE, ["mgda", "mgda"], GRID, (1,))
    with pytest.raises(ValueError, match="no architecture is called 'mmo'; did you mean 'mmoe'"):
        plans.plan(BASE, ["mgda"], GRID, (1,), ["shared_bottom", "mmo"])
    with pytest.raises(ValueError, match=r"preferences must be \[N, 2\]"):
        plans.plan(BASE, ["mgda"], das_dennis(3, 2))


@pytest.mark.parametrize(("changes", "methods", "architectures", "message"), [
    ({"gradients": "features"}, ["mgda", "graddrop"], [], "GradDrop cannot run with gradients='features', only with"),
    ({}, ["mgda"], ["shared_bottom", "esmm"], r"task 'task_1' is graded .* choose an architecture without a funnel"),
    ({"tasks": [{"name": "task_1", "kind": "binary"}, {"name": "task_2", "kind": "binary", "loss": "bce"}]}, ["mgda"],
     ["esmm"], r"task 'task_1' is binary with the loss Softmax"),
    ({}, [{"name": "nmt", "stage_epochs": 1}], [], "NMT takes"),
    ({}, [{"name": "mgda", "epsilon": 1}], [], "method 'mgda' has no option epsilon"),
])
def test_runs_that_cannot_succeed_are_refused_at_planning(changes, methods, architectures, message):
    base = BASE.but(training={"epochs": 1}, **changes)
    with pytest.raises((ValueError, TypeError), match=message):
        plans.plan(base, methods, GRID, (0,), architectures)


@pytest.mark.parametrize("architecture", ["aitm", "esmm", "drgrad"])
def test_a_task_that_cannot_be_trained_alone_is_told_at_planning(architecture):
    """Nothing is trained, and the message names the flag."""
    with pytest.raises(ValueError, match=r"no task can be trained alone: .*; leave out the single-task runs"):
        plans.single_tasks(BASE.but(architecture=architecture))
    with pytest.raises(ValueError, match="at least"):
        plans.plan(BASE.but(architecture=architecture, tasks=(), data={"tasks": ["task_1"]}), ["mgda"], [[1.0]])


def test_names_carry_what_decides_the_outcome_and_nothing_else():
    name = plans.named(BASE).name
    assert plans.named(BASE.but(directory="elsewhere", name="x")).name == name
    for change in ({"training": {"seed": 1}}, {"training": {"epochs": 3}}, {"data": "synthetic_mslr"},
                   {"tasks": ("task_1", "task_2")}, {"method": {"name": "stch", "mu": 0.5}},
                   {"tasks": (Task("task_1", loss="mse"),)}):
        assert plans.named(BASE.but(**change)).name != name


def test_own_tasks_survive_the_way_to_another_process():
    experiment = Experiment("a", tasks=["like", Task("click", "is_click", "binary", loss="bce")])
    config = json.loads(json.dumps(experiment.config()))
    again = Experiment.of(config)
    assert again.tasks == experiment.tasks
    assert json.loads(json.dumps(again.config())) == config
    assert flatten(config)["tasks"] == "like,click"  # as TensorBoard shows them


def test_constraints_and_arrays_have_names():
    short, bound = (plans.named(BASE.but(method="nmt", constraints=[{"task": "task_1", "loses_at_most": most}]))
                    for most in ("1%", 0.02))
    assert short.name != bound.name
    assert plans.named(Experiment.of(json.loads(json.dumps(bound.config())))).name == bound.name
    array = plans.named(BASE.but(preference=dict(zip(("task_1", "task_2"), np.array([0.25, 0.75]), strict=True))))
    assert array.name == plans.named(BASE.but(preference={"task_1": 0.25, "task_2": 0.75})).name


def test_what_needs_several_tasks_is_left_to_them(tmp_path, pretend):
    base = BASE.but(method="nmt", staged=True, constraints=[BOUND], conditioned=1.0)
    plain = [*plans.single_tasks(base), *plans.ends(base)]
    assert len(plain) == 4
    for experiment in plain:
        assert (experiment.staged, experiment.constraints, experiment.conditioned) == (False, (), None)
        assert experiment.method == "linear_scalarization"
    with Sweep(tmp_path / "s", jobs=1, report=print) as sweep:  # both belong into one sweep
        assert len(sweep.run([*plain, plans.named(base)])) == 5


def test_options_of_the_command_line():
    assert plans.parsed("stch:mu=0.5,warmup=0") == {"name": "stch", "mu": 0.5, "warmup": 0}
    assert plans.parsed("shared_bottom:units=[8,4],activation='elu'")["activation"] == "elu"
    for text in ("stch:mu", "stch:", "stch:mu=open", "stch:1", "stch:mu=0.5,mu", "stch:**{}"):
        with pytest.raises(ValueError, match="expected NAME or NAME:option=value"):
            plans.parsed(text)


diverged = set()  # runs that end with a metric that is no number


@pytest.fixture
def pretend(monkeypatch):
    """A worker that makes up results from the settings alone; fails where it is told to."""
    asked, broken = [], set()
    diverged.clear()

    def run(self, job, judge=None):
        asked.append(job["name"])
        folder = Path(job["directory"]) / job["name"]
        folder.mkdir(parents=True, exist_ok=True)
        if job["name"] in broken:
            return "ValueError: no luck" if len(broken) == 1 else None
        if job["name"] in diverged:
            values = [0.5, float("nan")]
        else:
            values = np.random.default_rng(abs(hash((job["name"], job["training"]["seed"])))).random(2)
        tasks = ["task_1", "task_2"]
        results = {t: {"ndcg@5": {"value": v, "direction": "max", "num_lists": 4}} for t, v in zip(tasks, values)}  # noqa: B905
        history = {f"{p}{t}_loss": [1.0, v] for p in ("", "val_") for t, v in zip(tasks, values)}  # noqa: B905
        history |= {f"val_{t}_ndcg@5": [0.1, v] for t, v in zip(tasks, values)}  # noqa: B905
        zipfile.ZipFile(folder / "model.keras", "w").close()
        np.savez(folder / PER_LIST)
        RunCard(job["name"], job, {}, {"test": results}, history).save(folder)
        return None

    monkeypatch.setattr(pool.Worker, "run", run)
    monkeypatch.setattr(pool.Worker, "ready", lambda self, over: not over.is_set())
    return asked, broken


def test_finished_runs_are_not_run_again_and_untrusted_ones_are(tmp_path, pretend):
    asked, _ = pretend
    with Sweep(tmp_path / "s", jobs=2, report=print) as sweep:
        runs = sweep.run(small_plan())
    assert [run.card.name for run in runs] == [experiment.name for experiment in small_plan()]
    table = (tmp_path / "s/table.csv").read_bytes()
    assert len(asked) == len(runs) == 4
    asked.clear()
    no_card, other_settings, no_model, no_json = (run.folder for run in runs)
    (no_card / CARD).unlink()
    card = RunCard.load(other_settings)
    card.config["optimizer"]["learning_rate"] = 5.0
    card.save(other_settings)
    (no_model / "model.keras").unlink()
    (no_json / CARD).write_text("{")
    with Sweep(tmp_path / "s", jobs=1, report=print) as sweep:
        assert len(sweep.run(small_plan())) == 4
    assert sorted(asked) == sorted(run.card.name for run in runs)
    assert (tmp_path / "s/table.csv").read_bytes() == table
    asked.clear()
    with Sweep(tmp_path / "s", report=print) as sweep:
        sweep.run(small_plan())
        assert asked == []
        sweep.run(small_plan(seeds=(0, 1)))  # more of it joins the same table
    assert len(asked) == 4
    rows = list(csv.DictReader((tmp_path / "s/table.csv").read_text().splitlines()))
    assert len(rows) == 8
    assert [row["run"] for row in rows[:4]] == [experiment.name for experiment in small_plan()]


def test_a_metric_that_is_no_number_costs_no_other_run_its_place(tmp_path, pretend):
    planned = small_plan()
    diverged.add(planned[1].name)
    lines = []
    with Sweep(tmp_path / "s", jobs=1, report=lines.append) as sweep:
        assert len(sweep.run(planned)) == 4
    assert f"not on the front: run {planned[1].name!r}: task_2 ndcg@5 (test) is nan" in lines
    table = {row["run"]: row for row in csv.DictReader((tmp_path / "s/table.csv").read_text().splitlines())}
    assert table[planned[1].name]["front"] == ""
    assert any(row["front"] == "*" for row in table.values())


def test_a_failed_run_is_told_and_stops_nobody(tmp_path, pretend):
    asked, broken = pretend
    planned = small_plan()
    broken.add(planned[1].name)
    lines = []
    with Sweep(tmp_path / "s", jobs=2, report=lines.append) as sweep:
        runs = sweep.run(planned)
    assert len(runs) == 3
    assert sweep.failed == {planned[1].name: f"ValueError: no luck; see {tmp_path / 's' / planned[1].name / LOG}"}
    assert sum(line.startswith("FAILED") for line in lines) == 1
    broken.add("another")
    with Sweep(tmp_path / "s", report=lines.append) as sweep:
        assert len(sweep.run(planned)) == 3
        assert "the run ended without writing all of its files" in sweep.failed[planned[1].name]
    broken.clear()
    with Sweep(tmp_path / "s", report=lines.append) as sweep:
        assert len(sweep.run(planned)) == 4
        assert sweep.failed == {}
    assert asked.count(planned[1].name) == 3
    assert len(asked) == 6


def test_a_sweep_keeps_to_its_folder_and_settings(tmp_path, pretend):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").touch()
    with pytest.raises(ValueError, match="is not empty and contains no sweep"), Sweep(tmp_path / "mine"):
        pass
    with Sweep(tmp_path / "s"):
        pass  # as after a mistake in what to run
    with Sweep(tmp_path / "s", report=print) as sweep:
        sweep.run(small_plan())
        busy = rf"another process \({os.getpid()}\) runs the sweep in"
        with pytest.raises(ValueError, match=busy), Sweep(tmp_path / "s"):
            pass
        other = [experiment.but(training={"epochs": 9}) for experiment in small_plan()]
        with pytest.raises(ValueError, match=r"has training\.epochs=2, not 9"):
            sweep.run([plans.named(experiment) for experiment in other])
    with pytest.raises(ValueError, match="started with 1 threads"), Sweep(tmp_path / "s", threads=2) as sweep:
        sweep.run(small_plan())
    with pytest.raises(ValueError, match="jobs and threads must be at least 1, not -1"):
        Sweep(tmp_path, jobs=-1)


def test_what_is_cut_off_is_no_failure_and_nothing_follows(tmp_path, monkeypatch):
    asked = []

    def run(self, job, judge=None):  # as when Ctrl-C comes during the first run
        asked.append(job["name"])
        sweep.__exit__()
        return "its process ended with code -9"

    monkeypatch.setattr(pool.Worker, "run", run)
    monkeypatch.setattr(pool.Worker, "ready", lambda self, over: not over.is_set())
    with Sweep(tmp_path / "s", jobs=1, report=print) as sweep:
        assert sweep.run(small_plan()) == []
    assert sweep.failed == {}
    assert asked == [small_plan()[0].name]


SCRIPT = """
import sys
sys.path.insert(0, {here!r})
from test_sweep import *
with Sweep(sys.argv[1], jobs=int(sys.argv[2]), report=lambda line: print(line, flush=True)) as sweep:
    sweep.run(small_plan())
    assert not sweep.failed, sweep.failed
"""


@pytest.mark.long
def test_killed_half_way_and_continued_gives_the_same_table(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(here=os.path.dirname(__file__)))

    def command(folder, jobs):
        return [sys.executable, str(script), str(tmp_path / folder), str(jobs)]

    first = subprocess.Popen(command("a", 2), stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline().startswith("done")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").glob(f"*/{CARD}")}
    assert 1 <= len(before) < 4
    again = subprocess.run(command("a", 2), capture_output=True, text=True, check=True)
    assert again.stdout.count("done") == 4 - len(before)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    # One process trains all of them: every run has other runs before it than in the two processes above.
    subprocess.run(command("b", 1), capture_output=True, check=True)
    for table in ("table.csv", "table.md"):
        assert (tmp_path / "a" / table).read_bytes() == (tmp_path / "b" / table).read_bytes()
    for run in map(load, sorted((tmp_path / "a").glob("*/"))):
        assert load(tmp_path / "b" / run.card.name).card.history == run.card.history


@pytest.mark.long
def test_real_failures_leave_a_log_and_orphans_end(tmp_path):
    bad = plans.named(BASE.but(preference={"task_1": 1.0, "task_2": 2.0}, method="mgda"))
    with Sweep(tmp_path / "s", jobs=1, report=print) as sweep:
        runs = sweep.run([bad, *small_plan()[-1:]])
        assert [run.card.name for run in runs] == [small_plan()[-1].name]
        assert "MGDA has no preference" in sweep.failed[bad.name]
        assert "Traceback" in (tmp_path / "s" / bad.name / LOG).read_text()
        process = sweep._pool.workers[0].process.process
        os.kill(process.pid, signal.SIGKILL)  # as when memory runs out
        process.wait()
        assert len(sweep.run(small_plan()[:1])) == 1
        process = sweep._pool.workers[0].process.process
        process.stdin.close()  # as when the sweep itself is killed
        start = time.monotonic()
        assert process.wait(timeout=30) == 1
        assert time.monotonic() - start < 10


@pytest.mark.parametrize("listens", [True, False])
def test_a_worker_may_save_before_it_is_killed(tmp_path, listens):
    reaction = "(open('saved', 'w').close(), sys.exit())" if listens else "None"
    code = (f"import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: {reaction}); print(input());"
            "time.sleep(60)")
    process = LineProcess(["-c", code], str(tmp_path))
    assert process.ask("on") == "on"
    process.stop(20.0 if listens else 0.1)
    assert process.ended() == f"ended with code {0 if listens else -signal.SIGKILL}"
    assert (tmp_path / "saved").exists() == listens


def test_a_worker_is_asked_to_stop_once(monkeypatch):
    process, sent = LineProcess(["-c", "input()"]), []
    monkeypatch.setattr(process.process, "terminate", lambda: (sent.append("TERM"), process.process.kill()))
    process.ask_to_stop()
    process.stop(20.0)  # a second signal would end a training before its checkpoint is whole
    assert sent == ["TERM"]


def test_the_first_error_of_a_job_ends_the_work_and_is_raised(monkeypatch):
    monkeypatch.setattr(pool.Worker, "ready", lambda self, over: not over.is_set())
    waiting, done = iter(range(5)), []

    def do(worker, job):
        done.append(job)
        if job == 1:
            raise ValueError("the reason")

    with pool.Pool(jobs=1) as one, pytest.raises(ValueError, match="the reason"):
        one.work(5, [], lambda: next(waiting, None), do)
    assert done == [0, 1]
