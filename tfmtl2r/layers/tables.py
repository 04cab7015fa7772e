"""Embedding tables."""

from __future__ import annotations

from tfmtl2r._backend import keras, tf
from tfmtl2r.types import Tensor


class Table(keras.layers.Embedding):
    """An embedding of which a step reads the rows that it needs, and nothing else.

    Keras reads the whole variable and gathers from that. Once an optimizer has written single rows, TensorFlow copies
    a variable for every such reading, so that a step would take time and memory in proportion to the table.
    """

    def call(self, inputs: Tensor) -> Tensor:
        """The rows of ids, in the compute type."""
        return tf.cast(tf.gather(self.embeddings.value, inputs), self.compute_dtype)
