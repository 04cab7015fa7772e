"""Losses that are safe to divide by, and preferences as directions in the space of losses."""

from __future__ import annotations

from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.methods.base import Signals
from tfmtl2r.types import Losses, Tensor

_SMALLEST = 1e-20  # its reciprocal and its logarithm are normal float32 numbers


def positive(losses: Losses, signals: Signals) -> Tensor:
    """The losses, made safe for a logarithm or a division: 1 for absent tasks, and never 0."""
    return tf.where(signals.present, tf.maximum(losses, tf.cast(_SMALLEST, losses.dtype)), tf.ones_like(losses))


def ray(signals: Signals, dtype: Any) -> Tensor:
    """The unit vector ``[T]`` of losses at which ``preference * loss`` is the same for every present task."""
    present = tf.cast(signals.present, dtype)
    preference = tf.cast(signals.preference, dtype)
    # Preferences relative to the smallest have reciprocals in [0, 1]. A preference of 0 counts as 1e-12.
    preference = tf.maximum(preference, 1e-12)
    smallest = tf.reduce_min(tf.where(signals.present, preference, tf.ones_like(preference)))
    along = present * smallest / preference
    return tf.math.divide_no_nan(along, tf.norm(along))
