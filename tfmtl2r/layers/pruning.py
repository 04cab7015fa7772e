"""Parts of networks whose units are switched off for good: thresholds on whole units, and the smaller networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfmtl2r._backend import keras, tf
from tfmtl2r.layers.dense import dense
from tfmtl2r.layers.dropout import Dropout
from tfmtl2r.layers.mlp import widths
from tfmtl2r.types import Tensor


def dense_of(kernel: np.ndarray, bias: np.ndarray, activation: Any, dtype: Any) -> Any:
    """A dense layer with given weights.

    Args:
        kernel: ``[in, units]``.
        bias: ``[units]``.
        activation: a Keras activation.
        dtype: dtype policy.

    >>> dense_of(np.ones([2, 1]), np.zeros(1), "relu", "float32")(tf.constant([[1.0, 2.0]])).numpy().tolist()
    [[3.0]]
    """
    layer = dense(kernel.shape[1], activation, dtype=dtype)
    layer.build((None, kernel.shape[0]))
    layer.set_weights([kernel, bias])
    return layer


class ThresholdedMLP(keras.layers.Layer):
    """Dense layers whose units fade out below a learnt threshold, one threshold for all layers of a network.

    A unit with the incoming weights ``w`` (rms: their root mean square) has the factor ``relu(1 - sigmoid(s) / rms)``
    on ``w`` and on its bias. A unit below the threshold ``sigmoid(s)`` is exactly 0 for an activation that maps 0 to 0.

    Args:
        units: widths of the layers.
        activation: name of a Keras activation.
        dropout: rate after each layer.
        stacked: number T of networks, with the input ``[T, ..., in]`` and a threshold each; None for a single network.
        start: initial s.
        regularizer: a penalty on s, or None.

    >>> layer = ThresholdedMLP([3], "linear", start=0.0)
    >>> layer.build((None, 1))
    >>> _ = layer.dense[0].kernel.assign([[0.3, -0.7, 0.5]])
    >>> layer(tf.ones([1, 1])).numpy().astype(float).round(6).tolist()
    [[0.0, -0.2, 0.0]]
    """

    def __init__(
        self, units: Sequence[int], activation: str = "relu", dropout: float = 0.0, stacked: int | None = None,
        start: float = -5.0, regularizer: Callable[[Any], Any] | None = None, **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units, self.stacked = widths(units, "units"), stacked
        self.start, self.regularizer = start, regularizer
        self.activation = keras.activations.get(activation)
        self.dense = [dense(width, None, stacked=stacked, dtype=self.dtype_policy) for width in self.units]
        self.dropout = Dropout(dropout, dtype=self.dtype_policy) if dropout else None

    def build(self, input_shape: Any) -> None:
        """Builds every layer and the thresholds."""
        shape = tuple(input_shape)
        for layer, width in zip(self.dense, self.units, strict=True):
            layer.build(shape)
            shape = (*shape[:-1], width)
        self.threshold = self.add_weight(
            name="threshold", shape=() if self.stacked is None else (self.stacked, 1, 1), dtype="float32",
            autocast=False, initializer=keras.initializers.Constant(self.start), regularizer=self.regularizer,
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

    def pruned(self, rows: Sequence[np.ndarray]) -> tuple[list[Network], list[np.ndarray]]:
        """Networks without the units that are 0.

        Args:
            rows: the inputs of each network that are left.

        Returns:
            One network for each of the T, and the outputs of each that are left, of all its outputs.
        """
        networks, outputs = [], []
        for number, inputs in enumerate(rows):
            parts, left = [], inputs
            for layer, factors in zip(self.dense, self.factors(), strict=True):
                each = (factors if self.stacked is None else factors[number, 0]).numpy()
                kernel, bias = (np.asarray(w) for w in (layer.kernel, layer.bias))
                if self.stacked is not None:
                    kernel, bias = kernel[number], bias[number, 0]
                kept = np.flatnonzero(each) if each.any() else np.array([0])  # a layer without units is none
                parts.append(((kernel * each)[np.ix_(left, kept)], (bias * each)[kept]))
                left = kept
            networks.append(Network(parts, self.activation, dtype=self.dtype_policy))
            outputs.append(left)
        return networks, outputs


class Network(keras.layers.Layer):
    """Dense layers of given weights, one after the other.

    Args:
        parts: kernel and bias of each layer.
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
