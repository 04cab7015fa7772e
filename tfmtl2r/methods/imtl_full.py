"""IMTL: learned loss scales together with equal projections."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import GramMethod, Signals, State, count_present
from tfmtl2r.methods.imtl_g import equal_projections
from tfmtl2r.registry import Card
from tfmtl2r.types import Vector

__all__ = ["IMTL"]

CARD = Card(
    title="IMTL (impartial losses and gradients)",
    paper="Liu et al. 2021, https://openreview.net/forum?id=IMPnRXEWpvr",
    promises=("sums_to_tasks", "permutation_equivariant", "non_conflicting_if_independent"),
    note="imtl_g on losses that are scaled as in imtl_l.",
)

_LARGEST = 30.0
_STEEPEST = 10.0


@dataclasses.dataclass(frozen=True)
class IMTL(GramMethod):
    """IMTL-G on the scaled losses ``exp(s_t) loss_t``, whose scales s ``[T]`` are learned as in IMTL-L.

    The scaled gradients ``exp(s_t) g_t`` get equal projections, with weights a of sum T. The weight of the gradient of
    task t is thus ``a_t exp(s_t)``. After each step ``s_t -= lr (exp(s_t) loss_t - 1)``, with the gradient limited to
    10 and s to 30 in absolute value. Every scaled loss thus tends to 1.

    Differs from the paper: heads get the plain gradient of their own loss, not the scaled gradient.

    Args:
        lr: learning rate of the scales; 0 keeps them at 1, which gives IMTL-G.

    >>> from tfmtl2r import methods
    >>> (methods.combine("imtl_full", [[-4., 1., 1.], [6., 1., 1.]]) / 2).round(4).tolist()
    [0.0767, 1.0, 1.0]
    """

    lr: float = 0.01

    def __post_init__(self) -> None:
        if not self.lr >= 0:
            raise InputError(f"imtl_full: lr must be >= 0, not {self.lr}")

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """Log scales of 0."""
        return {"log_scale": np.zeros(num_tasks, np.float32)}

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """Equal projections on the scaled gradients, and one step on the scales."""
        log_scale = tf.cast(state["log_scale"], tf.float64)
        scale = tf.exp(log_scale)
        scaled = tf.cast(signals.gram, tf.float64) * scale[:, None] * scale[None, :]
        weights = equal_projections(scaled, signals.present)
        slope = tf.clip_by_value(scale * tf.cast(signals.losses, tf.float64) - 1.0, -_STEEPEST, _STEEPEST)
        state = {"log_scale": tf.clip_by_value(log_scale - self.lr * slope, -_LARGEST, _LARGEST)}
        return weights * scale * count_present(signals, tf.float64), state
