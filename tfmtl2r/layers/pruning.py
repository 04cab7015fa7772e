"""Parts of networks whose units are switched off for good: thresholds on whole units, and the smaller networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfmtl2r._backend import keras, tf
from tfmtl2r.layers.dense import dense
from tfmtl2r.layers.dropout import Dropout
from tfmtl2r.layers.mlp import widths
from tfmtl2r.types import Tensor


def dense_of(kernel: np.ndarray, bias: np.ndarray, activation: Any, dtype: Any) -> Any:
    """A dense layer with given weights, or T stacked ones.

    Args:
        kernel: ``[in, units]``, or ``[T, in, units]``.
        bias: ``[units]``, or ``[T, 1, units]``.
        activation: a Keras activation.
        dtype: dtype policy.

    >>> dense_of(np.ones([2, 1]), np.zeros(1), "relu", "float32")(tf.constant([[1.0, 2.0]])).numpy().tolist()
    [[3.0]]
    """
    stacked = kernel.shape[0] if kernel.ndim == 3 else None
    layer = dense(kernel.shape[-1], activation, stacked=stacked, dtype=dtype)
    layer.build((*kernel.shape[:-2], None, kernel.shape[-2]))
    layer.set_weights([kernel, bias])
    return layer


def padded(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Layers of different sizes as stacked ones, filled with zeros: one batched product is faster than T small ones.

    Args:
        parts: kernel ``[in, units]`` and bias ``[units]`` of each of the T layers.

    >>> kernel, bias = padded([(np.ones([1, 2]), np.ones(2)), (np.ones([2, 1]), np.ones(1))])
    >>> kernel.tolist(), bias.tolist()
    ([[[1.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]], [[[1.0, 1.0]], [[1.0, 0.0]]])
    """
    rows, units = np.max([kernel.shape for kernel, _ in parts], axis=0)
    kernels, biases = np.zeros([len(parts), rows, units]), np.zeros([len(parts), 1, units])
    for number, (kernel, bias) in enumerate(parts):
        kernels[number, :kernel.shape[0], :kernel.shape[1]] = kernel
        biases[number, 0, :len(bias)] = bias
    return kernels, biases


class ThresholdedMLP(keras.layers.Layer):
    """Dense layers whose units fade out below a learnt threshold, one threshold for all layers of a network.

    A unit with the incoming weights ``w`` (rms: their root mean square) has the factor ``relu(1 - sigmoid(s) / rms)``
    on ``w`` and on its bias. A unit below the threshold ``sigmoid(s)`` is exactly 0 for an activation that maps 0 to 0.

    Args:
        units: widths of the layers.
        activation: name of a Keras activation.
        dropout: rate after each layer.
        stacked: number T of networks, with the input ``[T, ..., in]`` and a threshold each; None for a single network.
        start: initial s; by default the threshold starts at a quarter of the smallest layer's initial weights.
        regularizer: a penalty on s, or None.

    >>> layer = ThresholdedMLP([3], "linear", start=0.0)
    >>> layer.build((None, 1))
    >>> _ = layer.dense[0].kernel.assign([[0.3, -0.7, 0.5]])
    >>> layer(tf.ones([1, 1])).numpy().astype(float).round(6).tolist()
    [[0.0, -0.2, 0.0]]
    """

    def __init__(
        self, units: Sequence[int], activation: str = "relu", dropout: float = 0.0, stacked: int | None = None,
        start: float | None = None, regularizer: Callable[[Any], Any] | None = None, **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units, self.stacked = widths(units, "units"), stacked
        self.start, self.regularizer = start, regularizer
        self.activation = keras.activations.get(activation)
        self.dense = [dense(width, None, stacked=stacked, dtype=self.dtype_policy) for width in self.units]
        self.dropout = Dropout(dropout, dtype=self.dtype_policy) if dropout else None

    def build(self, input_shape: Any) -> None:
        """Builds every layer and the thresholds."""
        shape, smallest = tuple(input_shape), 1.0
        for layer, width in zip(self.dense, self.units, strict=True):
            layer.build(shape)
            smallest = min(smallest, math.sqrt(2 / (shape[-1] + width)))  # rms of Glorot's distribution
            shape = (*shape[:-1], width)
        start = math.log(smallest / (4 - smallest)) if self.start is None else self.start
        self.threshold = self.add_weight(
            name="threshold", shape=() if self.stacked is None else (self.stacked, 1, 1), dtype="float32",
            autocast=False, initializer=keras.initializers.Constant(start), regularizer=self.regularizer,
        )
        self.built = True

    def factors(self, held: Any = False) -> list[Tensor]:
        """The factors of the units of every layer, ``float32[units]`` or ``[T, 1, units]``.

        Args:
            held: whether the thresholds have no gradient.
        """
        logit = tf.convert_to_tensor(self.threshold)
        threshold = tf.sigmoid(tf.where(held, tf.stop_gradient(logit), logit))
        found = []
        for layer in self.dense:
            kernel = tf.cast(tf.convert_to_tensor(layer.kernel), tf.float32)
            squares = tf.reduce_mean(kernel**2, axis=-2, keepdims=self.stacked is not None)
            found.append(tf.nn.relu(1.0 - threshold * tf.math.rsqrt(squares + 1e-24)))
        return found

    def call(self, inputs: Tensor, training: bool = False, held: Any = False) -> Tensor:
        """Runs the layers in order."""
        value = inputs
        for layer, factor in zip(self.dense, self.factors(held), strict=True):
            value = self.activation(layer(value) * tf.cast(factor, self.compute_dtype))
            if self.dropout is not None:
                value = self.dropout(value, training=training)
        return value

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """The input's shape with the last width."""
        return (*input_shape[:-1], self.units[-1] if self.units else input_shape[-1])

    def pruned(self, rows: Sequence[np.ndarray]) -> tuple[Network, list[np.ndarray], int]:
        """The network without the units that are 0; each of T stacked ones has as many as the widest needs.

        Args:
            rows: the inputs of each network that are left.

        Returns:
            The network, the outputs of each that are left, of all its outputs, and the number of units that are left.
        """
        layers, left, count = [], [*rows], 0
        for layer, factors in zip(self.dense, self.factors(), strict=True):
            each = np.reshape(np.asarray(factors), [len(left), -1])
            kernels = np.reshape(np.asarray(layer.kernel), [len(left), -1, each.shape[1]]) * each[:, None]
            biases = np.reshape(np.asarray(layer.bias), each.shape) * each
            kept = [np.flatnonzero(row) if row.any() else np.array([0]) for row in each]  # no layer has no unit
            parts = [(kernel[np.ix_(inputs, units)], bias[units])
                     for kernel, bias, inputs, units in zip(kernels, biases, left, kept, strict=True)]
            layers.append(parts[0] if self.stacked is None else padded(parts))
            left, count = kept, count + sum(map(len, kept))
        return Network(layers, self.activation, dtype=self.dtype_policy), left, count


class Network(keras.layers.Layer):
    """Dense layers of given weights, one after the other.

    Args:
        parts: kernel and bias of each layer, as in :func:`dense_of`.
        activation: of every layer.
    """

    def __init__(self, parts: Sequence[tuple[np.ndarray, np.ndarray]], activation: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.dense = [dense_of(kernel, bias, activation, self.dtype_policy) for kernel, bias in parts]
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Runs the layers in order."""
        for layer in self.dense:
            inputs = layer(inputs)
        return inputs
