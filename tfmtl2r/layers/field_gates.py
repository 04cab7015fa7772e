"""Gates that weight the features a network reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.layers import inspection
from tfmtl2r.types import Tensor


class FieldGates(keras.layers.Layer):
    """Weights features for each of E networks: ``w_ij e_j`` with ``w_ij = relu(tanh(e_j . a_ij))``.

    ``e_j`` is the encoding of feature j, and ``w_ij`` is one number. If it is 0, network i ignores the feature.
    Ding et al. 2021, https://doi.org/10.1145/3404835.3463022.

    Args:
        num: number E of networks.
        fields: width of each feature; the sum is F.
    """

    def __init__(self, num: int, fields: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        width, field_of = sum(fields), [j for j, size in enumerate(fields) for _ in range(size)]
        self.field_of = tf.constant(field_of)
        # Glorot uniform for each of the maps from a feature to its gate.
        limits = [(6.0 / (fields[j] + 1)) ** 0.5 for j in field_of]
        uniform = keras.initializers.RandomUniform(-1.0, 1.0)
        self.directions = self.add_weight(
            name="directions", shape=(num, width),
            initializer=lambda shape, dtype=None: uniform(shape, dtype) * tf.constant([limits], dtype),
        )
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """Turns ``[G, n, F]`` into ``[E, n, F]``; E / G networks read each slice."""
        groups, width, num = inputs.shape[0], inputs.shape[-1], self.directions.shape[0]
        one_hot = tf.one_hot(self.field_of, tf.reduce_max(self.field_of) + 1, dtype=inputs.dtype)
        maps = tf.cast(self.directions, inputs.dtype)[:, :, None] * one_hot  # [E, F, J]
        inputs = inputs[:, None]
        gates = tf.nn.relu(tf.tanh(tf.matmul(inputs, tf.reshape(maps, [groups, num // groups, width, -1]))))
        inspection.record(self.name, tf.reshape(tf.reduce_mean(gates, axis=-2), [num, -1]), axes=("expert", "field"))
        return tf.reshape(inputs * tf.gather(gates, self.field_of, axis=-1), [num, -1, width])
