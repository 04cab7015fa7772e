"""The wall time of training steps."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from tfmtl2r._backend import keras


class StepClock(keras.callbacks.Callback):
    """Measures the wall time of training steps, without the first epoch, in which TensorFlow compiles."""

    def __init__(self) -> None:
        super().__init__()
        self.first: list[float] = []
        self.later: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.times = self.later if epoch else self.first

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.times.append(time.perf_counter() - self.start)

    def median_ms(self, steps: int) -> float | None:
        """The median, if each call of the graph makes so many steps; None without a second epoch or step."""
        times = self.later or self.first[1:]
        return 1000 * float(np.median(times)) / steps if times else None
