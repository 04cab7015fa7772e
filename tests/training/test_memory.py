"""What losses over pairs take in memory is told before the training, and is at least what they take."""

import logging
import os
import subprocess
import sys

import numpy as np
import pytest

from tfmtl2r import Dense, MultiTaskRanker, Schema, Task, losses
from tfmtl2r.data import Lists, batches
from tfmtl2r.errors import InputError
from tfmtl2r.experiment import Experiment
from tfmtl2r.training import memory

GIB = 2**30
QUADRATIC = [name for name in losses.names() if losses.get(name).numbers_per_pair]


@pytest.fixture
def free(monkeypatch):
    def set_to(size):
        monkeypatch.setattr(memory, "available", lambda: size)
    return set_to


def test_the_memory_of_a_loss_is_that_of_the_pairs_that_it_has_at_a_time():
    assert losses.get("softmax").memory(64, 10_000) == 0
    assert losses.get("pairwise_mse").memory(64, 10_000) == 4 * 6 * 10**8  # one list at a time
    assert losses.get("pairwise_mse").memory(1, 100) == 4 * 6 * 10**4
    assert losses.get("gumbel_approx_ndcg").memory(2, 100) == 8 * losses.get("approx_ndcg").memory(2, 100)
    assert losses.get("ranknet").memory(64, 10_000) == 4 * 10 * 4_000_000  # blocks of rows


def test_a_loss_over_pairs_of_a_whole_batch_takes_them_all():
    class Own(losses.Loss):
        numbers_per_pair = 2

    assert Own().memory(64, 1000) == 4 * 2 * 64 * 10**6


@pytest.mark.parametrize("name", QUADRATIC)
def test_lists_of_ten_thousand_items_take_less_than_4_gib_at_the_default_batch(name):
    assert losses.get(name).memory(Experiment().training.batch_size, 10_000) < 4 * GIB


def test_what_does_not_fit_is_an_error_that_names_what_to_do(free):
    free(3 * GIB)
    tasks = [Task("a", loss="pairwise_mse", kind="regression"), Task("b", loss="unique_softmax"), Task("c")]
    with pytest.raises(InputError) as error:
        memory.check_memory(tasks, 64, 10_000)
    for part in ("for lists of 10000 items in batches of 64 lists they take up to 5.2 GiB of memory",
                 "task a with the loss pairwise_mse: 2.2 GiB; task b with the loss unique_softmax: 3.0 GiB).",
                 "Available memory: 3.0 GiB", "data.max_list_size", "such as softmax"):
        assert part in str(error.value)
    assert "batch_size" not in str(error.value)  # one list alone takes as much
    assert "task c" not in str(error.value)


def test_what_fits_is_a_warning_from_one_gibibyte_on(free, caplog):
    free(30 * GIB)
    tasks = [Task(name, loss="approx_ndcg") for name in "ab"]
    with caplog.at_level(logging.WARNING, "tfmtl2r"):
        memory.check_memory(tasks, 64, 9_000)
        assert not caplog.text
        memory.check_memory(tasks, 64, 10_000, warn=False)
        assert not caplog.text
        memory.check_memory(tasks, 64, 10_000)
    assert "up to 1.1 GiB of memory (tasks a, b with the loss approx_ndcg: 1.1 GiB)" in caplog.text
    free(None)  # the memory of a GPU is not known
    memory.check_memory(tasks, 64, 16_000)
    assert "Available" not in caplog.text.splitlines()[-1]


def test_a_smaller_batch_is_advice_where_it_helps(free, monkeypatch):
    monkeypatch.setattr(type(losses.get("circle")), "pairs_at_once", losses.Loss.pairs_at_once)
    free(GIB)
    with pytest.raises(InputError, match=r"make training\.batch_size smaller"):
        memory.check_memory([Task("a", loss="circle")], 64, 3_000)


def data(count=3):
    lists = Lists({"x": np.arange(40 * count, dtype=np.float32), "y": np.arange(40 * count) % 2},
                  offsets=np.arange(0, 40 * count + 1, 40))
    tasks, schema = [Task("y", loss="approx_ndcg")], Schema([Dense("x")])
    return batches(lists, tasks, schema, batch_size=2, list_limit=20), tasks, schema


def test_fit_refuses_before_the_first_step(free):
    x, tasks, schema = data()
    assert x.largest == (2, 20)
    assert x.from_step(1).largest == (2, 20)
    ranker = MultiTaskRanker("shared_bottom", tasks, schema)
    ranker.compile("sgd")
    free(100)
    with pytest.raises(InputError, match="lists of 20 items in batches of 2 lists they take up to"):
        ranker.fit(x, epochs=1, verbose=0)
    assert not int(ranker.optimizer.iterations)


def test_an_experiment_refuses_before_it_writes(free, tmp_path):
    free(100)
    settings = {"data": {"name": "synthetic_mslr", "num_lists": 20, "max_length": 8, "num_tasks": 1},
                "tasks": [{"name": "label_1", "kind": "graded", "loss": "approx_ndcg"}], "directory": str(tmp_path)}
    with pytest.raises(InputError, match=r"Available memory: 0\.0 GiB"):
        Experiment("long", **settings).run(verbose=0)
    assert not any((tmp_path / "long").glob("*"))


def test_the_available_memory_is_that_of_the_container(monkeypatch, tmp_path):
    whole = memory.available()
    if whole is None:
        pytest.skip("only Linux tells")
    for name, text in (("max", "1000000"), ("current", "400000"), ("stat", "anon 1\ninactive_file 300000\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    real = memory.Path
    monkeypatch.setattr(memory, "Path", lambda *parts: tmp_path / parts[1] if len(parts) > 1 else real(*parts))
    assert memory.available() == 900_000
    (tmp_path / "memory.max").write_text("max")
    assert memory.available() > 1_000_000


PEAK = """
import resource, sys
import numpy as np, tensorflow as tf
from tfmtl2r import losses
def step(loss, lists, length):
    rng = np.random.default_rng(0)
    labels = tf.constant(rng.integers(0, 3, (lists, length)), tf.float32)
    scores = tf.constant(rng.normal(size=(lists, length)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        value, _ = loss.per_list(labels, scores, tf.ones_like(labels, tf.bool), seed=[1, 2])
    return tape.gradient(value, scores)
for name in sys.argv[2:]:
    run = tf.function(step, autograph=False) if name in {quadratic} else step
    run(losses.get(name), 2, 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(losses.get(name), 2, int(sys.argv[1]))
    print(name, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


def peaks(length, *names):
    code = PEAK.replace("{quadratic}", repr(set(QUADRATIC)))
    done = subprocess.run([sys.executable, "-c", code, str(length), *names], capture_output=True, text=True, check=True,
                          env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"})
    return {name: int(size) for name, size in map(str.split, done.stdout.splitlines())}


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is in kilobytes only on Linux")
@pytest.mark.parametrize("name", ["approx_ndcg", "lambda_loss"])
def test_the_estimate_is_above_the_measured_peak(name):
    measured, told = peaks(3000, name)[name], losses.get(name).memory(2, 3000)
    assert measured < 1.25 * told  # what a process takes besides differs by machine


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is in kilobytes only on Linux")
def test_the_estimate_of_every_loss_with_whole_matrices_is_above_the_measured_peak():
    whole = [name for name in QUADRATIC if losses.get(name).longest]
    for name in whole:  # a process each, since a peak never sinks
        assert peaks(3000, name)[name] < 1.25 * losses.get(name).memory(2, 3000), name


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is in kilobytes only on Linux")
def test_a_loss_that_declares_nothing_has_no_matrix_of_pairs():
    linear = [name for name in losses.names() if name not in QUADRATIC]
    one = 4 * 5000**2
    assert {name: peak for name, peak in peaks(5000, *linear).items() if peak > one} == {}
