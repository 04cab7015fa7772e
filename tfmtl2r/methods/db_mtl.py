"""DB-MTL: dual-balancing of losses and gradients."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import JacobianMethod, Signals, State
from tfmtl2r.registry import Card
from tfmtl2r.types import Rows, Vector

__all__ = ["DBMTL"]

CARD = Card(
    title="DB-MTL (dual-balancing)",
    paper="Lin et al. 2023, https://arxiv.org/abs/2308.12029",
    promises=("permutation_equivariant", "ignores_loss_scale"),
    note="Stores an average gradient per task, which takes the memory of T times the shared parameters.",
)


@dataclasses.dataclass(frozen=True)
class DBMTL(JacobianMethod):
    """Averages the gradients of the log losses over time, and scales all averages to the length of the longest one.

    ``g_t`` is the gradient of ``log(loss_t + 1e-8)``. The averages ``q_t`` start at 0. In step k = 1, 2, ...
    ``q_t <- g_t + beta / k^beta_sigma (q_t - g_t)``. The update is ``sum_t a_t q_t`` with
    ``a_t = max_j ||q_j|| / ||q_t||``.

    The gradients of an embedding table include all its rows, once per task. More than 1 GiB of them is an error.

    Args:
        beta: weight of the past in the averages, in [0, 1). There is no bias correction.
        beta_sigma: how fast this weight decreases over the steps.

    >>> from tfmtl2r import methods
    >>> now = methods.get("db_mtl", beta=0.)
    >>> methods.combine(now, [[-4., 1., 1.], [6., 1., 1.]], losses=[.5, 2.]).round(4).tolist()
    [0.259, 3.3765, 3.3765]
    """

    per_parameter: ClassVar[bool] = True
    positive_losses: ClassVar[bool] = True

    beta: float = 0.9
    beta_sigma: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.beta < 1.0:
            raise InputError(f"db_mtl: beta must lie in [0, 1), not {self.beta}")
        if not self.beta_sigma >= 0.0:
            raise InputError(f"db_mtl: beta_sigma must be >= 0, not {self.beta_sigma}")

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """Averages of 0."""
        return {"tracked": np.zeros([num_tasks, num_parameters or 0], np.float32)}

    def combine(self, rows: Rows, signals: Signals, state: State) -> tuple[Vector, State]:
        """The sum of the scaled averages."""
        logs = rows / (tf.cast(signals.losses, rows.dtype)[:, None] + 1e-8)
        before = tf.cast(state["tracked"], rows.dtype)
        time = tf.cast(signals.step, tf.float64) + 1.0
        tracked = logs + tf.cast(self.beta / time**self.beta_sigma, rows.dtype) * (before - logs)
        length = tf.where(signals.present, tf.norm(tracked, axis=1), 0.0)
        stretch = tf.math.divide_no_nan(tf.reduce_max(length), length)
        return tf.linalg.matvec(tracked, stretch, transpose_a=True), {"tracked": tracked}
