"""Ends the training of a trial that is worse than others, by a judge who sees the validation of each epoch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tfmtl2r._backend import keras


class Pruned(Exception):
    """The judge has ended a training."""


class Watching(keras.callbacks.Callback):
    """Shows a judge each epoch's value of a logged number.

    Args:
        objective: the logged number, such as ``"val_stop_on"``.
        judge: called with the number of the epoch and the value, if it is finite; returns whether the training ends.

    Raises:
        Pruned: in a training that the judge ends.
    """

    def __init__(self, objective: str, judge: Callable[[int, float], bool]):
        super().__init__()
        self.objective, self.judge = objective, judge

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Asks the judge."""
        value = (logs or {}).get(self.objective)
        if value is not None and math.isfinite(value) and self.judge(epoch, float(value)):
            raise Pruned
