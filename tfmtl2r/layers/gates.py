"""Softmax gates over experts, one per task."""

from __future__ import annotations

from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.layers import randomness
from tfmtl2r.layers.mlp import StackedDense


class Gates(keras.layers.Layer):
    """``softmax((x W_t + b_t) / temperature)`` over E experts: ``[T or 1, n, F]`` in, ``[T, n, E]`` out, rows sum to 1.

    Args:
        num: T, gates side by side.
        experts: E.
        dropout: in training, the chance that a gate does without an expert; at least one is kept.
        temperature: above 1 the gates mix more evenly.
    """

    def __init__(self, num: int, experts: int, dropout: float = 0.0, temperature: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.dropout = dropout
        self.temperature = temperature
        self.logits = StackedDense(num, experts, dtype=self.dtype_policy, name="logits")

    def build(self, input_shape: Any) -> None:
        """Makes the gates' weights."""
        self.logits.build(input_shape)
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The gates, in float32 until they are normalised."""
        logits = tf.cast(self.logits(inputs), tf.float32) / self.temperature
        if training and self.dropout:
            keep = tf.random.stateless_uniform(tf.shape(logits), randomness.next_seed()) >= self.dropout
            keep |= ~tf.reduce_any(keep, axis=-1, keepdims=True)
            logits = tf.where(keep, logits, -1e9)
        return tf.cast(tf.nn.softmax(logits), self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """``[T, ..., E]``."""
        return self.logits.compute_output_shape(input_shape)
