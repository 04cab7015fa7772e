"""Log: a method on the logarithms of the losses."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import Signals, State
from tfmtl2r.methods.positive import positive
from tfmtl2r.methods.wrappers.base import RescaledGradients
from tfmtl2r.registry import Card
from tfmtl2r.types import Losses, Tensor, Vector

__all__ = ["Log"]

CARD = Card(title="Log losses around another method",
            note="gradients of log losses, which do not depend on the losses' scales")


@dataclasses.dataclass(frozen=True)
class Log(RescaledGradients):
    """Runs a method on the logarithms of the losses: on gradients ``g_t / loss_t``.

    The Gram matrix is ``D^-1 G D^-1`` with ``D = diag(loss)``, and the weights of the inner method are divided by the
    losses, so that multiplying a loss by a constant changes nothing (but for ``keep_sum``).

    Args:
        method: the inner method; not one that needs positive losses, since logarithms are not.
        keep_sum: rescale the weights to the sum they had before they were divided by the losses.

    >>> from tfmtl2r import methods
    >>> log = Log("linear_scalarization")
    >>> methods.combine(log, [[1., 0.], [0., 1.]], losses=[.5, 4.]).tolist()
    [2.0, 0.25]
    >>> methods.combine(Log("linear_scalarization", keep_sum=True), [[9., 0.], [0., 9.]], losses=[.5, 4.]).tolist()
    [16.0, 2.0]
    """

    keep_sum: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.positive_losses:
            raise InputError(f"Log: {type(self.method).__name__} needs positive losses, and logarithms are not")
        if self.keep_sum:
            self.require_weights()
        object.__setattr__(self, "positive_losses", True)

    def divisors(self, signals: Signals) -> Vector:
        """The losses."""
        return positive(signals.losses, signals)

    def seen(self, signals: Signals, divisors: Tensor) -> Signals:
        """The signals of the inner method: its losses are the logarithms."""
        logs = tf.math.log(positive(signals.losses, signals))
        return dataclasses.replace(super().seen(signals, divisors), losses=logs)

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The weights of the inner method divided by the losses."""
        weights, state = super().weigh(signals, state)
        if self.keep_sum:
            present = tf.cast(signals.present, weights.dtype)
            before = tf.reduce_sum(present * weights * positive(signals.losses, signals))
            weights = tf.math.divide_no_nan(weights * before, tf.reduce_sum(present * weights))
        return weights, state

    def learn(self, losses_after: Losses, signals: Signals, state: State) -> State:
        """What the inner method learns from the logarithms after the update."""
        after = tf.math.log(positive(losses_after, signals))
        divisors = tf.cast(self.divisors(signals), tf.float64)
        return super().learn(after, self.seen(signals, divisors), state)
