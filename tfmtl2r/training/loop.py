"""The training loop: epochs and steps of all stages, validation, callbacks, checkpoints.

It runs the same compiled step as Keras' ``fit`` (``model.train_function``, which calls ``strategy.run(train_step)``).
Unlike ``fit``, it owns the state of the training, and continues a stopped training inside an epoch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r._backend import keras, tf
from tfmtl2r.data.passes import following
from tfmtl2r.errors import InputError
from tfmtl2r.training.checkpoints import Checkpoints
from tfmtl2r.training.finite import check_weights
from tfmtl2r.training.infinite_features import Finite
from tfmtl2r.training.memory import check_data
from tfmtl2r.training.notices import Notices
from tfmtl2r.training.optimizers import steps_of
from tfmtl2r.training.stages import Stages
from tfmtl2r.training.state import Training
from tfmtl2r.training.trackers import SayWithoutValue
from tfmtl2r.training.workers import Agreement, Workers


@dataclasses.dataclass(frozen=True)
class Saving:
    """When a training writes checkpoints.

    Args:
        folder: the folder of the checkpoints. If it holds a checkpoint, the training continues from it.
        steps: steps between checkpoints; 0 for none by steps.
        minutes: minutes between checkpoints; 0 for none by time.
        stages: whether to write one after the last epoch of each stage. The same training in another process then goes
            on with the weights that this stage keeps.
    """

    folder: Path
    steps: int = 0
    minutes: float = 0.0
    stages: bool = False


@dataclasses.dataclass(frozen=True)
class Limits:
    """The length of a training, and what happens beside its steps.

    Args:
        epochs: the largest number of epochs of each stage.
        validate: numbers of the epochs of a stage, from 1, after which the validation data are evaluated; None for all.
        callbacks: Keras callbacks. Every stage is a training to them, in which the numbers of epochs continue.
        verbose: ``verbose`` of Keras' ``fit``.
        saving: when checkpoints are written; None for never.
    """

    epochs: int
    validate: Collection[int] | None = None
    callbacks: Sequence[Any] = ()
    verbose: int | str = 0
    saving: Saving | None = None


class Loop:
    """Trains a ranker.

    A training that writes checkpoints also writes one after SIGTERM and after Ctrl-C: the running step ends first.

    Args:
        model: a compiled ranker.
        x: training data, a ``tf.data.Dataset``.
        validation: validation data, or None.
        stages: the plan of the training.
        limits: the length of the training. With several workers (:mod:`tfmtl2r.training.workers`), the callbacks of
            every worker are its own.

    Raises:
        InputError: for a callback that would restore a training by itself.
    """

    def __init__(self, model: Any, x: Any, validation: Any, stages: Stages, limits: Limits):
        for callback in limits.callbacks:
            if isinstance(callback, keras.callbacks.BackupAndRestore):
                raise InputError("BackupAndRestore restores a training of Keras' fit only: leave it out, and continue "
                                 "a stopped run with resume=True or --resume, which also continue inside an epoch")
        self.model = model
        self.x = x
        self.validation = validation
        self.stages = stages
        self.limits = limits
        self.training = Training()
        self.workers = Workers(model.distribute_strategy)
        self._agreed = Agreement(self.workers)
        self._checkpoints: Checkpoints | None = None
        self._signalled = False
        self._saved_at, self._steps_since = time.monotonic(), 0

    def run(self) -> Training:
        """Trains all stages, from the newest checkpoint if there is one, and returns the state at the end.

        Raises:
            InputError: for lists that are too long for the memory (:mod:`tfmtl2r.training.memory`).
            KeyboardInterrupt: after Ctrl-C, and after SIGTERM if the training writes checkpoints.
        """
        self.model.prepare(self.x)
        check_data(self.model, self.x, self.validation)
        resumed = False
        if self.limits.saving is not None:
            self._checkpoints = Checkpoints(self.limits.saving.folder, self.model, self.training, self.workers)
            resumed = self._checkpoints.restore()
        finite = Finite(self.model.schema)
        self.x = finite.watch(self.x)
        with finite.in_words(), following(self.x, lambda: self.model.method_state.epoch.numpy()), self._signals():
            while self.stages.begin(self.training, resumed):
                self._stage()
                resumed = False
            if self._agreed(0, [self._signalled])[0]:  # after the last step
                raise KeyboardInterrupt
        return self.training

    def _stage(self) -> None:
        training, model = self.training, self.model
        steps = int(self.x.cardinality()) if hasattr(self.x, "cardinality") else -1
        last = training.epoch - training.stage_epochs + self.limits.epochs
        callbacks = keras.callbacks.CallbackList(
            [*self.limits.callbacks, SayWithoutValue(), Notices()], model=model, epochs=last,
            steps=steps if steps >= 0 else None, add_history=True, add_progbar=self.limits.verbose != 0,
            verbose=self.limits.verbose,
        )
        model.make_train_function()
        model.stop_training = False
        callbacks.on_train_begin()
        logs: dict[str, float] = {}
        while training.stage_epochs < self.limits.epochs and not training.ended:
            logs = self._epoch(callbacks, steps)
        if steps_of(model.optimizer):  # else the moving averages, if it has them, are still 0
            model.optimizer.finalize_variable_values(model.trainable_variables)
        callbacks.on_train_end(logs)
        if self._checkpoints is not None and self.limits.saving is not None and self.limits.saving.stages:
            self._checkpoints.save()
        self.stages.finish(training)
        training.next_stage()

    def _epoch(self, callbacks: Any, steps: int) -> dict[str, float]:
        training, model = self.training, self.model
        if not training.step:
            model.reset_metrics()
        callbacks.on_epoch_begin(training.epoch)
        self._steps(callbacks, steps)
        check_weights(model.architecture.variables, f"epoch {training.epoch + 1}")
        logs = dict(training.logs)
        due = self.limits.validate is None or training.stage_epochs + 1 in self.limits.validate
        with self._averages():
            if self.validation is not None and due:
                found = model.evaluate(self.validation, verbose=0, callbacks=callbacks, return_dict=True)
                logs |= {f"val_{name}": float(value) for name, value in found.items()}
            training.ended = self.stages.after_epoch(training, logs)
            model.method_state.epoch.assign_add(1)
            callbacks.on_epoch_end(training.epoch, logs)
        for key, value in logs.items():
            training.history.setdefault(key, []).append(float(value))
        training.ended = training.ended or self._agreed(0, [bool(model.stop_training)])[0]
        training.epoch, training.stage_epochs, training.step = training.epoch + 1, training.stage_epochs + 1, 0
        self._save_if_due(0)
        return logs

    def _steps(self, callbacks: Any, steps: int) -> None:
        """Runs the steps of an epoch that are not finished yet."""
        training, model = self.training, self.model
        at_once = model.steps_per_execution
        data = self.x if not training.step else _from_step(self.x, training.step)
        if self.workers.several:
            iterator = iter(self.workers.share(data))
        else:
            iterator = iter(model.distribute_strategy.experimental_distribute_dataset(data))
        logs: Any = None
        while steps < 0 or training.step < steps:
            callbacks.on_train_batch_begin(training.step)
            try:
                logs = model.train_function(iterator)
            except (StopIteration, tf.errors.OutOfRangeError):  # the data did not tell their number of batches
                break
            training.step += at_once if steps < 0 else min(at_once, steps - training.step)
            callbacks.on_train_batch_end(training.step - 1, logs)
            if self._save_if_due(at_once, logs):
                break
        if logs is not None:
            training.logs = _numbers(logs)

    def _save_if_due(self, steps: int, logs: Any = None) -> bool:
        """Writes a checkpoint if one is due, and ends the training if a signal has come, to any of the workers.

        Returns:
            Whether a callback has ended the training.
        """
        saving, checkpoints = self.limits.saving, self._checkpoints
        self._steps_since += steps
        minutes = (time.monotonic() - self._saved_at) / 60
        late = saving is not None and self.workers.is_chief and 0 < saving.minutes <= minutes
        signalled, late, ended = self._agreed(steps, [self._signalled, late, bool(self.model.stop_training)])
        due = saving is not None and 0 < saving.steps <= self._steps_since
        if checkpoints is not None and (signalled or late or due):
            if logs is not None:
                self.training.logs = _numbers(logs)
            checkpoints.save()
            self._saved_at, self._steps_since = time.monotonic(), 0
        if signalled:
            raise KeyboardInterrupt
        return ended

    @contextlib.contextmanager
    def _averages(self) -> Iterator[None]:
        """Replaces the weights by their moving averages for a while, if the optimizer has averages."""
        optimizer, variables = self.model.optimizer, self.model.trainable_variables
        if not optimizer.use_ema or not steps_of(optimizer):
            yield
            return
        raw = [np.array(v) for v in variables]
        optimizer.finalize_variable_values(variables)
        try:
            yield
        finally:
            for variable, value in zip(variables, raw, strict=True):
                variable.assign(value)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Lets a step end before SIGTERM or Ctrl-C ends the training. The second signal ends it at once."""
        if self._checkpoints is None or threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: Any) -> None:
            if self._signalled:
                raise KeyboardInterrupt
            self._signalled = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _from_step(data: Any, step: int) -> Any:
    """The data without their first batches."""
    return data.from_step(step) if hasattr(data, "from_step") else data.skip(step)


def _numbers(logs: Any) -> dict[str, float]:
    return {name: float(value) for name, value in logs.items()}
