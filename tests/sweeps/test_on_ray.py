"""Runs of sweeps and searches on a Ray cluster are those of processes here, and so are their failures."""

import contextlib
import importlib.util
import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from test_sweep import BASE, SEARCH, small_plan

import tfmtl2r
from tfmtl2r import cli, cluster
from tfmtl2r.errors import InputError, MissingPackageError, WorkerError
from tfmtl2r.runs.finished import load
from tfmtl2r.runs.places import LOG
from tfmtl2r.settings.outcome import outcome
from tfmtl2r.sweeps import Search, Sweep, manifest, pool
from tfmtl2r.sweeps.lines import LineProcess

ON_RAY = {"training": {"on": "ray"}}
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: tfmtl2r[cluster]")
RATE = {"optimizer.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}


def on_ray(experiments):
    return [experiment.but(**ON_RAY) for experiment in experiments]


def test_where_the_pool_is():
    both = [BASE, *on_ray([BASE])]
    assert [pool.place([one]) for one in both] == ["local", "ray"]
    assert (pool.place(both), pool.place([])) == ("local", "local")
    assert pool.place([both[1].but(training={"workers": 1})]) == "ray"
    assert pool.place([both[1].but(training={"workers": 2})]) == "local"  # Ray Train has the workers of each


def test_ray_that_is_not_installed_is_told_before_anything_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None if name == "ray" else name)
    message = r"training\.on = \"ray\" needs Ray: pip install 'tfmtl2r\[cluster\]'"
    with pytest.raises(MissingPackageError, match=message), Sweep(tmp_path / "s") as sweep:
        sweep.run(on_ray([BASE]))
    assert manifest.read(tmp_path / "s")["runs"] == []
    pytest.importorskip("optuna")
    with pytest.raises(MissingPackageError, match=message):
        Search(BASE.but(directory=str(tmp_path), tune={"space": RATE}, **ON_RAY))
    assert not (tmp_path / "base-tune").exists()


ECHO = "import sys\nfor line in sys.stdin:\n    print('{\"error\": null}', flush=True)"


class Pretended(LineProcess):
    """A process of a cluster that has a place for it only after some looks, and may lose it."""

    looks, lost, made, released = 1, False, [], []

    def __init__(self, kind, arguments, folder, environment, gpus):
        assert kind is LineProcess
        super().__init__(["-c", ECHO], folder, environment)
        self.left, self.gpus = type(self).looks, gpus
        self.made.append(self)

    def placed(self, seconds):
        self.left -= 1
        return self.left < 0

    def ask(self, line):
        if type(self).lost:
            type(self).lost = False
            self.stop(0)
            raise WorkerError("the Ray cluster has lost its process")
        return super().ask(line)

    def release(self):
        if self.is_alive():
            self.stop(0)
        self.released.append(self)


@pytest.fixture
def pretended(monkeypatch):
    class Cluster:
        def __init__(self, wanted, what):
            pass

        def __enter__(self):
            return {"CPU": 4.0, "GPU": 2.0}

        def __exit__(self, *error):
            pass

    for name, value in (("looks", 1), ("lost", False), ("made", []), ("released", [])):
        monkeypatch.setattr(Pretended, name, value)
    monkeypatch.setattr(cluster, "joined", Cluster)
    monkeypatch.setattr(cluster, "Remote", Pretended)
    return Pretended


def work(jobs, count=5):
    waiting, found = iter(range(count)), {}

    def do(worker, job):
        found[job] = worker.run({"number": job})

    with pool.Pool(jobs, on="ray") as one:
        one.work(count, [], lambda: next(waiting, None), do)
    return found, one


def test_one_job_per_gpu_by_default_and_equal_shares_of_gpus_otherwise(pretended):
    found, one = work(None)
    assert found == dict.fromkeys(range(5))
    assert (one.jobs, {process.gpus for process in pretended.made}) == (2, {1.0})
    assert {process.gpus for process in pretended.made[:1]} == {1.0}
    _, one = work(3)
    assert (one.jobs, {process.gpus for process in pretended.made[2:]}) == (3, {0.5})
    assert sorted(map(id, pretended.made)) == sorted(map(id, pretended.released))


def test_a_process_without_a_place_waits_only_while_there_are_jobs(pretended, monkeypatch):
    class Full(pretended):
        def placed(self, seconds):
            return self is self.made[0]

    monkeypatch.setattr(cluster, "Remote", Full)
    found, _ = work(2)
    assert found == dict.fromkeys(range(5))
    assert len(pretended.made) == 2
    assert len(pretended.released) == 2


def test_a_process_that_the_cluster_loses_is_a_failed_job_and_another_starts(pretended):
    pretended.lost = True
    found, _ = work(1)
    assert found == {0: "the Ray cluster has lost its process", **dict.fromkeys(range(1, 5))}
    assert len(pretended.made) == 2


def test_nothing_starts_after_the_end(pretended):
    """A new process would begin a cluster of its own."""
    with pool.Pool(1, on="ray") as one:
        one.work(3, [], lambda: 1, lambda worker, job: one.__exit__())
    assert len(pretended.made) == 1
    assert len(pretended.released) == 1
    assert not pretended.made[0].is_alive()


@needs_ray
@pytest.mark.long
def test_the_runs_of_processes_here(two_cpus, tmp_path):
    planned = small_plan()[:2]
    here, there = (tmp_path / name for name in ("here", "there"))
    with Sweep(here, jobs=1, report=print) as sweep:
        assert len(sweep.run(planned)) == 2
    with Sweep(there, jobs=2, report=print) as sweep:
        assert len(sweep.run(on_ray(planned))) == 2, sweep.failed
    for table in ("table.csv", "table.md"):
        assert (there / table).read_bytes() == (here / table).read_bytes()
    assert manifest.read(there)["runs"] == [{**job, "directory": str(there)} for job in manifest.read(here)["runs"]]
    for one in planned:
        mine, other = load(there / one.name).card, load(here / one.name).card
        assert (mine.results, mine.history, mine.served) == (other.results, other.history, other.served)
        assert outcome(mine.config) == outcome(other.config)
        assert (there / one.name / LOG).is_file()
        weights = [tfmtl2r.load(folder / one.name).get_weights() for folder in (here, there)]
        for found, expected in zip(*weights, strict=True):
            np.testing.assert_array_equal(found, expected)
    with Sweep(there, report=print) as sweep:  # nothing is trained again, wherever it was
        assert len(sweep.run(planned)) == 2
        assert sweep._pool is None
    with pytest.raises(InputError, match="9 jobs need a CPU each, and the Ray cluster has 2"), \
            Sweep(there, jobs=9, report=print) as sweep:
        sweep.run(on_ray(small_plan()))


def workers_in(folder):
    """The processes that train runs with this current folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"tfmtl2r.sweeps.worker" in (path / "cmdline").read_bytes() and (path / "cwd").resolve() == folder:
                found.append(int(path.name))
    return found


@needs_ray
@pytest.mark.long
@pytest.mark.parametrize("whole", [False, True])
def test_a_killed_process_is_a_failed_run_and_the_sweep_goes_on(two_cpus, tmp_path, monkeypatch, whole):
    """Either the process of the training is killed, or the one of Ray that has started it, as with its machine."""
    monkeypatch.chdir(tmp_path)
    planned = small_plan()[:2]
    killed = []

    def kill():
        while not (tmp_path / "s" / planned[0].name / LOG).is_file():
            time.sleep(0.01)
        killed.extend(workers_in(tmp_path.resolve()))
        status = Path(f"/proc/{killed[0]}/status").read_text()
        parent = int(status.split("PPid:")[1].split()[0])
        os.kill(parent if whole else killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    with Sweep("s", jobs=1, report=print) as sweep:
        assert [one.card.name for one in sweep.run(on_ray(planned))] == [planned[1].name]
        said = "the Ray cluster has lost its process" if whole else "its process ended with code -9"
        assert said in sweep.failed[planned[0].name]
        assert killed[0] not in workers_in(tmp_path.resolve())
        assert len(sweep.run(on_ray(planned))) == 2
    thread.join()
    assert workers_in(tmp_path.resolve()) == []


@needs_ray
@pytest.mark.long
def test_a_search_and_a_cross_validation_with_the_commands(two_cpus, tmp_path, monkeypatch, capsys):
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(f"{SEARCH}jobs = 2\n")
    assert cli.main(["tune", "mine.toml", "--on", "ray"]) == 0
    assert "best trials" in capsys.readouterr().out
    rows = json.loads(Path("runs/mine-tune/tune.json").read_text())["trials"]
    assert [row["number"] for row in rows] == [0, 1, 2]
    for row in rows:
        card = load(Path(f"runs/mine-tune/trial-{row['number']:04d}")).card
        assert row["values"] == [card.history["val_stop_on"][-1]]
        assert card.config["optimizer"]["learning_rate"] == row["settings"]["optimizer.learning_rate"]
    assert cli.main(["cross-validate", "mine.toml", "--folds", "2", "--jobs", "2", "--on", "ray"]) == 0
    there = json.loads(Path("runs/mine-cv/cross_validation.json").read_text())
    assert cli.main(["cross-validate", "mine.toml", "--folds", "2", "--jobs", "1", "--name", "here"]) == 0
    here = json.loads(Path("runs/here-cv/cross_validation.json").read_text())
    assert [*there["rows"].values()] == [*here["rows"].values()]
