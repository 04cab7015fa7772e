"""GradVac: gradient vaccine."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import GramMethod, Signals, State, importance
from tfmtl2r.registry import Card
from tfmtl2r.types import Vector

__all__ = ["GradVac"]

CARD = Card(
    title="GradVac (gradient vaccine)",
    paper="Wang et al. 2021, https://arxiv.org/abs/2010.05874",
    promises=("sums_to_tasks", "identity_without_conflict"),
    note="PCGrad with learned goals for the cosines; the first step equals PCGrad's.",
)

_CLOSEST = 1.0 - 1e-6


@dataclasses.dataclass(frozen=True)
class GradVac(GramMethod):
    """Turns each task's gradient towards every other gradient until their cosine is at least its moving average.

    For each task i and each other j in random order, with ``c = cos(g_i', g_j)`` and the goal ``rho_ij``: if
    ``c < rho_ij`` then ``g_i' += ||g_i'|| (rho sqrt(1 - c^2) - c sqrt(1 - rho^2)) / (||g_j|| sqrt(1 - rho^2)) g_j``,
    after which their cosine is rho. The goal is a moving average, ``rho_ij <- (1 - beta) rho_ij + beta c``. The update
    is ``sum_i w_i g_i'`` with w the preference scaled to sum T. Only the Gram matrix is needed, as in PCGrad. The goals
    ``[T, T]`` start at 0.

    Differs from the paper: one goal per pair of tasks for the whole model, not one per layer.

    Args:
        beta: how fast the goals follow the cosines, in [0, 1].

    >>> from tfmtl2r import methods
    >>> methods.combine("gradvac", [[-4., 1., 1.], [6., 1., 1.]]).round(4).tolist()
    [0.5848, 3.8012, 3.8012]
    """

    takes_preference: ClassVar[bool] = True

    beta: float = 0.01

    def __post_init__(self) -> None:
        if not 0.0 <= self.beta <= 1.0:
            raise InputError(f"gradvac: beta must lie in [0, 1], not {self.beta}")

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """Goals of 0."""
        return {"rho": np.zeros([num_tasks, num_tasks], np.float32)}

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The column sums of the turned coefficients, and the next goals."""
        present = tf.cast(signals.present, tf.float64)
        gram = tf.cast(signals.gram, tf.float64) * present[:, None] * present[None, :]
        lengths = tf.sqrt(tf.maximum(tf.linalg.diag_part(gram), 0.0))
        goals = tf.cast(state["rho"], tf.float64)
        tasks = gram.shape[0]
        order = tf.argsort(tf.random.stateless_uniform([tasks, tasks], signals.seed), axis=1)
        coefficients = tf.eye(tasks, dtype=tf.float64)
        for k in range(tasks):
            other = tf.one_hot(order[:, k], tasks, dtype=tf.float64)  # row i: the task that i is compared with
            projected = tf.matmul(coefficients, gram)
            length = tf.sqrt(tf.maximum(tf.reduce_sum(coefficients * projected, axis=1), 0.0))
            far = tf.linalg.matvec(other, lengths)
            pair = (order[:, k] != tf.range(tasks)) & (length > 0) & (far > 0)
            cosine = tf.math.divide_no_nan(tf.reduce_sum(projected * other, axis=1), length * far)
            cosine = tf.clip_by_value(cosine, -1.0, 1.0)
            goal = tf.clip_by_value(tf.reduce_sum(goals * other, axis=1), -_CLOSEST, _CLOSEST)
            sine = tf.sqrt(1.0 - tf.square(goal))
            turn = length * (goal * tf.sqrt(1.0 - tf.square(cosine)) - cosine * sine)
            turn = tf.math.divide_no_nan(turn, far * sine)
            coefficients += tf.where(pair & (cosine < goal), turn, 0.0)[:, None] * other
            goals += tf.where(pair, self.beta * (cosine - goal), 0.0)[:, None] * other
        weights = tf.linalg.matvec(coefficients, tf.cast(importance(signals), tf.float64), transpose_a=True)
        return weights, {"rho": goals}
