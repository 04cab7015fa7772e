"""A training that was stopped and goes on ends with the same weights, history and run card as one that was not."""

import json
import logging
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from tfmtl2r import Dense, LazyAdam, MultiTaskRanker, Schema, Task
from tfmtl2r._backend import keras, tf
from tfmtl2r.commands._options import parse
from tfmtl2r.commands.train import COMMAND
from tfmtl2r.data import Lists, batches
from tfmtl2r.errors import Stopped
from tfmtl2r.experiment import Experiment
from tfmtl2r.training.loop import Limits, Loop, Saving
from tfmtl2r.training.schedules import Schedule
from tfmtl2r.training.staged import fit_constrained, fit_prioritised
from tfmtl2r.training.stages import OneStage

TASKS = tuple(Task(name, kind="binary", loss="bce", metrics=("ndcg@2",)) for name in ("one", "two"))
SCHEMA = Schema([Dense("x", shape=(3,))])
STEPS = 3
"""Steps of an epoch."""


def made(seed, lists=11):
    rng = np.random.default_rng(seed)
    columns = {"x": rng.normal(size=(lists * 3, 3)).astype(np.float32),
               **{task.name: rng.integers(0, 2, lists * 3) for task in TASKS}}
    return Lists(columns, offsets=np.arange(0, lists * 3 + 1, 3))


@pytest.fixture(scope="module")
def data():
    """Shuffled training data, cut at random, and validation data."""
    train = batches(made(0), TASKS, SCHEMA, batch_size=4, shuffle=True, seed=3, list_limit=2, truncate="random")
    return train, batches(made(1), TASKS, SCHEMA, batch_size=8)


class Again:
    """A ranker that starts afresh as often as wanted, on steps that are compiled once."""

    def __init__(self, method, conditioned=None, dropout=0.4, **options):
        keras.utils.set_random_seed(5)
        architecture = {"name": "shared_bottom", "units": [4], "head_units": [3], "dropout": dropout}
        self.model = MultiTaskRanker(architecture, TASKS, SCHEMA, conditioned=conditioned)
        options = {"train_metrics": False, **options}
        optimizer = options.pop("optimizer", None) or keras.optimizers.Adam(0.05)
        self.model.compile(optimizer, method=method, seed=9, **options)
        self.start = None

    def __call__(self):
        self.model.prepare(next(iter(batches(made(1), TASKS, SCHEMA))))
        if self.start is None:
            self.start = self.state()
        for variable, value in zip(self.variables(), self.start, strict=True):
            variable.assign(value)
        return self.model

    def variables(self):
        return [*self.model.variables, *self.model.optimizer.variables]

    def state(self):
        return [np.array(v) for v in self.variables()]


class Fault(Exception):
    pass


class FailAt(keras.callbacks.Callback):
    """Fails after a number of steps, as a kill does: the loop saves nothing more."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise Fault


def one_stage(model, data, folder, fail=0, epochs=3, patience=2, steps=1, callbacks=()):
    callbacks = [*callbacks, *([FailAt(fail)] if fail else [])]
    saving = None if folder is None else Saving(folder, steps)
    stage = OneStage(model, patience, along=data[1] if model.conditioned else None)
    return Loop(model, *data, stage, Limits(epochs, None, callbacks, saving=saving)).run().history


def assert_same(one, two):
    assert len(one) == len(two)
    for mine, theirs in zip(one, two, strict=True):
        np.testing.assert_array_equal(mine, theirs)


SLOW = [
    ("linear_scalarization", {}), ("famo", {}), ("modo", {}), ("linear_scalarization", {"conditioned": 1.0}),
    ("dynamic_weight_average", {}), ("pcgrad", {}), ("moco", {}),
    ("mgda", {"gradients": "features", "train_metrics": True}),
]  # fmt: skip
KINDS = [
    ("db_mtl", {}),  # a state per parameter
    *(pytest.param(*kind, marks=pytest.mark.slow) for kind in SLOW),
]  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize(("method", "options"), KINDS)
def test_every_kind_of_machinery_goes_on_bit_by_bit(data, tmp_path, method, options):
    """Stopped in the first and again in the second epoch, with dropout and random cuts."""
    fresh = Again(method, **options)
    history = one_stage(fresh(), data, None)
    straight = fresh.state()
    for stop in (2, STEPS):
        with pytest.raises(Fault):
            one_stage(fresh(), data, tmp_path, fail=stop)
    keras.utils.set_random_seed(77)  # global generators play no part
    assert one_stage(fresh(), data, tmp_path) == history
    assert_same(straight, fresh.state())
    assert int(fresh.model.optimizer.iterations) == STEPS * len(history["loss"])


@pytest.mark.long
@pytest.mark.parametrize("constraints", [None, {"one": "5%"}])
def test_stages_go_on_from_any_step(data, tmp_path, constraints):
    """Goals, bounds, multipliers, candidates and the optimizer of each stage."""

    def fit(**options):
        options |= {"epochs": 1 if constraints else 2, "warm_start": False}
        keras.utils.set_random_seed(5)
        fresh = Again({"name": "nmt", "dual_lr": 2.0})
        model = fresh()
        if constraints is None:
            return fit_prioritised(model, *data, **options), fresh
        return fit_constrained(model, *data, constraints=constraints, **options), fresh

    expected, straight = fit()
    for stop in (STEPS + 2,) if constraints else (1, STEPS + 2, 3):
        with pytest.raises(Fault):
            fit(callbacks=[FailAt(stop)], saving=Saving(tmp_path, 1))
    training, resumed = fit(saving=Saving(tmp_path, 1))
    assert training == expected
    assert_same(straight.state(), resumed.state())
    assert len(expected.stages) == 2


@pytest.mark.slow
def test_averages_of_weights_are_validated_and_kept(data, tmp_path):
    """The optimizer goes on with the weights themselves; a schedule and averages go on after a fault, too."""

    class Watch(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.average, self.seen = None, []

        def on_train_batch_end(self, batch, logs=None):
            now = [np.array(v) for v in self.model.trainable_variables]
            self.average = now if self.average is None else [
                0.7 * old + 0.3 * new for old, new in zip(self.average, now, strict=True)]

        def on_epoch_end(self, epoch, logs=None):
            for mine, theirs in zip(self.average, self.model.trainable_variables, strict=True):
                np.testing.assert_allclose(theirs, mine, rtol=1e-4, atol=1e-6)
            self.seen.append(self.model.evaluate(data[1], verbose=0, return_dict=True)["loss"])
            assert self.seen[-1] == pytest.approx(logs["val_loss"], rel=1e-6)

    rate = Schedule(0.2, "cosine", warmup_steps=2, steps=2 * STEPS)
    fresh = Again("linear_scalarization", optimizer=LazyAdam(rate, use_ema=True, ema_momentum=0.7))
    watch = Watch()
    history = one_stage(fresh(), data, None, epochs=2, patience=0, callbacks=[watch])
    straight = fresh.state()
    for mine, theirs in zip(watch.average, fresh.model.trainable_variables, strict=True):
        np.testing.assert_allclose(theirs, mine, rtol=1e-4, atol=1e-6)
    with pytest.raises(Fault):
        one_stage(fresh(), data, tmp_path, fail=STEPS + 2, epochs=2, patience=0)
    assert one_stage(fresh(), data, tmp_path, epochs=2, patience=0) == history
    assert_same(straight, fresh.state())


@pytest.mark.slow
def test_two_replicas_go_on_as_one_does(data, tmp_path, mirrored):
    trained = []
    for strategy in (tf.distribute.get_strategy(), mirrored()):
        with strategy.scope():
            fresh = Again("mgda", dropout=0.0, optimizer=keras.optimizers.SGD(0.1))
        history = one_stage(fresh(), data, None)
        trained.append(fresh.state())
        with pytest.raises(Fault):
            one_stage(fresh(), data, tmp_path / type(strategy).__name__, fail=STEPS + 2)
        again = one_stage(fresh(), data, tmp_path / type(strategy).__name__)
        for name, values in history.items():  # the running sums of the replicas are saved as one sum
            np.testing.assert_allclose(again[name], values, rtol=1e-6, err_msg=name)
        assert_same([np.array(v) for v in fresh.model.weights], trained[-1][:len(fresh.model.weights)])
    for one, two in zip(*trained, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def fresh():
    return Again("famo", steps_per_execution=2)


class TestCompiled:
    """Compiled steps: early stopping, several steps per call, data that were made from a pipeline."""

    def test_early_stopping_keeps_the_same_epoch(self, data, fresh, tmp_path):
        data = data[0].map(lambda x, y: (x, y)), data[1]  # no longer able to begin inside an epoch
        history = one_stage(fresh(), data, None, epochs=9, patience=1)
        straight = fresh.state()
        assert 1 <= history["kept"].index(1.0) + 1 == len(history["loss"]) - 1 < 8
        for stop in (1, 2, 1):
            with pytest.raises(Fault):
                one_stage(fresh(), data, tmp_path, fail=stop, epochs=9, patience=1, steps=2)
        assert one_stage(fresh(), data, tmp_path, epochs=9, patience=1) == history
        assert_same(straight, fresh.state())

    @pytest.mark.slow
    def test_the_loop_trains_as_fit_does(self, data, fresh):
        history = one_stage(fresh(), data, None, patience=0)
        mine = fresh.state()
        theirs = fresh().fit(data[0], validation_data=data[1], epochs=3, verbose=0).history
        assert theirs == history
        assert_same(mine, fresh.state())

    @pytest.mark.slow
    def test_a_damaged_checkpoint_is_left_out(self, data, fresh, tmp_path, caplog):
        history = one_stage(fresh(), data, None, patience=0)
        with pytest.raises(Fault):
            one_stage(fresh(), data, tmp_path, fail=4, patience=0)
        newest, _ = sorted(tmp_path.glob("*.data*"), reverse=True)
        newest.write_bytes(newest.read_bytes()[:-200] + bytes(200))
        with caplog.at_level(logging.WARNING, "tfmtl2r"):
            assert one_stage(fresh(), data, tmp_path, patience=0) == history
        assert "step-3 cannot be read and is left out" in caplog.text
        for file in tmp_path.glob("*.data*"):
            file.write_bytes(b"")
        with pytest.raises(ValueError, match=r"no checkpoint in .* can be read.*start it again"):
            one_stage(fresh(), data, tmp_path, patience=0)

    @pytest.mark.slow
    def test_a_signal_lets_the_step_end_and_saves(self, data, fresh, tmp_path):
        class Signal(keras.callbacks.Callback):
            def on_train_batch_begin(self, batch, logs=None):
                if batch:
                    os.kill(os.getpid(), signal.SIGTERM)

        before = signal.getsignal(signal.SIGTERM)
        history = one_stage(fresh(), data, None, patience=0)
        with pytest.raises(KeyboardInterrupt):
            one_stage(fresh(), data, tmp_path, patience=0, steps=0, callbacks=[Signal()])
        assert signal.getsignal(signal.SIGTERM) is before
        assert [path.name for path in tmp_path.glob("*.index")] == ["step-1.index"]
        assert one_stage(fresh(), data, tmp_path, patience=0) == history


def test_a_callback_that_restores_by_itself_is_refused(data, fresh):
    with pytest.raises(ValueError, match=r"BackupAndRestore .* leave it out, and continue a stopped run with resume"):
        one_stage(fresh(), data, None, callbacks=[keras.callbacks.BackupAndRestore("x")])


def experiment(folder, name, **changes):
    settings = {
        "data": {"name": "synthetic_mslr", "num_lists": 16, "max_length": 8, "num_tasks": 2, "num_features": 8},
        "architecture": {"name": "shared_bottom", "units": [4], "dropout": 0.3}, "directory": str(folder),
        "training": {"epochs": 3, "batch_size": 4, "telemetry_every": 0, "checkpoint_steps": 3}, "method": "famo",
    }  # fmt: skip
    return Experiment(**{**settings, "name": name, **changes})


def test_keys_of_the_optimizer_reach_it(tmp_path):
    keys = {"learning_rate": 0.1, "schedule": "linear", "warmup_steps": 3, "weight_decay": 0.2, "ema": 0.9,
            "clip_norm": 0.5, "clip": "adaptive"}  # fmt: skip
    flags = [f"--optimizer.{key.replace('_', '-')}={value}" for key, value in keys.items()]
    parsed = Experiment.of(parse(COMMAND, ["--name", "mine", *flags])[0])
    mine = experiment(tmp_path, "mine", optimizer=keys)
    assert parsed.optimizer == mine.optimizer
    used = mine.model(mine.dataset()).optimizer
    steps = 3 * -(-mine.dataset().lists("train").num_lists // 4)
    assert used._learning_rate.get_config() == {"rate": 0.1, "kind": "linear", "warmup_steps": 3, "steps": steps}
    wanted = {"weight_decay": 0.2, "use_ema": True, "ema_momentum": 0.9, "global_clipnorm": 0.5, "adaptive_clip": True}
    assert {key: getattr(used, key) for key in wanted} == wanted
    with pytest.raises(ValueError, match=r"optimizer\.ema must be a number below 1, such as 0\.999, not 1\.0"):
        experiment(tmp_path, "mine", optimizer={"ema": 1.0})
    share = experiment(tmp_path, "mine", optimizer={"warmup_steps": 0.5})
    assert share.model(share.dataset()).optimizer._learning_rate.warmup_steps == steps // 2
    assert Experiment.of(parse(COMMAND, ["--optimizer.warmup-steps", "0.5"])[0]).optimizer.warmup_steps == 0.5
    with pytest.raises(ValueError, match=r"a share of all steps below 1, not 1\.5"):
        experiment(tmp_path, "mine", optimizer={"warmup_steps": 1.5})
    with pytest.raises(ValueError, match=f"warmup_steps is 900, but the training has {steps} steps"):
        experiment(tmp_path, "mine", optimizer={"warmup_steps": 900}).model(mine.dataset())


def content(folder):
    """What a run holds, apart from what differs between two runs of the same settings, too."""
    card = json.loads((folder / "run.json").read_text())
    lists = np.load(folder / "per_list.npz")
    own = ("name", "created", "identity", "step_ms", "peak_memory_mb", "versions", "config")
    arrays = {key: lists[key] for key in lists if key != "identity"}
    return {key: value for key, value in card.items() if key not in own}, arrays


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path):
    """The whole experiment: card, history, scores per list, weights; stopped by a signal and by a fault."""

    class Signal(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.optimizer.iterations) == 4:
                os.kill(os.getpid(), signal.SIGTERM)

    ranker, _ = experiment(tmp_path, "whole").run(verbose=0)
    whole = [np.array(v) for v in ranker.weights]
    mine, again = experiment(tmp_path, "mine"), {"verbose": 0, "before": ranker}  # the same compiled steps
    with pytest.raises(Stopped, match=r"stopped; .* go on with: tfmtl2r train --resume mine"):
        mine.run(callbacks=[Signal()], **again)
    with pytest.raises(Fault):
        mine.run(callbacks=[FailAt(5)], resume=True, **again)
    resumed, _ = mine.run(resume=True, **again)
    assert resumed is ranker
    for one, two in zip(whole, resumed.weights, strict=True):
        np.testing.assert_array_equal(one, two)
    (card, lists), (other, others) = content(tmp_path / "whole"), content(tmp_path / "mine")
    assert card == other
    assert len(card["history"]["loss"]) == 3
    for key, value in lists.items():
        np.testing.assert_array_equal(value, others[key])
    assert not list((tmp_path / "mine").rglob("*.index"))  # the finished run keeps no checkpoints


@pytest.mark.slow
def test_sigterm_from_outside_and_resume_on_the_command_line(tmp_path):
    tree = ["--data", "synthetic_mslr", "--data.num-lists", "32", "--data.max-length", "8", "--data.num-tasks", "2",
            "--data.num-features", "8", "--epochs", "30", "--batch-size", "4", "--patience", "0", "--name", "mine",
            "--checkpoint-steps", "8"]  # fmt: skip
    command = [sys.executable, "-m", "tfmtl2r.cli", "train"]
    running = subprocess.Popen([*command, *tree], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                               text=True)
    folder = tmp_path / "runs" / "mine" / ".attempt" / "checkpoints"
    while not list(folder.glob("*.index")):
        assert running.poll() is None
    running.terminate()
    error = running.communicate()[1].strip().split("\n")[-1]
    assert "stopped; runs/mine keeps the log and the checkpoints; go on with: tfmtl2r train --resume mine" in error
    assert running.returncode == 130
    again = subprocess.run([*command, "--resume", "mine"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert len(json.loads((tmp_path / "runs/mine/run.json").read_text())["history"]["loss"]) == 30
