"""Encoded features for tasks that do not share embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import Batch
from tfmtl2r.layers.features import Encoder
from tfmtl2r.names import safe_name
from tfmtl2r.schema import Schema
from tfmtl2r.types import Tensor


class TaskEncoders(keras.layers.Layer):
    """One :class:`tfmtl2r.layers.features.Encoder` per task: a batch to ``[T, n, F]``.

    If no feature has trainable variables, a single encoder serves all tasks: ``[1, n, F]``.

    Args:
        tasks: names of the T tasks.
        schema: a fitted schema.
        interaction: as in :class:`tfmtl2r.layers.features.Encoder`.
    """

    def __init__(
        self, tasks: Sequence[str], schema: Schema, interaction: dict[str, Any] | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.autocast = False  # the encoders normalise features before they round them
        self.encoders = []
        for task in tasks:
            key = safe_name(task)
            with keras.name_scope(key):  # gives tables of different tasks different paths
                self.encoders.append(Encoder(schema, interaction, dtype=self.dtype_policy, name=f"encoder_{key}"))
            if not self.encoders[0].trainable_variables:
                break
        self.width = self.encoders[0].width
        self.fields = self.encoders[0].fields
        self.built = True

    def call(self, batch: Batch, training: bool = False) -> Tensor:
        """Encodes the real items of a batch once per task."""
        return tf.stack([encoder(batch=batch, training=training) for encoder in self.encoders])

    def variables_of(self, task: int) -> list[Any]:
        """A task's own embedding tables."""
        return self.encoders[task].trainable_variables if self.trainable_variables else []
