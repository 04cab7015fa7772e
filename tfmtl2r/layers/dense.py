"""Dense layers: every network of this library gets its own from :func:`dense`."""

from __future__ import annotations

from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import InputError
from tfmtl2r.types import Tensor


def dense(units: int, activation: str | None = None, *, stacked: int | None = None, **options: Any) -> Any:
    """A dense layer, or several of equal shape side by side. Another kind of layer or initialiser is an edit here.

    Args:
        units: width of the output.
        activation: name of a Keras activation.
        stacked: if given, that many layers, as :class:`StackedDense`.
        **options: of the layer, such as ``name`` and ``dtype``.

    >>> dense(2)(tf.ones([3, 4])).shape.as_list(), dense(2, stacked=5)(tf.ones([5, 3, 4])).shape.as_list()
    ([3, 2], [5, 3, 2])
    """
    if stacked is None:
        return keras.layers.Dense(units, activation=activation, **options)
    return StackedDense(stacked, units, activation=activation, **options)


class StackedDense(keras.layers.Layer):
    """T dense layers of equal shape as one batched product: ``[T, ..., in]`` in, ``[T, ..., units]`` out.

    An input of fewer slices, ``[G, ..., in]``, is read by T / G layers per slice, slice 0 by the first T / G.

    Each of the T kernels starts as a Keras ``Dense`` of the same size would (Glorot uniform).

    Args:
        num: T.
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
        """Makes one kernel and one bias per task."""
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
        """One dense layer per leading index."""
        shape, width = tf.shape(inputs), inputs.shape[-1]
        groups = inputs.shape[0] or self.num
        each = self.num // groups
        if each * groups != self.num:
            raise InputError(f"{self.num} dense layers side by side cannot read {groups} inputs evenly; give one input "
                             "for all, or one for every so many layers")
        kernel = tf.reshape(tf.convert_to_tensor(self.kernel), [groups, each, width, self.units])
        # Broadcast, not one wide product: that one would have kernel and outputs transposed.
        outputs = tf.matmul(tf.reshape(inputs, [groups, 1, -1, width]), kernel)
        outputs = tf.reshape(outputs, [self.num, -1, self.units])
        outputs = self.activation(outputs + self.bias)
        return tf.reshape(outputs, tf.concat([[self.num], shape[1:-1], [self.units]], 0))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """``[T, ..., units]``."""
        return (self.num, *input_shape[1:-1], self.units)
