"""Dense layers: every network of this library creates them with :func:`dense`."""

from __future__ import annotations

from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import InputError
from tfmtl2r.types import Tensor


def dense(units: int, activation: str | None = None, *, stacked: int | None = None, **options: Any) -> Any:
    """Creates a dense layer, or several stacked layers of equal shape.

    To change the kind of layer or the initialiser of all networks, edit this function.

    Args:
        units: width of the output.
        activation: name of a Keras activation.
        stacked: number of layers in a :class:`StackedDense`; None for a single layer.
        **options: options of the layer, for example ``name`` and ``dtype``.

    >>> dense(2)(tf.ones([3, 4])).shape.as_list(), dense(2, stacked=5)(tf.ones([5, 3, 4])).shape.as_list()
    ([3, 2], [5, 3, 2])
    """
    if stacked is None:
        return keras.layers.Dense(units, activation=activation, **options)
    return StackedDense(stacked, units, activation=activation, **options)


class StackedDense(keras.layers.Layer):
    """T dense layers of equal shape as one batched product: input ``[T, ..., in]``, output ``[T, ..., units]``.

    If the input has fewer slices, ``[G, ..., in]``, T / G layers read each slice; the first T / G read slice 0.

    Each of the T kernels is initialised like a Keras ``Dense`` of the same size (Glorot uniform).

    Args:
        num: number T of layers.
        units: width of the output.
        activation: name of a Keras activation.

    >>> layer = StackedDense(3, 2)
    >>> layer(tf.ones([3, 4, 5])).shape.as_list()
    [3, 4, 2]
    """

    def __init__(self, num: int, units: int, activation: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.num = num
        self.units = units
        self.activation = keras.activations.get(activation)

    def build(self, input_shape: Any) -> None:
        """Creates one kernel and one bias per task."""
        fan_in = int(input_shape[-1])
        limit = (6.0 / (fan_in + self.units)) ** 0.5
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.num, fan_in, self.units),
            initializer=keras.initializers.RandomUniform(-limit, limit),
        )
        self.bias = self.add_weight(name="bias", shape=(self.num, 1, self.units), initializer="zeros")
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """Applies one dense layer per leading index."""
        shape, width = tf.shape(inputs), inputs.shape[-1]
        groups = inputs.shape[0] or self.num
        each = self.num // groups
        if each * groups != self.num:
            raise InputError(f"{self.num} stacked dense layers cannot read {groups} inputs evenly; the number of "
                             "inputs must divide the number of layers")
        kernel = tf.reshape(tf.convert_to_tensor(self.kernel), [groups, each, width, self.units])
        # Broadcast instead of one wide product, which would need to transpose kernel and outputs.
        outputs = tf.matmul(tf.reshape(inputs, [groups, 1, -1, width]), kernel)
        outputs = tf.reshape(outputs, [self.num, -1, self.units])
        outputs = self.activation(outputs + self.bias)
        return tf.reshape(outputs, tf.concat([[self.num], shape[1:-1], [self.units]], 0))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """``[T, ..., units]``."""
        return (self.num, *input_shape[1:-1], self.units)
