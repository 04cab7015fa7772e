"""A lookup of values by their hashes, so that no file contains the values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.types import Tensor

_BUCKETS = 2**62  # so many that different values hardly ever have the same hash


class HashedLookup(keras.layers.Layer):
    """Maps values to ids by a vocabulary of hashes; id 0 is the unknown value.

    Args:
        vocabulary: hashes of the known values, as :func:`hashes` returns them.

    >>> found = hashes(tf.constant(["a", "b"])).numpy().tolist()
    >>> HashedLookup(found)(tf.constant(["b", "?", ""])).numpy().tolist()
    [2, 0, 0]
    """

    def __init__(self, vocabulary: Sequence[int], **kwargs: Any):
        super().__init__(dtype="int64", **kwargs)
        self.rows = keras.layers.IntegerLookup(vocabulary=list(vocabulary), name="rows")

    def call(self, values: Tensor) -> Tensor:
        """``values`` are text or integers."""
        return self.rows(hashes(values))


def hashes(values: Any) -> Tensor:
    """The hash of each value (FarmHash of its text), ``int64`` from 0.

    A hash hides values from readers of a file. Whoever has a list of values can compute their hashes, too.
    """
    values = tf.convert_to_tensor(values)
    texts = values if values.dtype == tf.string else tf.strings.as_string(values)
    return tf.strings.to_hash_bucket_fast(texts, _BUCKETS)
