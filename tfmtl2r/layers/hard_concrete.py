"""Gates that can be exactly 0 or 1 and still learn: the hard concrete distribution, with its L0 penalty."""

from __future__ import annotations

import math
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import InputError
from tfmtl2r.layers import inspection, randomness
from tfmtl2r.types import Tensor


class HardConcrete(keras.layers.Layer):
    """Gates in [0, 1] of any shape, drawn once per training step and equal for all items on all replicas.

    ``s = sigmoid((log u - log(1 - u) + log_alpha) / beta)`` with ``u ~ U(0, 1)`` and
    ``z = clip(s (zeta - gamma) + gamma, 0, 1)``. Outside training ``s = sigmoid(log_alpha)``. The attribute ``losses``
    contains the penalty, ``penalty sum P(z > 0)`` with ``P(z > 0) = sigmoid(log_alpha - beta log(-gamma / zeta))``.
    Louizos et al. 2018, https://arxiv.org/abs/1712.01312.

    Args:
        shape: shape of the gates.
        start: initial value of every log_alpha.
        penalty: strength of the L0 penalty.
        beta: temperature, above 0.
        gamma, zeta: ends of the stretched interval, gamma < 0 and zeta > 1.

    Raises:
        ValueError: for a penalty below 0, or a beta or a stretch out of bounds.

    >>> gates = HardConcrete((2, 2))
    >>> gates().numpy().tolist(), round(float(gates.probability_of_open()[0, 0]), 5)
    ([[0.5, 0.5], [0.5, 0.5]], 0.83182)
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        start: float = 0.0,
        penalty: float = 0.0,
        beta: float = 2 / 3,
        gamma: float = -0.1,
        zeta: float = 1.1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_hard_concrete(penalty, beta, gamma, zeta)
        self.beta, self.gamma, self.zeta, self.penalty = beta, gamma, zeta, penalty
        self.log_alpha = self.add_weight(
            name="log_alpha", shape=shape, initializer=keras.initializers.Constant(start), dtype="float32",
            autocast=False, regularizer=self._expected_open if penalty else None,
        )
        self.built = True

    def call(self, training: bool = False) -> Tensor:
        """The gates, float32."""
        logits = tf.convert_to_tensor(self.log_alpha)
        if training:
            # Not 0 or 1, since log u or log(1 - u) would be infinite.
            u = tf.random.stateless_uniform(logits.shape, randomness.next_common_seed(), 1e-6, 1.0 - 1e-6)
            logits = (tf.math.log(u) - tf.math.log1p(-u) + logits) / self.beta
        gates = tf.clip_by_value(tf.sigmoid(logits) * (self.zeta - self.gamma) + self.gamma, 0.0, 1.0)
        inspection.record(self.name, gates)
        return gates

    def probability_of_open(self) -> Tensor:
        """``P(z > 0)`` in training, for each gate."""
        return tf.sigmoid(tf.convert_to_tensor(self.log_alpha) - self.beta * math.log(-self.gamma / self.zeta))

    def _expected_open(self, log_alpha: Tensor) -> Tensor:
        return self.penalty * tf.reduce_sum(self.probability_of_open())


def check_hard_concrete(penalty: float, beta: float, gamma: float, zeta: float) -> None:
    """Refuses invalid options of :class:`HardConcrete`, before any layer is created.

    Raises:
        ValueError: for a penalty below 0, or a beta or a stretch out of bounds.
    """
    if not penalty >= 0:
        raise InputError(f"the L0 penalty must be 0 or more, not {penalty}")
    if not (beta > 0 and gamma < 0 and zeta > 1):
        raise InputError("a hard concrete gate needs beta > 0, gamma < 0 and zeta > 1, got "
                         f"beta {beta}, gamma {gamma}, zeta {zeta}")
