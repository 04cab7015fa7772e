"""Softmax gates over experts, one per task."""

from __future__ import annotations

from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import InputError
from tfmtl2r.layers import inspection, randomness
from tfmtl2r.layers.dense import dense
from tfmtl2r.types import Tensor


class Gates(keras.layers.Layer):
    """``softmax((x W_t + b_t) / temperature)`` over E experts: input ``[T or 1, n, F]``, output ``[T, n, E]``, sum 1.

    Args:
        num: number T of gates.
        experts: number E of experts.
        dropout: in training, the probability that a gate drops an expert; a gate keeps at least one expert.
        temperature: above 1 the gates weight experts more evenly.

    Raises:
        ValueError: for a dropout outside [0, 1), or a temperature that is not above 0.
    """

    def __init__(self, num: int, experts: int, dropout: float = 0.0, temperature: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        check_gates(dropout, temperature)
        self.dropout = dropout
        self.temperature = temperature
        self.logits = dense(experts, stacked=num, dtype=self.dtype_policy, name="logits")

    def build(self, input_shape: Any) -> None:
        """Creates the gates' weights."""
        self.logits.build(input_shape)
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """The gates; they are computed in float32 and cast after the softmax."""
        logits = tf.cast(self.logits(inputs), tf.float32) / self.temperature
        if training and self.dropout:
            keep = tf.random.stateless_uniform(tf.shape(logits), randomness.next_seed()) >= self.dropout
            keep |= ~tf.reduce_any(keep, axis=-1, keepdims=True)
            logits = tf.where(keep, logits, -1e9)
        gates = tf.nn.softmax(logits)
        inspection.record(self.name, gates, average=tuple(range(1, len(gates.shape) - 1)),
                          axes=("task", "expert"))
        return tf.cast(gates, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """``[T, ..., E]``."""
        return self.logits.compute_output_shape(input_shape)


def check_gates(dropout: float, temperature: float) -> None:
    """Refuses invalid options of :class:`Gates`, before any layer is created.

    Raises:
        ValueError: for a dropout outside [0, 1), or a temperature that is not above 0.
    """
    if not 0.0 <= dropout < 1.0:
        raise InputError(f"gate_dropout must lie in [0, 1), not {dropout}")
    if not temperature > 0:
        raise InputError(f"temperature must be above 0, not {temperature}")


def mixture(gates: Tensor, experts: Tensor) -> Tensor:
    """``sum_e gates[t, n, e] experts[e, n]``, ``[T, n, D]``, from gates ``[T, n, E]`` and experts ``[E, n, D]``."""
    mixed = tf.matmul(tf.transpose(gates, [1, 0, 2]), tf.transpose(experts, [1, 0, 2]))
    return tf.transpose(mixed, [1, 0, 2])


def mixture_of_own(gates: Tensor, experts: Tensor) -> Tensor:
    """Each task's mixture of its own M experts, ``[T, n, D]``.

    The gates are ``[T, n, M]``, the experts ``[T M, n, D]``, task by task.
    """
    num, each = gates.shape[0], gates.shape[-1]
    experts = tf.reshape(experts, [num, each, -1, experts.shape[-1]])
    return tf.reduce_sum(tf.transpose(gates, [0, 2, 1])[..., None] * experts, axis=1)
