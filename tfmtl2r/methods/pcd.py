"""PCD: the smallest change of the main task's gradient that keeps a promise to every other task."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.linalg import correlation
from tfmtl2r.linalg.non_negative import non_negative
from tfmtl2r.methods.base import GramMethod, Signals, State
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor, Vector

__all__ = ["PCD"]

CARD = Card(
    title="PCD (priority-constrained descent)",
    paper="Varam and AlHajri 2026, https://arxiv.org/abs/2606.29521",
    promises=("has_a_main_task",),
    note="The update never increases the main loss, and decreases every other one, unless gradients are near-opposed.",
)
_RIDGE = 1e-7
_FEASIBLE = 1e-6


@dataclasses.dataclass(frozen=True)
class PCD(GramMethod):
    """Takes the smallest change of the main gradient whose gain for every other task is at least a share of its own.

    With ``s_t = 1 / sqrt(v_t + eps)`` and the bias-corrected moving average ``v_t`` of ``|g_t|^2``, d solves
    ``min |d - s_1 g_1|^2`` subject to ``<s_j g_j, d> >= tau |s_j g_j|^2`` for every other task j. The update is
    ``d |g_1| / |d|``, as long as the main gradient.

    Guarantee: ``<d, g_j> >= 0`` for every other task j, and ``<d, g_1> > 0`` or d = 0. If the main gradient and another
    one are nearly opposed, ``cos < -(sqrt(4 + tau^2) - tau) / 2``, the solution would reverse the main gradient; the
    update is then 0, and the state counts the step (``"stopped"``). If no d satisfies all constraints, the update is
    the main gradient, and ``<d, g_j> >= 0`` does not hold.

    Differs from the authors' code: the step that would reverse the main gradient; the quadratic program is solved by
    pivoting for any number of tasks, in place of trying all active sets.

    Args:
        main: position of the main task.
        tau: share of its own gain that each other task gets, in units of scaled gradients, >= 0.
        beta: weight of the past in the averages, in [0, 1).
        eps: added to the averages, > 0.

    >>> from tfmtl2r import methods
    >>> rows = [[1., 0., 2., -1.], [-1., 1., 0., 1.], [.5, -2., 1., 0.]]
    >>> methods.combine(methods.get("pcd", tau=0.0), rows).round(4).tolist()
    [0.378, 0.7559, 2.2678, -0.378]
    """

    iterates: ClassVar[bool] = True

    main: int = 0
    tau: float = 0.02
    beta: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if self.main < 0:
            raise InputError(f"pcd: main must be >= 0, not {self.main}")
        if not (self.tau >= 0 and self.eps > 0 and 0.0 <= self.beta < 1.0):
            raise InputError(f"pcd: tau must be >= 0, eps above 0 and beta in [0, 1), not {self.tau}, {self.eps} and "
                             f"{self.beta}")

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """Averages of 0, the number of steps of each task, and of steps that would have reversed the main gradient; the
        multipliers are kept for :meth:`multipliers` alone."""
        if self.main >= num_tasks:
            raise InputError(f"pcd: main task {self.main} does not exist, there are {num_tasks}")
        zeros = np.zeros(num_tasks, np.float32)
        return {"squares": zeros, "steps": zeros, "multipliers": zeros, "stopped": np.zeros([], np.float32)}

    def multipliers(self, state: State) -> Tensor:
        """The multiplier of each promise: ``d = s_1 g_1 + sum_j multiplier_j s_j g_j``; 0 for the main task."""
        return state["multipliers"]

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The weights of the solution, scaled to the length of the main gradient."""
        cosines, lengths, usable = correlation(signals.gram, signals.present)
        squares = self.beta * tf.cast(state["squares"], tf.float64) + (1.0 - self.beta) * tf.where(
            usable, lengths**2, 0.0)
        steps = tf.cast(state["steps"], tf.float64) + 1.0
        corrected = squares / (1.0 - tf.pow(tf.constant(self.beta, tf.float64), steps))
        scaled = lengths / tf.sqrt(corrected + self.eps)  # |s_t g_t|
        main = tf.range(cosines.shape[0]) == self.main
        others = usable & ~main
        begun = cosines[self.main] * scaled[self.main]  # of the main gradient alone, along each unit gradient
        need = self.tau * scaled
        on = tf.cast(others, tf.float64)
        quadratic = tf.linalg.set_diag(cosines * on[:, None] * on[None, :], tf.ones_like(on))
        added = non_negative(quadratic, tf.where(others, begun - need, 1.0)[None], _RIDGE).solution[0] * on
        reached = begun + tf.linalg.matvec(cosines, added)
        kept = tf.reduce_all(tf.where(others, reached - need, 0.0) >= -_FEASIBLE)
        added = tf.where(kept, added, 0.0)
        units = tf.where(main, scaled[self.main], added)  # weights of the unit gradients
        gains = tf.linalg.matvec(cosines, units)
        length = tf.sqrt(tf.maximum(tf.reduce_sum(units * gains), 0.0))
        forwards = gains[self.main] > 1e-9 * scaled[self.main]
        go = forwards & usable[self.main]
        weights = tf.where(go, tf.math.divide_no_nan(units * lengths[self.main], length * lengths), 0.0)
        stopped = tf.cast(state["stopped"], tf.float64) + tf.cast(usable[self.main] & ~forwards, tf.float64)
        return weights, {"squares": squares, "steps": steps, "stopped": stopped,
                         "multipliers": tf.math.divide_no_nan(added, scaled)}
