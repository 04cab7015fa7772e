"""Learnt linear mixtures between parallel networks."""

from __future__ import annotations

from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.layers import inspection
from tfmtl2r.types import Tensor


class Stitch(keras.layers.Layer):
    """``y_t = sum_s alpha_ts x_s`` on ``[T, n, D]``.

    Args:
        num: T.
        self_weight: initial value of alpha's diagonal. The other entries of a row share ``1 - self_weight`` equally.
    """

    def __init__(self, num: int, self_weight: float, **kwargs: Any):
        super().__init__(**kwargs)
        rest = (1.0 - self_weight) / max(num - 1, 1)
        start = tf.eye(num) * (self_weight - rest) + rest if num > 1 else tf.ones([1, 1])
        self.alpha = self.add_weight(
            name="alpha", shape=(num, num), initializer=lambda *_, **__: start, dtype="float32", autocast=False
        )
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """Returns one mixture per task."""
        return tf.tensordot(self._alpha(), inputs, 1)

    def weights_for(self, items: Tensor) -> Tensor:
        """The mixture's weights as gates that are equal for all items, ``[T, n, T]``."""
        alpha = self._alpha()
        return tf.broadcast_to(alpha[:, None, :], [alpha.shape[0], items, alpha.shape[1]])

    def _alpha(self) -> Tensor:
        inspection.record(self.name, self.alpha, axes=("task", "task"))
        return tf.cast(self.alpha, self.compute_dtype)
