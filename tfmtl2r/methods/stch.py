"""STCH: smooth Chebyshev scalarisation of log losses relative to a nadir point."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import Scalarisation, Signals, State, count_present, importance
from tfmtl2r.methods.positive import positive
from tfmtl2r.registry import Card
from tfmtl2r.types import Losses, Tensor

__all__ = ["STCH"]

CARD = Card(
    title="STCH (smooth Chebyshev scalarisation, log-nadir form)",
    paper="Lin et al. 2024, https://arxiv.org/abs/2402.19078",
    promises=("sums_to_tasks", "permutation_equivariant", "ignores_loss_scale", "ends_on_the_ray"),
    note="Converges to equal preference times loss for all tasks, with losses relative to those after the warm-up.",
)


@dataclasses.dataclass(frozen=True)
class STCH(Scalarisation):
    """Minimises ``T mu log sum_t exp(f_t / mu)`` with ``f_t = log(w_t loss_t / nadir_t)``.

    The preference w is scaled to sum T. The task weights are ``T softmax(f / mu)_t / loss_t``. The warm-up minimises
    ``sum_t w_t log loss_t``. The nadir of a task is its mean loss over the last epoch of the warm-up, or its first loss
    after the warm-up if the task was absent in this epoch.
    ``max f <= mu log sum exp(f / mu) <= max f + mu log T``.

    Differs from the authors' code: a preference multiplies the loss, and the nadir is measured within the warm-up, not
    in an additional epoch.

    Args:
        mu: smoothness; with small values only the worst task is trained.
        warmup: number of epochs of the warm-up; with 0 the first losses are the nadir.

    >>> from tfmtl2r import methods
    >>> stch = methods.get("stch", warmup=0)
    >>> methods.combine(stch, [[1., 0.], [0., 1.]], losses=[.5, 4.]).tolist()
    [2.0, 0.25]
    """

    mu: float = 1.0
    warmup: int = 4
    positive_losses: ClassVar[bool] = True
    takes_preference: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.mu > 0:
            raise InputError(f"stch: mu must be above 0, not {self.mu}")
        if self.warmup < 0:
            raise InputError(f"stch: warmup must be >= 0 epochs, not {self.warmup}")

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """The nadir, and the number of steps that it averages."""
        return {"nadir": np.ones(num_tasks, np.float32), "steps": np.zeros(num_tasks, np.float32)}

    def objective(self, losses: Losses, signals: Signals, state: State) -> tuple[Tensor, State]:
        """The objective of the warm-up or the smooth Chebyshev objective, and the nadir so far."""
        epoch = tf.cast(signals.epoch, tf.int64)
        losses = positive(losses, signals)
        steps, nadir = tf.cast(state["steps"], losses.dtype), tf.cast(state["nadir"], losses.dtype)
        looks = (epoch == self.warmup - 1) | ((epoch >= self.warmup) & (steps == 0))
        mean = tf.where(steps > 0, nadir, 0.0)
        nadir = tf.where(looks, mean + (tf.stop_gradient(losses) - mean) / (steps + 1.0), nadir)
        state = {"nadir": nadir, "steps": tf.where(looks, steps + 1.0, steps)}

        weights, logs = importance(signals), tf.math.log(losses)
        counts = signals.present & (weights > 0)
        relative = logs + tf.math.log(tf.where(counts, weights, 1.0)) - tf.math.log(nadir)
        soft = tf.reduce_logsumexp(tf.where(counts, relative / self.mu, logs.dtype.min))
        smooth = count_present(signals, logs.dtype) * self.mu * soft
        return tf.where(epoch < self.warmup, tf.reduce_sum(weights * logs), smooth), state
