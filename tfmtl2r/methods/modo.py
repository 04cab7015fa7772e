"""MoDo: multi-objective gradient with double sampling."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.linalg import project, spread
from tfmtl2r.methods.base import GramMethod, Signals, State
from tfmtl2r.registry import Card
from tfmtl2r.types import Vector

__all__ = ["MoDo"]

CARD = Card(
    title="MoDo (multi-objective gradient with double sampling)",
    paper="Chen et al. 2023, https://arxiv.org/abs/2305.20057",
    promises=("sums_to_tasks", "permutation_equivariant"),
    note="An unbiased stochastic MGDA. Only for parameters: features of two different halves have no inner product.",
)


@dataclasses.dataclass(frozen=True)
class MoDo(GramMethod):
    """Moves stored weights down the gradient of ``||g_w||^2 / 2``, estimated without bias from two half batches.

    ``w <- Proj_simplex(w - gamma (C w + rho w))`` with ``C_ij = <g_i, h_j>``, where g and h are the gradients of two
    independent halves of the batch. The update is T times the weighted sum of the gradients of the whole batch.

    Differs from the paper: the update uses both halves, not a third sample.

    Args:
        gamma: step size of the weights, in units of one over a squared gradient; 0 keeps them equal.
        rho: regularisation towards equal weights.

    >>> from tfmtl2r import methods
    >>> (methods.combine("modo", [[-4., 1., 1.], [6., 1., 1.]]) / 2).round(4).tolist()
    [0.95, 1.0, 1.0]
    """

    needs: ClassVar[frozenset[str]] = frozenset({"gram", "second_batch"})
    modes: ClassVar[tuple[str, ...]] = ("parameters",)

    gamma: float = 1e-3
    rho: float = 0.1

    def __post_init__(self) -> None:
        if not self.gamma >= 0 or not self.rho >= 0:
            raise InputError(f"modo: gamma and rho must be >= 0, not {self.gamma} and {self.rho}")

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """Equal weights on the simplex."""
        return {"weights": np.full(num_tasks, 1.0 / num_tasks)}

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The weights after one projected gradient step."""
        present = tf.cast(signals.present, tf.float64)
        weights = tf.cast(state["weights"], tf.float64) * present
        slope = tf.linalg.matvec(tf.cast(signals.cross, tf.float64), weights) + self.rho * weights
        weights = project(weights - self.gamma * slope, signals.present, total=tf.reduce_sum(weights))
        return spread(weights, signals.present), {"weights": weights}
