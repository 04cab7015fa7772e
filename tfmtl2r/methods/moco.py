"""MoCo: multi-objective gradient correction."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.linalg import project, spread
from tfmtl2r.methods.base import JacobianMethod, Signals, State
from tfmtl2r.registry import Card
from tfmtl2r.types import Rows, Vector

__all__ = ["MoCo"]

CARD = Card(
    title="MoCo (multi-objective gradient correction)",
    paper="Fernando et al. 2023, https://openreview.net/forum?id=dLAYGdKTi2",
    promises=("permutation_equivariant",),
    note="Stores an average gradient per task, which takes the memory of T times the shared parameters.",
)


@dataclasses.dataclass(frozen=True)
class MoCo(JacobianMethod):
    """Averages each task's gradient over time, and moves the weights towards the shortest combination of the averages.

    The averages start at 0. In step k = 1, 2, ...: ``y_t <- y_t - beta_k (y_t - g_t)`` with
    ``beta_k = beta / k^beta_sigma``, and ``w <- Proj_simplex(w - gamma_k (Y Y' + rho I) w)`` with
    ``gamma_k = gamma / k^gamma_sigma``. The update is ``T sum_t w_t y_t``.

    Differs from LibMTL's code, which ``variant="libmtl"`` reproduces: LibMTL averages ``loss_t g_t / ||g_t||``, and
    replaces the projection by a softmax, which keeps the weights nearly equal.

    The gradients of an embedding table include all its rows, once per task. More than 1 GiB of them is an error.

    Args:
        beta: step size of the averages.
        beta_sigma: how fast this step size decreases.
        gamma: step size of the weights.
        gamma_sigma: how fast this step size decreases.
        rho: regularisation towards equal weights.
        variant: ``"paper"`` or ``"libmtl"``.

    >>> from tfmtl2r import methods
    >>> libmtl = methods.get("moco", variant="libmtl")
    >>> (methods.combine(libmtl, [[-4., 1., 1.], [6., 1., 1.]], losses=[.5, 2.]) / 2).round(4).tolist()
    [0.3546, 0.1094, 0.1094]
    """

    per_parameter: ClassVar[bool] = True

    beta: float = 0.5
    beta_sigma: float = 0.5
    gamma: float = 0.1
    gamma_sigma: float = 0.5
    rho: float = 0.0
    variant: str = "paper"

    def __post_init__(self) -> None:
        if not 0 < self.beta <= 1:
            raise InputError(f"moco: beta must lie in (0, 1], not {self.beta}")
        if min(self.beta_sigma, self.gamma, self.gamma_sigma, self.rho) < 0:
            raise InputError("moco: beta_sigma, gamma, gamma_sigma and rho must be >= 0, not "
                             f"{self.beta_sigma}, {self.gamma}, {self.gamma_sigma} and {self.rho}")
        if self.variant not in ("paper", "libmtl"):
            raise InputError(f"moco: variant must be 'paper' or 'libmtl', not {self.variant!r}")

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """Averages of 0 and equal weights."""
        return {
            "tracked": np.zeros([num_tasks, num_parameters or 0], np.float32),
            "weights": np.full(num_tasks, 1.0 / num_tasks),
        }

    def combine(self, rows: Rows, signals: Signals, state: State) -> tuple[Vector, State]:
        """The combination of the new averages by the new weights."""
        present = tf.cast(signals.present, tf.float64)
        if self.variant == "libmtl":
            size = tf.norm(rows, axis=1, keepdims=True)
            rows = tf.math.divide_no_nan(rows, size) * tf.cast(signals.losses, rows.dtype)[:, None]
        time = tf.cast(signals.step, tf.float64) + 1.0
        before = tf.cast(state["tracked"], rows.dtype)
        tracked = before + tf.cast(self.beta / time**self.beta_sigma, rows.dtype) * (rows - before)
        weights = tf.cast(state["weights"], tf.float64) * present
        total = tf.reduce_sum(weights)
        slope = tf.linalg.matvec(tf.cast(tf.matmul(tracked, tracked, transpose_b=True), tf.float64), weights)
        moved = weights - self.gamma / time**self.gamma_sigma * (slope + self.rho * weights)
        if self.variant == "libmtl":
            moved = tf.where(signals.present, moved, -float("inf"))
            weights = tf.where(signals.present, tf.nn.softmax(moved), 0.0) * total
        else:
            weights = project(moved, signals.present, total)
        share = tf.cast(spread(weights, signals.present), rows.dtype)
        return tf.linalg.matvec(tracked, share, transpose_a=True), {"tracked": tracked, "weights": weights}
