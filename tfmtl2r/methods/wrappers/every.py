"""Every: new task weights in every n-th step only."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.linalg import settling
from tfmtl2r.methods.base import Signals, State
from tfmtl2r.methods.wrappers.base import Wrapper
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor, Vector

__all__ = ["Every"]

CARD = Card(title="Weights of another method, every n steps",
            note="between these steps the weights stay as they are")


@dataclasses.dataclass(frozen=True)
class Every(Wrapper):
    """Asks the inner method only every n steps and keeps its weights in between.

    When other tasks are present than the last time, the inner method is asked at once: its weights would not suit them.

    Args:
        method: the inner method.
        steps: n, at least 1.
    """

    steps: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_weights()
        if self.steps < 1:
            raise InputError(f"Every: steps must be at least 1, not {self.steps}")

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """The kept weights, their age in steps, and whom they are for: ``[1, T]``, so that it never stands still."""
        own = {
            "weights": np.ones(num_tasks, np.float32),
            "age": np.asarray(0, np.int64),
            "among": np.zeros([1, num_tasks], np.float32),
        }
        return {**super().initial_state(num_tasks, num_parameters), **own}

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """New weights, or the kept ones."""
        weigh, before = super().weigh, self.inner(state)

        def ask() -> tuple[Vector, State, Tensor, Tensor]:
            with settling.watched() as solvers:  # tensors of this branch cannot be counted outside
                weights, after = weigh(signals, state)
                inner = {key: tf.cast(value, before[key].dtype) for key, value in self.inner(after).items()}
                return weights, inner, solvers.unsettled() == 0, solvers.rounds()

        def keep() -> tuple[Vector, State, Tensor, Tensor]:
            return tf.cast(state["weights"], signals.losses.dtype), before, tf.constant(True), tf.constant(0, tf.int64)

        among = tf.cast(signals.present, tf.float32)[None, :]
        due = (state["age"] % self.steps == 0) | tf.reduce_any(among != state["among"])
        weights, inner, settled, rounds = tf.cond(due, ask, keep)
        settling.report(settled, rounds)
        age = tf.where(due, tf.ones_like(state["age"]), state["age"] + 1)
        return weights, {**self.store(state, inner), "weights": weights, "age": age, "among": among}
