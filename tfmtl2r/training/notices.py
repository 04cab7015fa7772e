"""Warnings while a training runs: losses that jump, tasks without a signal, batches that were left out."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from tfmtl2r._backend import keras
from tfmtl2r.names import LogName

log = logging.getLogger("tfmtl2r")
JUMP = 100.0
"""How many times its first value a loss may be before a warning says so."""
_EVERY = 20
"""Steps between two looks, since a look waits for the step to end."""
_FIRST = 5


class Notices(keras.callbacks.Callback):
    """Warns once, when it happens, and names task, step and remedy."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch, self.next = 0, 0
        self.first: dict[str, list[float]] = {}
        self.last: dict[str, float] = {}
        self.said: set[tuple[str, str]] = set()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Keeps the number of the epoch for the messages."""
        self.epoch, self.next = epoch + 1, 0

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Compares the losses with the largest of the first looks, since one batch may have an easy loss by chance."""
        if batch >= self.next:
            self.next = batch + _EVERY
            for task, loss in self._of_tasks(logs, "loss").items():
                seen = self.first.setdefault(task, [])
                if len(seen) < _FIRST and math.isfinite(loss) and (not seen or loss <= JUMP * max(seen)):
                    seen.append(loss)
                elif seen and loss > JUMP * max(seen) > 0:
                    self._say("jump", task, f"the loss was {max(seen):.3g} in the first steps and is {loss:.3g} after "
                              f"step {batch + 1} of epoch {self.epoch}: make the learning rate smaller, or set "
                              "optimizer.clip_norm")

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Looks for losses that stand still, and counts what was left out."""
        losses = self._of_tasks(logs, "loss")
        for task, loss in losses.items():
            if task in self.last and abs(loss - self.last[task]) <= 1e-9 * abs(loss):
                self._say("still", task, f"the loss is {loss:.6g} in epochs {epoch} and {epoch + 1} alike: no weight "
                          "that the task reads has changed, or its labels carry no signal")
        self.last = losses
        for task, count in self._of_tasks(logs, "skipped").items():
            if count:
                self._say("skipped", task, f"{count:.0f} batches of epoch {epoch + 1} were left out, since their "
                          "numbers were not finite; later epochs log <task>_skipped only")

    def _of_tasks(self, logs: Mapping[str, Any] | None, quantity: str) -> dict[str, float]:
        tasks = [task.name for task in self.model.tasks]
        names = {name: LogName.parse(name, tasks) for name in logs or {}}
        return {key.task: float((logs or {})[name]) for name, key in names.items()
                if key.task and key.quantity == quantity and not key.validation}

    def _say(self, kind: str, task: str, text: str) -> None:
        if (kind, task) not in self.said:
            self.said.add((kind, task))
            log.warning("task %s: %s", task, text)
