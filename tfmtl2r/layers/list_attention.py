"""Self-attention over the real items of a list, and a transformer of such layers."""

from __future__ import annotations

import math
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import InputError
from tfmtl2r.layers import randomness
from tfmtl2r.layers.dense import dense
from tfmtl2r.layers.dropout import Dropout
from tfmtl2r.types import Count, Mask, Tensor

POSITIONS = ("none", "fixed", "learned")
HIDDEN = -1e9
"""Logit of a padded key: its weight underflows to exactly 0."""


class ListAttention(keras.layers.Layer):
    """Multi-head self-attention across the items of a list; input and output are ``[B, L, D]``.

    Each head computes ``softmax(Q K' / sqrt(D / H)) V W_o``. One product computes queries, keys and values. Padded
    items get no attention, and the outputs at their positions have no meaning.

    Args:
        num_heads: H, a divisor of D.
        dropout: rate on the attention weights.

    Raises:
        ValueError: if H does not divide D.

    Vaswani et al. 2017, https://arxiv.org/abs/1706.03762

    >>> x = tf.ones([1, 3, 4])
    >>> ListAttention(2)(x, tf.constant([[True, True, False]])).shape.as_list()
    [1, 3, 4]
    """

    def __init__(self, num_heads: int, dropout: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.dropout = dropout

    def build(self, input_shape: Any) -> None:
        """Creates a kernel for the output, and one for queries, keys and values, initialised like separate kernels."""
        width = int(input_shape[-1])
        if self.num_heads < 1 or width % self.num_heads:
            raise InputError(f"num_heads must divide the width {width}, got {self.num_heads}")
        limit = math.sqrt(3.0 / width)
        glorot = keras.initializers.RandomUniform(-limit, limit)
        dtype = self.dtype_policy
        self.inputs = dense(3 * width, kernel_initializer=glorot, dtype=dtype, name="query_key_value")
        self.outputs = dense(width, dtype=dtype, name="output")
        self.inputs.build(input_shape)
        self.outputs.build(input_shape)
        self.built = True

    def call(self, x: Tensor, valid: Mask, training: bool = False) -> Tensor:
        """Applies the attention.

        Args:
            x: ``[B, L, D]``.
            valid: ``bool[B, L]``, True for real items.
            training: whether dropout is active.
        """
        width, length = x.shape[-1], tf.shape(x)[1]
        known = tf.where(valid[:, :, None], x, tf.zeros([], x.dtype))  # 0 * NaN is NaN, so a weight of 0 is not enough
        heads = tf.reshape(self.inputs(known), [-1, length, 3, self.num_heads, width // self.num_heads])
        query, key, value = tf.unstack(tf.transpose(heads, [2, 0, 3, 1, 4]))  # each [B, H, L, D / H]
        scale = tf.cast((width // self.num_heads) ** -0.5, query.dtype)
        logits = tf.cast(tf.matmul(query * scale, key, transpose_b=True), tf.float32)
        logits += tf.where(valid, 0.0, HIDDEN)[:, None, None, :]
        weights = tf.cast(tf.nn.softmax(logits), value.dtype)
        if training and self.dropout:
            weights = tf.nn.experimental.stateless_dropout(weights, self.dropout, seed=randomness.next_seed())
        mixed = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])
        return self.outputs(tf.reshape(mixed, [-1, length, width]))


class TransformerBlock(keras.layers.Layer):
    """``h += drop(attention(norm(h)))``, then ``h += drop(dense(drop(relu(dense(norm(h))))))``.

    Args:
        num_heads: heads of the attention.
        feedforward: hidden width of the two dense layers.
        dropout: rate on attention weights, hidden units and the outputs of both sublayers.
    """

    def __init__(self, num_heads: int, feedforward: int, dropout: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.norms = [keras.layers.LayerNormalization(epsilon=1e-6, dtype=dtype) for _ in range(2)]
        self.attention = ListAttention(num_heads, dropout, dtype=dtype)
        self.hidden = dense(feedforward, "relu", dtype=dtype)
        self.dropout = Dropout(dropout, dtype=dtype)

    def build(self, input_shape: Any) -> None:
        """Creates the layers for a width."""
        self.back = dense(input_shape[-1], dtype=self.dtype_policy)
        for layer in (*self.norms, self.attention, self.hidden):
            layer.build(input_shape)
        self.back.build((*input_shape[:-1], self.hidden.units))
        self.built = True

    def call(self, x: Tensor, valid: Mask, training: bool = False) -> Tensor:
        """Applies one layer of the transformer."""
        attend, think = self.norms
        x += self.dropout(self.attention(attend(x), valid, training=training), training=training)
        inner = self.dropout(self.hidden(think(x)), training=training)
        return x + self.dropout(self.back(inner), training=training)


class ListTransformer(keras.layers.Layer):
    """A pre-norm transformer over the items of a list: input ``[B, L, F]``, output ``[B, L, units]``.

    The layers are ``h = x W + b``, the blocks, and a final normalisation. With a latent cross the result is
    ``h_0 * (1 + h)``, where ``h_0`` is the item before the first block.

    Args:
        units: width D of every layer.
        num_layers: number of blocks.
        num_heads: number of heads of each attention.
        feedforward: hidden width of the two dense layers after each attention.
        dropout: rate on attention weights, hidden units and the outputs of both sublayers.
        positions: encoding of an item's position in the input list: ``"none"`` (lists are sets), ``"fixed"``
            (sinusoids) or ``"learned"`` (a table).
        max_positions: number of positions in a learned table; later items share the last position.
        latent_cross: multiply the item's input vector by the transformer's output for it.

    Raises:
        ValueError: for an unknown kind of positions, no layer, or widths that do not fit.

    Pobrotyn et al. 2020, Context-Aware Learning to Rank with Self-Attention, https://arxiv.org/abs/2005.10084; latent
    cross: Qin et al. 2021, Are Neural Rankers still Outperformed by Gradient Boosted Decision Trees?,
    https://openreview.net/forum?id=Ut1vF_q_vC
    """

    def __init__(
        self,
        units: int = 128,
        num_layers: int = 4,
        num_heads: int = 4,
        feedforward: int = 512,
        dropout: float = 0.3,
        positions: str = "none",
        max_positions: int = 240,
        latent_cross: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if positions not in POSITIONS:
            raise InputError(f"positions must be one of {', '.join(POSITIONS)}, not {positions!r}")
        if num_layers < 1 or min(units, feedforward, max_positions) < 1:
            raise InputError("a list transformer needs at least one layer and positive widths, got "
                             f"num_layers={num_layers}, units={units}, feedforward={feedforward}, "
                             f"max_positions={max_positions}")
        self.units = units
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.feedforward = feedforward
        self.positions = positions
        self.max_positions = max_positions
        self.latent_cross = latent_cross
        self.rate = dropout

    def build(self, input_shape: Any) -> None:
        """Creates all layers."""
        dtype, shape = self.dtype_policy, (None, None, self.units)
        self.project = dense(self.units, dtype=dtype, name="project")
        self.project.build(input_shape)
        if self.positions == "learned":
            self.table = keras.layers.Embedding(self.max_positions, self.units, dtype=dtype, name="positions")
            self.table.build()
        self.blocks = [
            TransformerBlock(self.num_heads, self.feedforward, self.rate, dtype=dtype) for _ in range(self.num_layers)
        ]
        for block in self.blocks:
            block.build(shape)
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, dtype=dtype, name="norm")
        self.norm.build(shape)
        self.built = True

    def call(self, x: Tensor, valid: Mask, training: bool = False) -> Tensor:
        """Applies the transformer.

        Args:
            x: ``[B, L, F]``.
            valid: ``bool[B, L]``, True for real items.
            training: whether dropout is active.
        """
        alone = self.project(x)
        value = self._placed(alone)
        for block in self.blocks:
            value = block(value, valid, training=training)
        value = self.norm(value)
        return alone * (1 + value) if self.latent_cross else value

    def _placed(self, x: Tensor) -> Tensor:
        if self.positions == "none":
            return x
        length = tf.shape(x)[1]
        if self.positions == "learned":
            return x + self.table(tf.minimum(tf.range(length), self.max_positions - 1))
        return x * self.units**0.5 + tf.cast(_sinusoids(length, self.units), x.dtype)


def _sinusoids(length: Count, width: int) -> Tensor:
    """``float32[length, width]``: ``sin(p / 10000^(2i/D))`` in even columns, the cosine in odd columns."""
    place = tf.range(tf.cast(length, tf.float32))[:, None]
    even = tf.constant([i - i % 2 for i in range(width)], tf.float32)
    angle = place * tf.exp(-math.log(10_000.0) / width * even)
    return tf.where(tf.range(width) % 2 == 0, tf.sin(angle), tf.cos(angle))
