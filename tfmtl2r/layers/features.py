"""From raw features to one vector per item: :class:`Lookup` turns values into ids, :class:`Encoder` the rest.

They are two layers because strings must not enter a training step (Keras 3's ``fit`` fails on them under a
distribution strategy, and a GPU has no string kernels): the pipeline runs the lookup in ``tf.data``, the exported
graph runs it in front of the model, and both use this one layer.
"""

from __future__ import annotations

from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import LIST_SIZE
from tfmtl2r.errors import InputError, InputKeyError
from tfmtl2r.layers.interactions import Interaction
from tfmtl2r.layers.items import pack
from tfmtl2r.layers.list_attention import ListTransformer
from tfmtl2r.schema import LOG_OFFSET, Category, Dense, Schema


class Lookup(keras.layers.Layer):
    """Raw features to what the model reads: categories become ids, numbers become float32.

    Args:
        schema: a fitted schema.

    >>> lookup = Lookup(Schema([Category("brand", vocabulary=("a", "b"))]))
    >>> lookup({"brand": tf.constant(["b", "?"])})["brand"].numpy().tolist()
    [2, 0]
    """

    def __init__(self, schema: Schema, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        self.schema = schema
        self._tables = {feature.name: _table(feature) for feature in schema.categories}

    def call(self, raw: dict[str, Any]) -> dict[str, Any]:
        """Looks up every feature of the schema; ``list_size`` passes through.

        Raises:
            KeyError: for a missing feature.
        """
        features = {}
        for feature in self.schema.features:
            if feature.name not in raw:
                raise InputKeyError(f"feature {feature.name!r} is missing; got {sorted(raw)}")
            value = raw[feature.name]
            if feature.name in self._tables:
                features[feature.name] = tf.cast(self._tables[feature.name](value), tf.int32)
            else:
                features[feature.name] = tf.cast(value, tf.float32)
        if LIST_SIZE in raw:
            features[LIST_SIZE] = tf.cast(raw[LIST_SIZE], tf.int32)
        return features


class Table(keras.layers.Embedding):
    """An embedding of which a step reads the rows that it needs, and nothing else.

    Keras reads the whole variable and gathers from that. Once an optimizer has written single rows, TensorFlow copies
    a variable for every such reading, so that a step would take time and memory in proportion to the table.
    """

    def call(self, inputs: Any) -> Any:
        """The rows of ids, in the compute type."""
        return tf.cast(tf.gather(self.embeddings.value, inputs), self.compute_dtype)


class Encoder(keras.layers.Layer):
    """Looked-up features to one vector per item: dense ones normalised, categories embedded, all concatenated.

    Shapes: per item ``[B, L]`` or ``[B, L, D]`` and per list ``[B]`` or ``[B, D]`` in, ``[B, L, F]`` out; plain rows
    ``[B]`` or ``[B, D]`` in, ``[B, F]`` out. A missing (NaN) or infinite number becomes the mean.

    Args:
        schema: a fitted schema.
        interaction: how features are multiplied with each other, as
            :func:`tfmtl2r.layers.interactions.described` says it; None for not at all.

    Attributes:
        fields: width of each feature in what comes out, dense ones first.
        width: F, their sum.
    """

    def __init__(self, schema: Schema, interaction: dict[str, Any] | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.autocast = False  # numbers must not be rounded to the compute precision before they are normalised
        self.schema = schema
        self.embeddings = {
            feature.name: Table(
                feature.size, feature.width, dtype=self.dtype_policy, name=f"embedding_{feature.name}"
            )
            for feature in schema.categories
        }
        self.fields = (*(f.width for f in schema.dense), *(f.width for f in schema.categories))
        self.interaction: Any = None
        if interaction is not None:
            self.interaction = Interaction(
                interaction, self.fields, len(schema.categories), dtype=self.dtype_policy, name="interaction"
            )
            self.fields = self.interaction.fields
        self.width = sum(self.fields)
        for table in self.embeddings.values():
            table.build()
        self.built = True

    def call(self, features: dict[str, Any], valid: Any = None) -> Any:
        """Encodes a batch.

        Args:
            features: dict of looked-up features.
            valid: ``bool[B, L]``, or None for plain rows.
        """
        dense = [self._column(f, _numbers(f, features[f.name], valid is not None), valid) for f in self.schema.dense]
        columns = [tf.cast(self._normalise(tf.concat(dense, axis=-1)), self.compute_dtype)] if dense else []
        for f in self.schema.categories:
            columns.append(self._column(f, self.embeddings[f.name](features[f.name]), valid))
        encoded = tf.concat(columns, axis=-1)
        return encoded if self.interaction is None else self.interaction(encoded)

    def _column(self, feature: Dense | Category, value: Any, valid: Any) -> Any:
        """Gives a feature of the list to each of its items: ``[B, width]`` becomes ``[B, L, width]``."""
        if feature.context and valid is not None:
            return tf.repeat(value[:, None, :], tf.shape(valid)[1], axis=1)
        return value

    def _normalise(self, value: Any) -> Any:
        """All dense columns at once: bounds, transform, (x - mean) / std in float32, clip.

        Missing ones land on the mean.
        """
        known = tf.math.is_finite(value)
        value = tf.where(known, value, 0.0)  # before the transform: a NaN under tf.where would still reach gradients
        columns = [f for f in self.schema.dense for _ in range(f.width)]
        if any(f.low or f.high for f in self.schema.dense):
            low = [v for f in self.schema.dense for v in f.low or (float("-inf"),) * f.width]
            high = [v for f in self.schema.dense for v in f.high or (float("inf"),) * f.width]
            value = tf.clip_by_value(value, tf.constant(low, tf.float32), tf.constant(high, tf.float32))
        transforms = [t for f in self.schema.dense for t in f.transforms]
        raw = value
        for name, transform in _TRANSFORMS.items():
            if name in transforms:
                value = tf.where([t == name for t in transforms], transform(raw), value)
        mean = [m for f in self.schema.dense for m in f.mean or (0.0,) * f.width]
        variance = [v for f in self.schema.dense for v in f.variance or (1.0,) * f.width]
        # A constant feature has variance 0: it becomes 0 and says nothing, which is what it knows.
        scale = [v**-0.5 if v > 1e-12 else 0.0 for v in variance]
        clip = tf.constant([f.clip for f in columns], tf.float32)
        value = (value - tf.constant(mean, tf.float32)) * tf.constant(scale, tf.float32)
        return tf.where(known, tf.clip_by_value(value, -clip, clip), 0.0)


class ListEncoder(Encoder):
    """Items encoded one by one, then by a transformer in which the items of a list see each other.

    Args:
        schema: a fitted schema.
        transformer: options of :class:`tfmtl2r.layers.list_attention.ListTransformer`.
        interaction: before the transformer, as in :class:`Encoder`.
    """

    def __init__(
        self, schema: Schema, transformer: dict[str, Any], interaction: dict[str, Any] | None = None, **kwargs: Any
    ):
        super().__init__(schema, interaction, **kwargs)
        self.transformer = ListTransformer(**transformer, dtype=self.dtype_policy, name="transformer")
        self.transformer.build((None, None, self.width))
        self.width = self.transformer.units
        self.fields = (self.width,)

    def items(self, features: dict[str, Any], valid: Any, training: bool = False) -> Any:
        """The real items of all lists, one row each, ``[n, units]``; each has seen its list.

        Args:
            features: dict of looked-up features.
            valid: ``bool[B, L]``, n of them True.
            training: whether dropout is on.

        Raises:
            ValueError: for plain rows.
        """
        if valid is None:
            raise InputError("a list encoder needs lists (a batch with list_size): on plain rows leave out "
                             "encoder='transformer'")
        seen = self.transformer(self(features, valid=valid), valid, training=training)
        return pack({"items": seen}, valid)["items"]


_TRANSFORMS = {
    "log1p": lambda value: tf.math.log1p(tf.maximum(value, 0.0)),
    "signed_log1p": lambda value: tf.sign(value) * tf.math.log1p(tf.abs(value)),
    "log": lambda value: tf.math.log(tf.maximum(value, 0.0) + LOG_OFFSET),
    "log_negative": lambda value: tf.math.log(tf.maximum(-value, 0.0) + LOG_OFFSET),
}


def _table(feature: Category) -> Any:
    """The Keras lookup of one category; id 0 is the unknown value (hash buckets have none)."""
    if feature.buckets is not None:
        return keras.layers.Hashing(feature.buckets, name=f"lookup_{feature.name}")
    if feature.vocabulary is None:
        raise InputError(f"feature {feature.name!r} has no vocabulary yet: fit the schema on the training split")
    kind = keras.layers.StringLookup if feature.dtype == "string" else keras.layers.IntegerLookup
    return kind(vocabulary=list(feature.vocabulary), name=f"lookup_{feature.name}")


def _numbers(feature: Dense, value: Any, lists: bool) -> Any:
    """A dense feature as ``float32[..., width]``, its rank checked."""
    value = tf.cast(value, tf.float32)
    rank = (1 if feature.context or not lists else 2) + len(feature.shape)
    if value.shape.rank != rank:
        raise InputError(
            f"feature {feature.name!r}: expected {rank} axes ({'list' if lists else 'row'} data, shape per item "
            f"{feature.shape}), got a tensor of shape {tuple(value.shape)}"
        )
    return value if feature.shape else value[..., None]
