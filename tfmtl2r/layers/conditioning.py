"""Layers of a conditioned ranker, in which the preference modulates features and scores.

The networks of the preference run once per list. Their outputs are then repeated for the list's items.
"""

from __future__ import annotations

from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import Batch
from tfmtl2r.errors import InputError
from tfmtl2r.layers.dense import dense
from tfmtl2r.types import Tensor


class Modulated(keras.layers.Layer):
    """Feature-wise modulation of encoded items x: ``[x (1 + a(r)) + b(r), r]`` with a small network ``a, b`` of r.

    The network's last layer starts at 0, so that initially the preference r is only appended.

    Args:
        encoder: the layer that turns a batch into ``[n, F]``.
        num_tasks: T, the width of a preference.
        units: hidden width of the network.

    Perez et al. 2018, FiLM, https://arxiv.org/abs/1709.07871
    """

    def __init__(self, encoder: Any, num_tasks: int, units: int = 32, **kwargs: Any):
        super().__init__(**kwargs)
        self.autocast = False  # the encoder normalises features before it rounds them
        self.base = encoder
        self.width = encoder.width + num_tasks
        self.fields = (*encoder.fields, num_tasks)
        dtype = self.dtype_policy
        self.hidden = dense(units, "tanh", dtype=dtype, name="preference_hidden")
        self.film = dense(2 * encoder.width, kernel_initializer="zeros", dtype=dtype, name="film")
        self.hidden.build((None, num_tasks))
        self.film.build((None, units))
        self.built = True

    @property
    def embeddings(self) -> dict[str, Any]:
        """The encoder's layers of features, such as tables, by name of the feature."""
        return self.base.embeddings

    @property
    def inner(self) -> Any:
        """The encoder, under its name in files of format 1."""
        return self.base

    def call(self, batch: Batch, training: bool = False) -> Tensor:
        """Encoded and modulated items, ``[n, F + T]``."""
        x = self.base(batch=batch, training=training)
        preference = tf.cast(_preference(batch), x.dtype)
        per_list = tf.concat([self.film(self.hidden(preference)), preference], axis=-1)
        scale, shift, preference = tf.split(batch.repeated(per_list), [self.base.width] * 2 + [-1], axis=-1)
        return tf.concat([x * (1 + scale) + shift, preference], axis=-1)


class HeadModulation(keras.layers.Layer):
    """Modulates scores by the preference r: ``s_t exp(a_t . r + c_t) + b_t . r + d_t``, with weights for each task.

    All weights start at 0, so that initially the scores are unchanged.

    Args:
        num_tasks: T.
    """

    def __init__(self, num_tasks: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.autocast = False  # scores are not rounded
        self.factors = dense(2, stacked=num_tasks, dtype="float32", name="factors")
        self.factors.build((num_tasks, None, num_tasks))
        self.factors.kernel.assign(tf.zeros(self.factors.kernel.shape))
        self.built = True

    def call(self, scores: Tensor, batch: Batch) -> Tensor:
        """Turns scores ``[T, ..., n]`` into modulated scores of the same shape, float32."""
        per_list = self.factors(tf.cast(_preference(batch), tf.float32)[None])  # [T, B, 2]
        scale, shift = tf.unstack(batch.repeated(tf.transpose(per_list, [1, 0, 2])), num=2, axis=-1)  # [n, T] each
        shape = [scale.shape[1], *[1] * (scores.shape.rank - 2), -1]
        scale, shift = (tf.reshape(tf.transpose(part), shape) for part in (scale, shift))
        return tf.cast(scores, tf.float32) * tf.exp(scale) + shift


def _preference(batch: Batch) -> Tensor:
    if batch.preference is None:
        raise InputError("a conditioned architecture reads the preference of every list, but the batch contains none: "
                         "call the ranker instead, or pass Batch(..., preference=...)")
    return batch.preference
