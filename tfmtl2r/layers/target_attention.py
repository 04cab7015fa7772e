"""Attention of a candidate over a history: the rows that are like the candidate count more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import InputError
from tfmtl2r.layers.dense import dense
from tfmtl2r.types import Mask, Tensor

NORMALISERS = ("none", "softmax", "sigmoid")
ACTIVATIONS = ("sigmoid", "relu", "prelu", "dice")


def normalised(logits: Tensor, valid: Mask, normaliser: str, scale: float = 1.0) -> Tensor:
    """Attention weights, 0 at padded places, also if all places are padded.

    Args:
        logits: ``float32[n, M]``.
        valid: ``bool[n, M]``, True at real places.
        normaliser: ``"none"`` (the logits themselves), ``"softmax"`` over the real places, or ``"sigmoid"``.
        scale: logits are divided by this number before softmax or sigmoid.
    """
    real = tf.cast(valid, logits.dtype)
    if normaliser == "softmax":
        return tf.nn.softmax(tf.where(valid, logits / scale, -1e9), axis=-1) * real
    return (tf.sigmoid(logits / scale) if normaliser == "sigmoid" else logits) * real


class Dice(keras.layers.Layer):
    """The data-adaptive activation ``p z + (1 - p) alpha z`` with ``p = sigmoid((z - mean) / sqrt(variance))``.

    One trainable alpha per unit, from 0. The statistics are those of a batch normalisation and leave padding out.
    Differs from the authors' code: their normalised z is multiplied by a trainable number that starts at 0.

    Zhou et al., Deep interest network for click-through rate prediction, KDD 2018, https://arxiv.org/abs/1706.06978.
    """

    def build(self, input_shape: Any) -> None:
        self.normal = keras.layers.BatchNormalization(
            center=False, scale=False, epsilon=1e-9, dtype=self.dtype_policy, name="normal")
        self.normal.build(input_shape)
        self.alpha = self.add_weight(name="alpha", shape=(input_shape[-1],), initializer="zeros")
        self.built = True

    def call(self, z: Tensor, valid: Mask, training: bool | None = None) -> Tensor:
        """``z`` is ``float32[..., units]``, ``valid`` is ``bool[...]``."""
        p = tf.sigmoid(self.normal(z, training=training, mask=valid))
        return p * z + (1.0 - p) * self.alpha * z


class TargetAttention(keras.layers.Layer):
    """Weights of the rows of a history for a candidate: ``a_m = MLP([q, h_m, q - h_m, q * h_m])``.

    The first layer is computed in parts: ``q (A + C) + h (B - C) + (q * h) D`` with the rows A, B, C, D of its kernel.
    The part of the history is computed once per list, and repeated for its items.

    Args:
        width: width d of the candidate and of the rows.
        sides: width of further inputs of the MLP, which describe the rows.
        units: widths of the hidden layers.
        activation: ``"sigmoid"``, ``"relu"``, ``"prelu"`` or ``"dice"``.
        normaliser: ``"none"``, ``"softmax"`` or ``"sigmoid"``.
        scale: divide the logits by sqrt(d) before softmax or sigmoid.

    Zhou et al., Deep interest network for click-through rate prediction, KDD 2018, https://arxiv.org/abs/1706.06978.
    """

    def __init__(
        self, width: int, sides: int = 0, units: Sequence[int] = (80, 40), activation: str = "sigmoid",
        normaliser: str = "none", scale: bool = True, **kwargs: Any,
    ):
        super().__init__(**kwargs)
        checked("activation", activation, ACTIVATIONS)
        checked("normaliser", normaliser, NORMALISERS)
        self.width, self.normaliser, self.scale = width, normaliser, float(width) ** 0.5 if scale else 1.0
        first, *rest = [*units, 1]
        glorot = keras.initializers.GlorotUniform
        self.kernel = self.add_weight(name="kernel", shape=(4 * width, first), initializer=glorot())
        self.bias = self.add_weight(name="bias", shape=(first,), initializer="zeros")
        self.side_kernel = sides and self.add_weight(name="side_kernel", shape=(sides, first), initializer=glorot())
        policy = self.dtype_policy
        self.activations = [_activation(activation, dtype=policy, name=f"activation_{place}")
                            for place, _ in enumerate(rest)]
        self.hidden = [dense(size, dtype=policy, name=f"hidden_{place}")
                       for place, size in enumerate(rest)]
        for before, layer, activation_layer in zip([first, *rest], self.hidden, self.activations, strict=False):
            layer.build((None, None, before))
            activation_layer.build((None, None, before))
        self.built = True

    def call(
        self, rows: Tensor, candidate: Tensor, valid: Mask, *, repeated: Callable[[Any], Any],
        sides: Tensor | None = None,
    ) -> Tensor:
        """The weights, ``float32[n, M]``.

        Args:
            rows: ``float32[B, M, d]``, the history of each list.
            candidate: ``float32[n, d]``.
            valid: ``bool[B, M]``, True at real places.
            repeated: turns values of lists into values of items, ``[n, ...]``.
            sides: ``float32[B, M, S]``; None without further inputs.
        """
        q_part, h_part, difference, product = tf.split(tf.convert_to_tensor(self.kernel), 4)
        history = rows @ (h_part - difference) + self.bias
        if sides is not None:
            history += sides @ tf.convert_to_tensor(self.side_kernel)
        candidate = tf.cast(candidate, tf.float32)
        both = repeated(rows) * candidate[:, None, :]
        z = repeated(history) + (candidate @ (q_part + difference))[:, None, :] + both @ product
        valid = repeated(valid)
        for activation, layer in zip(self.activations, self.hidden, strict=True):
            z = layer(activation(z, valid) if isinstance(activation, Dice) else activation(z))
        return normalised(z[..., 0], valid, self.normaliser, self.scale)


class DotAttention(keras.layers.Layer):
    """Weights of the rows of a history for a candidate: ``a_m = h_m . q``, without variables.

    Args:
        width: width d of the candidate and of the rows.
        normaliser, scale: as in :class:`TargetAttention`.
    """

    def __init__(self, width: int, normaliser: str = "softmax", scale: bool = True, **kwargs: Any):
        super().__init__(**kwargs)
        checked("normaliser", normaliser, NORMALISERS)
        self.normaliser, self.scale = normaliser, float(width) ** 0.5 if scale else 1.0
        self.built = True

    def call(
        self, rows: Tensor, candidate: Tensor, valid: Mask, *, repeated: Callable[[Any], Any],
        sides: Tensor | None = None,
    ) -> Tensor:
        """The weights, ``float32[n, M]``; arguments as for :class:`TargetAttention`."""
        logits = tf.reduce_sum(repeated(rows) * tf.cast(candidate, tf.float32)[:, None, :], axis=-1)
        return normalised(logits, repeated(valid), self.normaliser, self.scale)


def checked(option: str, value: str, known: Sequence[str]) -> None:
    """Raises a ValueError for a value that is not known."""
    if value not in known:
        raise InputError(f"{option} must be one of {', '.join(known)}, not {value!r}")


def _activation(activation: str, **options: Any) -> Any:
    if activation == "dice":
        return Dice(**options)
    if activation == "prelu":
        quarter = keras.initializers.Constant(0.25)
        return keras.layers.PReLU(alpha_initializer=quarter, shared_axes=[1], **options)
    return keras.layers.Activation(activation, **options)
