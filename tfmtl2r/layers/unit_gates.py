"""Gates that choose, unit by unit and task by task, between a layer of the task's own and a shared layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import InputError
from tfmtl2r.layers import inspection
from tfmtl2r.layers.mlp import MLP
from tfmtl2r.layers.pruning import dense_of, padded
from tfmtl2r.types import Tensor


class UnitGates(keras.layers.Layer):
    """The gates of all levels, with a penalty on the share of units of the tasks' own.

    Level l has logits ``a [T, 1, d]`` and the gates ``z = 1 if sigmoid(a) > 1/2, else 0``. Their gradient is that of
    ``sigmoid(a)`` (straight-through). The attribute ``losses`` contains
    ``penalty mean_t max(0, rate_t - target)``, where ``rate_t`` is the mean of ``sigmoid(a)`` over all units of task t.

    Args:
        num_tasks: T.
        widths: number d of units of each level.
        penalty: strength of the penalty.
        target: the share of own units, in [0, 1], below which a task pays nothing.
        start: centre of the initial logits, which are uniform in ``[start - 1, start + 1]``. A gate gives no gradient
            to the layer that it switches off, so that layers of both kinds have to be on somewhere.

    >>> gates = UnitGates(2, [3], penalty=1.0, target=0.3)
    >>> _ = gates.logits[0].assign([[[2.0, -1.0, 0.3]], [[-3.0, 0.2, -0.5]]])
    >>> gates.at(0).numpy().tolist(), round(float(gates.losses[0]), 5)
    ([[[1.0, 0.0, 1.0]], [[0.0, 1.0, 0.0]]], 0.14983)
    """

    def __init__(self, num_tasks: int, widths: Sequence[int], penalty: float, target: float, start: float = 0.0,
                 **kwargs: Any):
        super().__init__(**kwargs)
        check_unit_gates(penalty, target)
        self.penalty, self.target = penalty, target
        self.logits: list[Any] = []
        for level, width in enumerate(widths, start=1):
            self.logits.append(self.add_weight(
                name=f"logits_{level}", shape=(num_tasks, 1, width), dtype="float32", autocast=False,
                initializer=keras.initializers.RandomUniform(start - 1.0, start + 1.0),
                regularizer=self._hinge if penalty and level == 1 else None,  # once, and it reads the logits of all
            ))
        self.built = True

    def at(self, level: int) -> Tensor:
        """The gates of a level, ``float32[T, 1, d]``, 0 or 1."""
        soft = tf.sigmoid(tf.convert_to_tensor(self.logits[level]))
        gates = tf.stop_gradient(tf.cast(soft > 0.5, tf.float32)) + (soft - tf.stop_gradient(soft))
        inspection.record(f"own_units_{level + 1}", gates[:, 0])
        return gates

    def rates(self) -> Tensor:
        """The share of own units of each task, ``float32[T]``, with soft gates."""
        soft = [tf.sigmoid(tf.convert_to_tensor(logits)) for logits in self.logits]
        return tf.reduce_mean(tf.concat(soft, axis=-1), axis=[1, 2])

    def _hinge(self, _: Any) -> Tensor:
        return self.penalty * tf.reduce_mean(tf.maximum(self.rates() - self.target, 0.0))


def check_unit_gates(penalty: float, target: float) -> None:
    """Refuses invalid options of :class:`UnitGates`, before any layer is created.

    Raises:
        ValueError: for a penalty below 0, or a target outside [0, 1].
    """
    if not penalty >= 0:
        raise InputError(f"the penalty on own units must be 0 or more, not {penalty}")
    if not 0 <= target <= 1:
        raise InputError(f"target is a share of own units, from 0 to 1, not {target}")


class TaskMix(keras.layers.Layer):
    """A learnt average over tasks: ``sum_t softmax(b)_t x_t`` of ``[T, n, d]``.

    >>> mix = TaskMix(2)
    >>> mix(tf.constant([[[2.0]], [[4.0]]])).numpy().tolist()
    [[3.0]]
    """

    def __init__(self, num_tasks: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.logits = self.add_weight(name="logits", shape=(num_tasks,), dtype="float32", autocast=False,
                                      initializer="zeros")
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """The average, ``[n, d]``."""
        weights = tf.cast(tf.nn.softmax(tf.convert_to_tensor(self.logits)), inputs.dtype)
        return tf.tensordot(weights, inputs, 1)


class GatedLevel(keras.layers.Layer):
    """One level: a layer per task, a shared layer, and the gates between them.

    Args:
        own: the layer of all tasks, ``[T, n, in]`` to ``[T, n, d]``.
        common: the shared layer, ``[n, in]`` to ``[n, d]``.
        gates: the gates of all levels.
        level: the number of this level, from 0.
    """

    def __init__(self, own: MLP, common: MLP, gates: UnitGates, level: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.own, self.common, self.level = own, common, level
        self.gates = gates
        self.built = True

    def call(self, inputs: Tensor, common: Tensor, training: bool = False) -> Tensor:
        """``m_t = z_t own_t + (1 - z_t) common``.

        Args:
            inputs: the inputs of the own layers, ``[T, n, in]`` (or ``[1, n, in]``, one for all tasks).
            common: the output of the shared layer, ``[n, d]`` or a copy per task, ``[T, n, d]``.
            training: True in a training step.
        """
        gates = tf.cast(self.gates.at(self.level), common.dtype)
        return gates * self.own(inputs, training=training) + (1.0 - gates) * common

    def pruned(self) -> PrunedLevel:
        """The same function, without the units that no task reads."""
        gates = self.gates.at(self.level).numpy()[:, 0] > 0
        return PrunedLevel(gates, self.own.dense[0], self.common.dense[0], dtype=self.dtype_policy, name=self.name)


class PrunedLevel(keras.layers.Layer):
    """A :class:`GatedLevel` with fixed gates, for exports: own units that are off and shared units that nobody reads
    are left out.

    Args:
        gates: ``bool[T, d]``, True for a unit of the task's own.
        own, common: the dense layers.

    Attributes:
        units: number of units that are left, and of all units.
    """

    def __init__(self, gates: np.ndarray, own: Any, common: Any, **kwargs: Any):
        super().__init__(**kwargs)
        read = np.flatnonzero(~gates.all(axis=0))  # shared units
        kept = [np.flatnonzero(row) for row in gates]
        self.own, (kernels, biases) = None, padded(
            [(kernel[:, units], bias[0, units])
             for kernel, bias, units in zip(np.asarray(own.kernel), np.asarray(own.bias), kept, strict=True)])
        if kernels.shape[-1]:
            self.activation = own.activation
            self.own = [self.add_weight(shape=values.shape, initializer=keras.initializers.Constant(values), name=name)
                        for name, values in (("kernel", np.swapaxes(kernels, 1, 2)), ("bias", biases))]
        self.common = dense_of(np.asarray(common.kernel)[:, read], np.asarray(common.bias)[read], common.activation,
                               self.dtype_policy) if len(read) else lambda inputs, training: inputs[:, :0]
        place = np.zeros(gates.shape[1], np.int64)
        place[read] = kernels.shape[0] * kernels.shape[-1] + np.arange(len(read))
        self.places = np.repeat(place[None], len(gates), axis=0)
        for task, units in enumerate(kept):
            self.places[task, units] = task * kernels.shape[-1] + np.arange(len(units))
        self.units = len(read) + sum(map(len, kept)), gates.size + gates.shape[1]
        self.built = True

    def call(self, inputs: Tensor, common: Tensor, training: bool = False) -> Tensor:
        """See :meth:`GatedLevel.call`; ``common`` has the shared units that are left, or equal copies of them."""
        # Units are rows here: a selection of rows copies whole rows, one of columns single numbers.
        rows = [tf.transpose(common if common.shape.rank == 2 else common[0])]
        if self.own is not None:
            kernel, bias = (tf.convert_to_tensor(weight) for weight in self.own)
            if inputs.shape[0] == 1:  # all tasks read the same: one product
                kernel = tf.reshape(kernel, [1, -1, kernel.shape[-1]])
            products = tf.matmul(kernel, inputs, transpose_b=True)
            own = tf.reshape(products, [-1, tf.shape(rows[0])[1]]) + tf.reshape(bias, [-1, 1])
            rows.insert(0, self.activation(own))
        return tf.linalg.matrix_transpose(tf.gather(tf.concat(rows, axis=0), self.places))
