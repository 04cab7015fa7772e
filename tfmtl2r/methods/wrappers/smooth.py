"""Smooth: task weights averaged over the steps."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.methods.base import Signals, State
from tfmtl2r.methods.wrappers.base import Wrapper, check_share
from tfmtl2r.registry import Card
from tfmtl2r.types import Vector

__all__ = ["Smooth"]

CARD = Card(title="Averaged weights of another method",
            note="the weights are an exponential average over the steps")


@dataclasses.dataclass(frozen=True)
class Smooth(Wrapper):
    """Averages the task weights over the steps: ``w_k = alpha w_{k-1} + (1 - alpha) inner_k``; at first the inner's.

    While tasks are absent, the averages of the others are scaled to the sum of the inner method's weights, so that a
    lone task trains as if alone.

    Args:
        method: the inner method.
        alpha: how much of the past is kept, in [0, 1]; 0 is the inner method itself, 1 stays at the first weights.
    """

    alpha: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_weights()
        check_share(self, self.alpha)

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """The averages, and whether a task has one."""
        own = {"weights": np.ones(num_tasks, np.float32), "seen": np.zeros(num_tasks, np.float32)}
        return {**super().initial_state(num_tasks, num_parameters), **own}

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The averaged weights."""
        fresh, state = super().weigh(signals, state)
        mean = self.alpha * tf.cast(state["weights"], fresh.dtype) + (1.0 - self.alpha) * fresh
        mean = tf.where(state["seen"] > 0, mean, fresh)
        state = {**state, "weights": mean, "seen": tf.ones_like(state["seen"])}
        among = tf.cast(signals.present, fresh.dtype)
        before, after = tf.reduce_sum(among * mean), tf.reduce_sum(among * fresh)
        scale = tf.where(~tf.reduce_all(signals.present) & (before > 0) & (after > 0), after, before)
        return mean * tf.where(before > 0, scale / tf.where(before > 0, before, 1.0), 1.0), state
