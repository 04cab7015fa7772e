"""GKD: every tower reads the hidden states of all towers."""

from __future__ import annotations

from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import InputError
from tfmtl2r.layers.dense import dense
from tfmtl2r.layers.dropout import Dropout
from tfmtl2r.layers.mlp import MLP
from tfmtl2r.types import Tensor


class GlobalKnowledgeDistillation(keras.layers.Layer):
    """A second score per task from the hidden states of all towers, ``q_t = (a_t * z_t) v_t``.

    The input is ``h`` ``[T, n, L]``, the output ``q`` ``float32[T, n, 1]``. ``z_t = dropout(relu(g W_t + b_t))`` where
    ``g`` is the concatenation of ``h_1 .. h_T`` under a stop-gradient. The gate
    ``a_t = sigmoid(dense(relu(dense(... [h_t, z_t]))))`` has ``gate_layers`` layers of width L. There is no additional
    loss: a task's loss reaches its own tower through the gate, and no other tower. Every task has its own weights. The
    layers of all tasks are computed as one batched product each.

    Args:
        gate_layers: number of layers of the gate; the last layer has a sigmoid, the others a ReLU.
        dropout: rate on ``z``; the paper trains with 0.5.
        residual: True for ``q_t = (h_t + a_t * z_t) v_t``, as in an earlier version of the authors' code.

    Raises:
        ValueError: for less than one layer.

    Source: Ren et al. 2023, Deep Mutual Learning across Task Towers for Effective Multi-Task Recommender Learning,
    https://arxiv.org/abs/2309.10357.

    >>> layer = GlobalKnowledgeDistillation()
    >>> layer(tf.ones([3, 5, 4])).shape.as_list()
    [3, 5, 1]
    """

    def __init__(self, gate_layers: int = 1, dropout: float = 0.0, residual: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        if gate_layers < 1:
            raise InputError(f"the gate of GKD needs at least one layer, not {gate_layers}")
        self.gate_layers = gate_layers
        self.residual = residual
        self.dropout = Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        """Creates the weights of all tasks."""
        num, width = int(input_shape[0]), int(input_shape[-1])
        self.num, self.width = num, width
        dtype = self.dtype_policy
        self.knowledge = dense(width, "relu", stacked=num, dtype=dtype, name="knowledge")
        self.gate_hidden = MLP((width,) * (self.gate_layers - 1), stacked=num, dtype=dtype, name="gate_hidden")
        self.gate = dense(width, "sigmoid", stacked=num, dtype=dtype, name="gate")
        self.knowledge.build((1, None, num * width))
        self.gate_hidden.build((num, None, 2 * width))
        self.gate.build(self.gate_hidden.compute_output_shape((num, None, 2 * width)))
        # Initialised like a Keras Dense of this size. The towers' scorers already have a bias.
        limit = (6.0 / (width + 1)) ** 0.5
        self.readout = self.add_weight(  # float32, as the towers' scorers are
            name="readout", shape=(num, width, 1), initializer=keras.initializers.RandomUniform(-limit, limit),
            dtype="float32", autocast=False,
        )
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """The terms that GKD adds to the towers' scores."""
        known = tf.reshape(tf.transpose(tf.stop_gradient(inputs), [1, 0, 2]), [1, -1, self.num * self.width])
        knowledge = self.dropout(self.knowledge(known), training=training)
        gate = self.gate(self.gate_hidden(tf.concat([inputs, knowledge], axis=-1)))
        learned = gate * knowledge + inputs if self.residual else gate * knowledge
        return tf.matmul(tf.cast(learned, tf.float32), self.readout)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """``[T, n, 1]``."""
        return (*input_shape[:-1], 1)
