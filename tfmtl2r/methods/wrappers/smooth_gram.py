"""SmoothGram: a Gram matrix averaged over the steps."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import Signals, State
from tfmtl2r.methods.wrappers.base import Wrapper, check_share
from tfmtl2r.registry import Card
from tfmtl2r.types import Vector

__all__ = ["SmoothGram"]

CARD = Card(title="Averaged Gram matrix for another method",
            note="the Gram matrix is an exponential average over the steps")


@dataclasses.dataclass(frozen=True)
class SmoothGram(Wrapper):
    """Hands the inner method a Gram matrix averaged over the steps: ``G_k <- alpha G_{k-1} + (1 - alpha) G_k``.

    Entries of tasks that were absent stand still. The first matrix is taken as it is.

    Args:
        method: the inner method; it must look at the Gram matrix.
        alpha: how much of the past is kept, in [0, 1).
    """

    alpha: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if "gram" not in self.needs:
            raise InputError(f"SmoothGram averages the Gram matrix, which {type(self.method).__name__} does not use")
        check_share(self, self.alpha)

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """The average, and which of its entries were ever seen."""
        own = {"gram": np.zeros([num_tasks] * 2, np.float32), "seen": np.zeros([num_tasks] * 2, np.float32)}
        return {**super().initial_state(num_tasks, num_parameters), **own}

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The inner method's weights for the averaged matrix."""
        mean = self.alpha * tf.cast(state["gram"], signals.gram.dtype) + (1.0 - self.alpha) * signals.gram
        mean = tf.where(state["seen"] > 0, mean, signals.gram)
        state = {**state, "gram": mean, "seen": tf.ones_like(state["seen"])}
        return super().weigh(dataclasses.replace(signals, gram=mean), state)
