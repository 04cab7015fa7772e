"""Several workers make the training of one: the same batches, weights, history and checkpoints."""

import importlib.util
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tfmtl2r
from tfmtl2r import Dense, Schema, Task
from tfmtl2r._backend import tf
from tfmtl2r.data import Lists, batches
from tfmtl2r.data.order import Order, Seat
from tfmtl2r.errors import InputError, WorkerError
from tfmtl2r.experiment import Experiment
from tfmtl2r.runs import team
from tfmtl2r.training import distributed, on_ray, processes
from tfmtl2r.training.workers import Agreement, Workers

RECIPES = Path(__file__).parents[2] / "recipes"


class Seated(Workers):
    """A worker without the others: it adds its own values only."""

    def __init__(self, worker, workers):
        super().__init__()
        self.seat = Seat(worker, workers)

    def _sums(self, values):
        return values


def lists(count=11):
    sizes = np.arange(count) % 3 + 1
    return Lists({"x": np.repeat(np.arange(count), sizes).astype(np.float32), "y": np.ones(sizes.sum())},
                 offsets=np.concatenate([[0], np.cumsum(sizes)]))


@pytest.mark.parametrize(("workers", "streams"), [(1, 16), (2, 16), (3, 16), (5, 7), (16, 16)])
def test_a_seat_knows_the_places_of_its_lists(workers, streams):
    for worker in range(workers):
        seat = Seat(worker, workers, streams)
        places = np.flatnonzero(seat.reads(np.arange(70)))
        np.testing.assert_array_equal(seat.place(np.arange(len(places))), places)
        order = Order(np.ones(70), 70, streams=streams)
        np.testing.assert_array_equal(order.share(0, 0, worker, workers), places)
    with pytest.raises(InputError, match="expected 0 <= worker < workers"):
        Seat(workers, workers, streams)


@pytest.mark.parametrize("options", [{}, {"list_limit": 2, "truncate": "random"}, {"buckets": (1, 2)}])
def test_workers_read_every_list_once_per_epoch_in_shares_of_the_same_batches(options):
    """The last batch has one list, so that the second worker has none."""
    tasks, schema = [Task("y", kind="binary")], Schema([Dense("x")])
    data = batches(lists(), tasks, schema, batch_size=5, shuffle=True, seed=2, **options)
    whole = list(data)
    shares = [list(Workers.share(Seated(worker, 2), data)) for worker in range(2)]
    for batch, *parts in zip(whole, *shares, strict=True):
        sizes, firsts = batch[0]["list_size"].numpy(), batch[0]["x"].numpy()[:, 0]
        for worker, part in enumerate(parts):
            np.testing.assert_array_equal(part[0]["list_size"], sizes[worker::2])
            np.testing.assert_array_equal(part[0]["x"].numpy()[:, 0], firsts[worker::2])
    read = [x.numpy()[:, 0] for x in (part[0]["x"] for part in itertools.chain(*shares))]
    np.testing.assert_array_equal(np.sort(np.concatenate(read)), np.arange(11))
    later = list(Workers.share(Seated(1, 2), data.from_step(1)))
    assert len(later) == len(whole) - 1
    np.testing.assert_array_equal(later[0][0]["x"], shares[1][1][0]["x"])


def test_data_of_any_other_kind_are_shared_by_lists():
    data = tf.data.Dataset.from_tensor_slices(({"x": np.arange(7.0)}, {"y": np.arange(7)})).batch(4)
    parts = [[x["x"].numpy().tolist() for x, _ in Workers.share(Seated(worker, 2), data)] for worker in range(2)]
    assert parts == [[[0.0, 2.0], [4.0, 6.0]], [[1.0, 3.0], [5.0]]]
    with pytest.raises(InputError, match="tells its number of batches"):
        Seated(0, 2).share(data.filter(lambda x, y: True))


def test_one_worker_needs_no_others():
    alone = Workers()
    assert (alone.several, alone.is_chief) == (False, True)
    assert alone.text_of_chief(b"any text") == b"any text"
    assert [array.tolist() for array in alone.of_chief([np.arange(2), np.array([True])])] == [[0, 1], [True]]
    assert alone.beside(np.arange(2.0)).tolist() == [[0.0, 1.0]]
    assert Agreement(alone)(1, [True, False]) == [True, False]
    assert Seated(1, 2).text_of_chief(b"mine") == b""  # the chief's is empty here


def test_workers_ask_each_other_after_as_many_steps_as_the_chief_makes_in_a_second(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    agreed = Agreement(Seated(0, 2))
    now[0] += 0.25
    assert agreed(1, [True]) == [True]  # one step in a quarter of a second: the next time after four
    assert [agreed(1, [True]) for _ in range(3)] == [[False]] * 3
    assert agreed(1, [True]) == [True]
    assert agreed(0, [True]) == [True]  # asked at once


@pytest.mark.parametrize(("task", "found"), [
    ({"type": "worker", "index": 1}, (1, 2)), ({"type": "worker", "index": "0"}, (0, 2)),
])  # fmt: skip
def test_the_place_in_a_cluster(monkeypatch, task, found):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": ["a:1", "b:1"]}, "task": task}))
    assert distributed.place() == found
    several = team.of(Experiment())
    assert (several.count, several.place, several.leads) == (2, found[0], found[0] == 0)
    with pytest.raises(InputError, match=r"training\.workers is 3, but TF_CONFIG has 2 workers"):
        team.of(Experiment(training={"workers": 3}))


def test_the_chief_of_a_cluster_is_worker_0(monkeypatch):
    jobs = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    for kind, index, found in (("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)):
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}}))
        assert distributed.place() == (found, 3)


@pytest.mark.parametrize(("text", "message"), [
    ("{", "TF_CONFIG must be JSON such as"), ('{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG must be JSON such as"),
    ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "and this process among them"),
    ('{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}', "must list jobs chief and worker only"),
])  # fmt: skip
def test_a_cluster_that_is_none(monkeypatch, text, message):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match=message):
        distributed.place()
    monkeypatch.delenv("TF_CONFIG")
    assert distributed.place() is None
    assert team.of(Experiment()) is None
    with pytest.raises(InputError, match="TF_CONFIG is missing"):
        distributed.strategy()


@pytest.mark.parametrize(("settings", "message"), [
    ({"training": {"workers": 2, "on_nan": "skip_batch"}}, r"training\.on_nan must be 'error' with several workers"),
    ({"training": {"workers": 2, "steps_per_execution": 4}}, r"training\.steps_per_execution must be 1"),
    ({"training": {"workers": 2}, "method": "nmt", "staged": True}, "staged is not built for several workers"),
])  # fmt: skip
def test_what_several_workers_cannot_do(settings, message):
    with pytest.raises(ValueError, match=message):
        team.of(Experiment(**settings))


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_ray_that_is_not_installed():
    with pytest.raises(ImportError, match=r"training\.on = \"ray\" needs Ray: pip install 'tfmtl2r\[cluster\]'"):
        team.of(Experiment(training={"workers": 2, "on": "ray"}))


def test_ray_beside_another_cluster(monkeypatch):
    task = {"type": "worker", "index": 1}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": ["a:1", "b:1"]}, "task": task}))
    with pytest.raises(InputError, match=r"training\.on is 'ray', but TF_CONFIG describes a cluster already"):
        team.of(Experiment(training={"on": "ray"}))


def test_the_reason_of_a_failure_on_ray():
    failed = RuntimeError("the whole story")
    assert on_ray._reason(failed) == "the whole story"
    failed.worker_failures = {1: ValueError("lost"), 0: ValueError("trace\n  tfmtl2r.errors.WorkerError: was killed\n")}
    assert on_ray._reason(failed) == "was killed"
    failed.worker_failures = {0: ValueError()}
    assert on_ray._reason(failed) == "RuntimeError"


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: tfmtl2r[cluster]")
def test_two_workers_on_ray_are_one_process(tmp_path):
    """Ray starts a cluster on this machine. A ranker trained there has the weights of one process."""
    small = ["--data", "synthetic_mslr", "--data.num-lists", "40", "--data.max-length", "12", "--data.num-tasks", "2",
             "--data.num-features", "8", "--optimizer.name", "sgd", "--epochs", "2", "--batch-size", "16", "--quiet"]
    for name, where in (("there", ["--workers", "2", "--on", "ray"]), ("alone", [])):
        done = shell("-m", "tfmtl2r", "train", "--name", name, *small, *where, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    both = [tfmtl2r.load(tmp_path / "runs" / name).get_weights() for name in ("there", "alone")]
    for found, expected in zip(*both, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert not [*(tmp_path / "runs").rglob("ray")]  # the notes of Ray are gone
    many = ["--name", "none", "--workers", "999", "--on", "ray"]
    wrong = shell("-m", "tfmtl2r", "train", *small, *many, folder=tmp_path)
    assert wrong.returncode == 1
    assert "999 workers need a CPU each" in wrong.stderr


CHILD = """
import os, signal, sys, time
number = int(os.environ["NUMBER"])
if number == 1:
    time.sleep(0.1)
    {end}
time.sleep(60)
"""


@pytest.mark.parametrize(("end", "message"), [
    ("sys.exit('the reason')", r"worker 1 of 2 has ended with code 1 \(the reason\), and the others were ended"),
    ("print('no reason', file=sys.stderr, flush=True); os.kill(os.getpid(), signal.SIGKILL)",
     "worker 1 of 2 was killed by SIGKILL, and the others were ended"),
])  # fmt: skip
def test_a_worker_that_ends_too_early_ends_the_others(monkeypatch, end, message):
    monkeypatch.setattr(processes, "_AFTER", 0.1)
    start = time.monotonic()
    with pytest.raises(WorkerError, match=message):
        processes.run([sys.executable, "-c", CHILD.format(end=end)], [{"NUMBER": "0"}, {"NUMBER": "1"}])
    assert time.monotonic() - start < 30


@pytest.mark.slow
def test_workers_end_with_their_parent(tmp_path):
    """The parent is killed; its worker has written its number before."""
    child = ("import os, time; from tfmtl2r.training.processes import end_with_parent; end_with_parent(); "
             f"open({str(tmp_path / 'number')!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    parent = f"from tfmtl2r.training import processes; processes.run([{sys.executable!r}, '-c', {child!r}], [dict()])"
    process = subprocess.Popen([sys.executable, "-c", parent])
    until = time.monotonic() + 60
    while not (tmp_path / "number").exists() or not (tmp_path / "number").read_text():
        assert time.monotonic() < until
        time.sleep(0.05)
    process.kill()
    process.wait()
    number = (tmp_path / "number").read_text()
    while Path(f"/proc/{number}").exists() and Path(f"/proc/{number}/stat").read_text().rpartition(")")[2][1] != "Z":
        assert time.monotonic() < until
        time.sleep(0.05)


def shell(*arguments, folder):
    environment = {**os.environ, "PYTHONPATH": str(RECIPES.parent), "TF_NUM_INTRAOP_THREADS": "1"}
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False,
                          env=environment)


@pytest.mark.long
def test_a_method_has_the_weights_of_one_process_in_both_modes(tmp_path):
    """The recipe trains with one worker, with two, and with two that stop and go on in one process."""
    done = shell(str(RECIPES / "bench_workers.py"), "mgda", "modo", folder=tmp_path)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "3 of 3 cases end with the weights of one process" in done.stdout


@pytest.mark.long
def test_a_killed_chief_ends_the_others_and_the_run_goes_on(tmp_path):
    pytest.importorskip("duckdb", reason="DuckDB is in the extra [store]")
    done = shell(str(RECIPES / "bench_worker_faults.py"), "--only", "the chief", "--seed", "3", folder=tmp_path)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "1 of 1" in done.stdout


@pytest.mark.long
def test_a_run_of_two_workers_is_the_run_of_one(tmp_path):
    """The same weights and history to rounding, and the same files."""
    settings = {
        "data": {"name": "synthetic_mslr", "num_lists": 60, "max_length": 6, "num_tasks": 2, "num_features": 5},
        "architecture": {"name": "shared_bottom", "units": [6]}, "method": "mgda",
        "optimizer": {"name": "sgd", "learning_rate": 0.1}, "directory": str(tmp_path),
        "training": {"epochs": 3, "patience": 3, "batch_size": 7, "telemetry_every": 3, "train_metrics": True},
    }  # fmt: skip
    ranker, card = Experiment("one", **settings).run(verbose=0)
    other, both = Experiment("two", **settings).but(training={"workers": 2}).run(verbose=0)
    for mine, theirs in zip(ranker.weights, other.weights, strict=True):
        np.testing.assert_allclose(theirs.numpy(), mine.numpy(), atol=1e-5)
    assert card.history.keys() == both.history.keys()
    for name, values in card.history.items():
        np.testing.assert_allclose(both.history[name], values, atol=1e-4, err_msg=name)
    files = [{str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*") if path.is_file()
              and "tfevents" not in path.name} for name in ("one", "two")]
    assert files[0] == files[1]
    assert both.step_ms > 0
