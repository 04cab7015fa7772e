"""A small causal transformer over a history (SASRec)."""

from __future__ import annotations

from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import InputError
from tfmtl2r.layers.dense import dense
from tfmtl2r.layers.target_attention import checked, normalised
from tfmtl2r.types import Mask, Tensor


class HistoryTransformer(keras.layers.Layer):
    """States of a history, each from its row and the rows before it; the newest row is the last one.

    The input is ``sqrt(d) h_m`` plus a learnt vector of the distance to the newest row, so that neither cutting nor
    padding a history changes its states. A block is causal self-attention and a layer of d ReLU units, each with a
    residual. After the last block comes a layer normalisation. Padded places are 0.

    Args:
        width: width d of the rows.
        sides: width of further values that describe the rows; a linear layer adds them to the rows.
        length: the largest number of rows.
        blocks: number of blocks.
        heads: number of attention heads, a divisor of d.
        residual: ``"raw"`` adds the input of a part to its output; ``"normalised"`` adds the normalised input, as in
            the authors' code.
        dropout: rate after the input, on attention weights and in the ReLU layers.

    Kang and McAuley, Self-attentive sequential recommendation, ICDM 2018, https://arxiv.org/abs/1808.09781.
    """

    def __init__(
        self, width: int, length: int, sides: int = 0, blocks: int = 1, heads: int = 1, residual: str = "raw",
        dropout: float = 0.0, **kwargs: Any,
    ):
        super().__init__(**kwargs)
        checked("residual", residual, ("raw", "normalised"))
        if width % heads:
            raise InputError(f"the width {width} of the embedding must be a multiple of the number of heads, {heads}")
        self.width, self.length = width, length
        self.positions = self.add_weight(name="positions", shape=(length, width),
                                         initializer=keras.initializers.RandomNormal(stddev=0.02))
        self.sides = dense(width, use_bias=False, dtype=self.dtype_policy, name="sides") if sides else None
        if self.sides is not None:
            self.sides.build((None, None, sides))
        self.drop = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="drop")
        self.blocks = [Block(width, heads, residual, dropout, dtype=self.dtype_policy, name=f"block_{number}")
                       for number in range(blocks)]
        self.normal = _layer_norm(width, "normal", self.dtype_policy)
        self.built = True

    def call(self, rows: Tensor, valid: Mask, sides: Tensor | None = None) -> Tensor:
        """The states, ``float32[n, M, d]``.

        Args:
            rows: ``float32[n, M, d]``, 0 at padded places.
            valid: ``bool[n, M]``, True at real places, which are adjacent.
            sides: ``float32[n, M, S]``; None without further values.
        """
        real = tf.cast(valid, tf.float32)[..., None]
        places = tf.range(tf.shape(rows)[1])[None, :]
        newest = tf.reduce_max(tf.where(valid, places, -1), axis=1, keepdims=True)
        distance = tf.clip_by_value(newest - places, 0, self.length - 1)
        x = rows * self.width**0.5 + tf.gather(tf.convert_to_tensor(self.positions), distance)
        if self.sides is not None:
            x += self.sides(sides)
        x = self.drop(x) * real
        for block in self.blocks:
            x = block(x, valid)
        return self.normal(x) * real


class Block(keras.layers.Layer):
    """One block; arguments as in :class:`HistoryTransformer`."""

    def __init__(self, width: int, heads: int, residual: str, dropout: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.width, self.heads, self.raw = width, heads, residual == "raw"
        policy = self.dtype_policy
        self.before, self.between = _layer_norm(width, "before", policy), _layer_norm(width, "between", policy)
        self.query, self.key, self.value, self.up, self.down = (
            dense(width, activation="relu" if name == "up" else None, dtype=policy, name=name)
            for name in ("query", "key", "value", "up", "down"))
        for layer in (self.query, self.key, self.value, self.up, self.down):
            layer.build((None, None, width))
        self.drop = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="drop")
        self.built = True

    def call(self, x: Tensor, valid: Mask) -> Tensor:
        """Rows and valid as in :class:`HistoryTransformer`."""
        normal = self.before(x)
        y = self._attended(normal, x, valid) + (x if self.raw else normal)
        middle = self.between(y)
        z = self.drop(self.down(self.drop(self.up(middle)))) + (y if self.raw else middle)
        return z * tf.cast(valid, tf.float32)[..., None]

    def _attended(self, queries: Tensor, x: Tensor, valid: Mask) -> Tensor:
        length, depth = tf.shape(x)[1], self.width // self.heads

        def heads(values: Tensor) -> Tensor:
            return tf.transpose(tf.reshape(values, [-1, length, self.heads, depth]), [0, 2, 1, 3])

        query, key, value = heads(self.query(queries)), heads(self.key(x)), heads(self.value(x))
        places = tf.range(length)
        seen = (places[None, :] <= places[:, None])[None, None] & valid[:, None, None, :]
        weights = normalised(tf.matmul(query, key, transpose_b=True), seen, "softmax", depth**0.5)
        states = tf.transpose(tf.matmul(self.drop(weights), value), [0, 2, 1, 3])
        return tf.reshape(states, [-1, length, self.width])


def _layer_norm(width: int, name: str, policy: Any) -> Any:
    layer = keras.layers.LayerNormalization(epsilon=1e-8, dtype=policy, name=name)
    layer.build((None, None, width))
    return layer
