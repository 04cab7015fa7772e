"""Embedding tables."""

from __future__ import annotations

from tfmtl2r._backend import keras, tf
from tfmtl2r.types import Tensor


class Table(keras.layers.Embedding):
    """An embedding layer that reads only the rows of the given ids.

    Keras reads the whole variable and then gathers the rows. After an optimizer has written single rows, TensorFlow
    copies the variable at each such read, and a step would take time and memory in proportion to the table.
    """

    def call(self, inputs: Tensor) -> Tensor:
        """The rows of the ids, in the compute dtype."""
        return tf.cast(tf.gather(self.embeddings.value, inputs), self.compute_dtype)
