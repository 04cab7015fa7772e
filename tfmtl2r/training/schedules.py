"""The learning rate as a function of the step."""

from __future__ import annotations

import math
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import InputError
from tfmtl2r.types import Tensor

KINDS = ("constant", "linear", "cosine")


@keras.saving.register_keras_serializable("tfmtl2r")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Grows over the first steps, then stays, or falls to 0 at the end of the training.

    Step t of w warm-up steps has the rate ``r (t + 1) / w``. Afterwards, with ``s = (t - w) / (n - w)`` for n steps in
    all, the rate is ``r`` (constant), ``r (1 - s)`` (linear) or ``r (1 + cos(pi s)) / 2`` (cosine; Loshchilov and
    Hutter 2017, https://arxiv.org/abs/1608.03983).

    Args:
        rate: the largest learning rate r.
        kind: ``"constant"``, ``"linear"`` or ``"cosine"``.
        warmup_steps: w.
        steps: n, the number of steps of the training.

    Raises:
        InputError: if the warm-up is not shorter than the training.

    >>> schedule = Schedule(1.0, "linear", warmup_steps=2, steps=6)
    >>> [round(float(schedule(step)), 3) for step in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """

    def __init__(self, rate: float, kind: str = "constant", warmup_steps: int = 0, steps: int = 1):
        super().__init__()
        if kind not in KINDS:
            raise InputError(f"schedule must be one of {', '.join(KINDS)}, not {kind!r}")
        if not 0 <= warmup_steps < steps:
            raise InputError(f"warmup_steps is {warmup_steps}, but the training has {steps} steps: make the warm-up "
                             "shorter, or train for more epochs")
        self.rate = rate
        self.kind = kind
        self.warmup_steps = warmup_steps
        self.steps = steps

    def __call__(self, step: Tensor | int) -> Tensor:
        """The learning rate of a step, counted from 0."""
        step = tf.cast(step, tf.float32)
        share = tf.clip_by_value((step - self.warmup_steps) / (self.steps - self.warmup_steps), 0.0, 1.0)
        falling = {"constant": 1.0, "linear": 1 - share, "cosine": (1 + tf.cos(math.pi * share)) / 2}[self.kind]
        growing = tf.minimum((step + 1) / max(self.warmup_steps, 1), 1.0)
        return self.rate * growing * falling

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {"rate": self.rate, "kind": self.kind, "warmup_steps": self.warmup_steps, "steps": self.steps}
