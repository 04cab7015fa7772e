"""Connections between small networks, which gates between 0 and 1 switch on and off."""

from __future__ import annotations

from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.layers.hard_concrete import HardConcrete
from tfmtl2r.types import Tensor


class Connections(keras.layers.Layer):
    """Computes the inputs of I readers from the outputs of J subnets: ``v_i = sum_j z_ij (u_j W_ij)``.

    Input ``[J, n, D]``, output ``[I, n, D]``; ``z`` are hard concrete gates. The gates scale the maps W, not the
    activations, since the maps are smaller. One product per reader then computes its input.

    Args:
        readers: number I of readers.
        subnets: number J of subnets.
        width: D; None for ``v_i = sum_j z_ij u_j``, without maps.
        gate_options: options of :class:`tfmtl2r.layers.hard_concrete.HardConcrete`.
        per_unit: True for one gate per number of a map's output, ``z_ij [D]``; False for one gate per map.
    """

    def __init__(
        self,
        readers: int,
        subnets: int,
        width: int | None,
        gate_options: dict[str, float],
        per_unit: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        shape = (readers, subnets) if not per_unit or width is None else (readers, subnets, width)
        routing = self.name.replace("connections", "routing")
        self.gates = HardConcrete(shape, **gate_options, dtype=self.dtype_policy, name=routing)
        self.kernel = None
        if width is not None:
            limit = (6.0 / (2 * width)) ** 0.5  # Glorot uniform for each of the I x J maps
            self.kernel = self.add_weight(name="kernel", shape=(readers, subnets, width, width),
                                          initializer=keras.initializers.RandomUniform(-limit, limit))
        self.built = True

    def call(self, outputs: Tensor, training: bool = False) -> Tensor:
        """Turns ``[J, n, D]`` into ``[I, n, D]``."""
        if self.kernel is None:
            return tf.tensordot(tf.cast(self.gates(training=training), outputs.dtype), outputs, 1)
        return self.transformed(side_by_side(outputs)[None], training)

    def transformed(self, rows: Tensor, training: bool) -> Tensor:
        """Turns concatenated outputs, ``[1 or I, n, J D]``, into ``[I, n, D]``."""
        kernel = tf.convert_to_tensor(self.kernel)
        readers, subnets, width, _ = kernel.shape
        gates = tf.cast(self.gates(training=training), kernel.dtype)
        kernel *= tf.reshape(gates, [readers, subnets, 1, -1])
        return tf.matmul(rows, tf.cast(tf.reshape(kernel, [readers, subnets * width, width]), rows.dtype))


def side_by_side(outputs: Tensor) -> Tensor:
    """Concatenates ``[..., J, n, D]`` to ``[..., n, J D]``."""
    return tf.concat(tf.unstack(outputs, axis=-3), axis=-1)
