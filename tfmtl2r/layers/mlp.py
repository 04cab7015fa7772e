"""Networks of dense layers: a single network, or one per task as batched products."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import InputError, InputTypeError
from tfmtl2r.layers.dense import StackedDense, dense
from tfmtl2r.layers.dropout import Dropout
from tfmtl2r.types import Tensor


def widths(units: Any, option: str) -> tuple[int, ...]:
    """The widths of a stack of layers as a tuple.

    Args:
        units: one width per layer.
        option: name of the option, for the error message.

    Raises:
        TypeError: for a single number.

    >>> widths([64, 32], "head_units")
    (64, 32)
    """
    if isinstance(units, (str, bytes)) or not isinstance(units, Iterable):
        raise InputTypeError(f"{option} is one width per layer, such as (64,) for one layer of 64; got {units!r}")
    return tuple(units)


class Scorers(StackedDense):
    """Linear layers that compute the scores of T networks: input ``[T, ..., in]``, output ``float32[T, ..., 1]``.

    The scores are float32 under any precision policy. With eight bits of precision, many items of a long list would
    have equal scores.

    Args:
        num: number T of networks.

    >>> Scorers(3, name="scorers")(tf.ones([3, 4, 5], tf.bfloat16)).dtype.name
    'float32'
    """

    def __init__(self, num: int, **kwargs: Any):
        super().__init__(num, 1, dtype="float32", **kwargs)

    def start_at(self, levels: Sequence[float]) -> None:
        """Sets the biases, so that the T scores of an untrained network are about these levels."""
        self.bias.assign([[[level]] for level in levels])


class StackedLayerNorm(keras.layers.Layer):
    """Layer normalisation of ``[T, ..., n]`` over its last axis, with a scale and an offset for each of the T.

    >>> layer = StackedLayerNorm()
    >>> layer(tf.constant([[[1., 3.]], [[2., 8.]]])).numpy().round(2).tolist()
    [[[-1.0, 1.0]], [[-1.0, 1.0]]]
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.norm = keras.layers.LayerNormalization(center=False, scale=False, dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        """Creates one scale and one offset per leading index."""
        shape = (input_shape[0], 1, input_shape[-1])
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones")
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros")
        self.norm.build(input_shape)
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """Normalises each vector, then scales and shifts it."""
        rows = tf.reshape(self.norm(inputs), [self.gamma.shape[0], -1, inputs.shape[-1]])
        return tf.reshape(rows * self.gamma + self.beta, tf.shape(inputs))


class MLP(keras.layers.Layer):
    """Dense layers with an activation, optional layer normalisation and dropout after each.

    Args:
        units: widths of the layers, first to last. Without layers the input is returned.
        activation: name of a Keras activation.
        dropout: rate after each layer.
        layer_norm: normalise each layer's output before its activation.
        stacked: number of stacked networks, with the input ``[stacked, ..., in]``; None for a single network.
    """

    def __init__(
        self,
        units: Sequence[int],
        activation: str = "relu",
        dropout: float = 0.0,
        layer_norm: bool = False,
        stacked: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = widths(units, "units")
        if any(int(u) < 1 for u in self.units):
            raise InputError(f"units must be positive widths, got {self.units}")
        dtype = self.dtype_policy
        inner = None if layer_norm else activation
        self.dense = [dense(width, inner, stacked=stacked, dtype=dtype) for width in self.units]
        normalise = keras.layers.LayerNormalization if stacked is None else StackedLayerNorm
        self.norms = [normalise(dtype=dtype) for _ in self.units] if layer_norm else []
        self.activation = keras.activations.get(activation)
        self.dropout = Dropout(dropout, dtype=dtype) if dropout else None

    def build(self, input_shape: Any) -> None:
        """Builds every layer for inputs whose last axis is ``input_shape[-1]``."""
        shape = tuple(input_shape)
        for i, layer in enumerate(self.dense):
            layer.build(shape)
            shape = (*shape[:-1], self.units[i])
            if self.norms:
                self.norms[i].build(shape)
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Runs the layers in order."""
        value = inputs
        for i, layer in enumerate(self.dense):
            value = layer(value)
            if self.norms:
                value = self.activation(self.norms[i](value))
            if self.dropout is not None:
                value = self.dropout(value, training=training)
        return value

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """The input's shape with the last width."""
        return (*input_shape[:-1], self.units[-1] if self.units else input_shape[-1])
