"""Dropout with masks that a resumed run repeats."""

from __future__ import annotations

from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import InputError
from tfmtl2r.layers import randomness
from tfmtl2r.types import Tensor


class Dropout(keras.layers.Layer):
    """Inverted dropout whose mask is a function of the ranker's seed and step.

    Args:
        rate: share of values set to 0 in training, in [0, 1); the others are divided by ``1 - rate``.
    """

    def __init__(self, rate: float, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0.0 <= rate < 1.0:
            raise InputError(f"dropout rate must lie in [0, 1), not {rate}")
        self.rate = rate
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Drops values in training; otherwise returns the inputs."""
        if not training or self.rate == 0.0:
            return inputs
        return tf.nn.experimental.stateless_dropout(inputs, self.rate, seed=randomness.next_seed())
