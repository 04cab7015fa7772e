"""From raw features to one vector per item: :class:`Lookup` turns values into ids, :class:`Encoder` ids into vectors.

There are two layers because strings must not enter a training step: Keras 3's ``fit`` fails on strings under a
distribution strategy, and a GPU has no string kernels. The input pipeline runs the lookup in ``tf.data``, and the
exported graph runs it before the model. Both use the same layer.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import LIST_SIZE, Batch
from tfmtl2r.errors import InputError, InputKeyError
from tfmtl2r.layers.interactions import Interaction
from tfmtl2r.layers.list_attention import ListTransformer
from tfmtl2r.schema import Schema
from tfmtl2r.types import Features, Tensor


class Lookup(keras.layers.Layer):
    """Converts raw inputs of features to inputs of the model: categories become ids, numbers become float32.

    Args:
        schema: a fitted schema.

    >>> from tfmtl2r import Category
    >>> lookup = Lookup(Schema([Category("brand", vocabulary=("a", "b"))]))
    >>> lookup({"brand": tf.constant(["b", "?"])})["brand"].numpy().tolist()
    [2, 0]
    """

    def __init__(self, schema: Schema, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        self.schema = schema
        self._tables = {name: table for f in schema.features for name, table in f.lookups().items()
                        if schema.inputs[name] is f}
        self._tables |= {f.name: self._tables[f.shares] for f in schema.features if f.shares}

    def call(self, raw: dict[str, Any]) -> Features:
        """Looks up every input of the schema; ``list_size`` stays unchanged.

        Raises:
            KeyError: for a missing input.
        """
        features = {}
        for name, feature in self.schema.inputs.items():
            if name not in raw:
                raise InputKeyError(f"feature {name!r} is missing; got {sorted(raw)}")
            features[name] = self.input(feature, name, raw[name])
        if LIST_SIZE in raw:
            features[LIST_SIZE] = tf.cast(raw[LIST_SIZE], tf.int32)
        return features

    def input(self, feature: Any, name: str, value: Any) -> Tensor:
        """Looks up one input of a feature."""
        value = self._tables[name](value) if name in self._tables else value
        return tf.cast(value, feature.looked_up[name].dtype)


class FeatureLayers(keras.layers.Layer):
    """The layers of features as attributes, so that a file stores their weights under the names of the features.

    Keras saves a layer in an attribute under the attribute's name, but a layer in a dict under its position.

    Args:
        schema: a fitted schema.

    Attributes:
        by_name: name of the feature -> layer.
    """

    def __init__(self, schema: Schema, **kwargs: Any):
        super().__init__(**kwargs)
        made: dict[str, Any] = {}
        for feature in sorted(schema.features, key=lambda f: bool(f.shares)):
            layer = feature.layer(self.dtype_policy, made)
            if layer is not None:
                made[feature.name] = layer
                setattr(self, f"feature_{feature.key}", layer)
        self.by_name = types.MappingProxyType(made)  # Keras would save the layers of a dict, by position
        self.built = True


class Encoder(keras.layers.Layer):
    """Encodes looked-up features to one vector per item, the concatenation of the encoded features.

    The result has one row per real item of a batch, ``[n, F]``. Features of a list are encoded once per list and then
    repeated for its items. A missing (NaN) or infinite number becomes the mean.

    Args:
        schema: a fitted schema.
        interaction: how features are multiplied with each other, in the form of
            :func:`tfmtl2r.layers.interactions.described`; None for no interaction.

    Attributes:
        fields: width of each feature in the result, embedded features last.
        width: F, the sum of these widths.
    """

    def __init__(self, schema: Schema, interaction: dict[str, Any] | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.autocast = False  # numbers must not be rounded to the compute precision before they are normalised
        self.schema = schema
        self.by_feature = FeatureLayers(schema, dtype=self.dtype_policy, name="features")
        self.order = tuple(sorted(schema.features, key=lambda f: f.embedded))
        self.fields = tuple(f.width for f in self.order)
        self.interaction: Any = None
        if interaction is not None:
            embedded = sum(f.embedded for f in self.order)
            self.interaction = Interaction(
                interaction, self.fields, embedded, dtype=self.dtype_policy, name="interaction"
            )
            self.fields = self.interaction.fields
        self.width = sum(self.fields)
        self.built = True

    @property
    def embeddings(self) -> dict[str, Any]:
        """The layers of features, such as embedding tables, by name of the feature.

        Files of format 1 store the tables by position in this dict. Keras visits attributes in alphabetical order and
        saves a layer at its first occurrence, in ``by_feature``. When Keras loads a file, it also looks here for layers
        that it has not found there.
        """
        return dict(self.by_feature.by_name)

    def call(self, batch: Batch, training: bool = False) -> Tensor:
        """Encodes the real items of a batch (or its plain rows), ``[n, F]``."""
        pieces: dict[str, Any] = {}
        for group in self._groups():
            per_list = group[0].context
            tensors = self._rows(group, batch)
            encoded = [tf.cast(value, self.compute_dtype)
                       for value in type(group[0]).encode_all(group, tensors, self.by_feature.by_name, batch, training)]
            pieces |= self._in_runs(group, [batch.repeated(value) for value in encoded] if per_list else encoded)
        for feature in self.order:
            if feature.target:
                pieces[feature.name] = tf.cast(self._compared(feature, batch), self.compute_dtype)
        encoded = tf.concat([pieces[f.name] for f in self.order if f.name in pieces], axis=-1)
        return encoded if self.interaction is None else self.interaction(encoded)

    def _rows(self, features: list[Any], batch: Batch) -> dict[str, Any]:
        """Looked-up inputs by name: a row per list for features of the list, otherwise a row per real item."""
        values = {name: (f, checked(f, name, batch.features[name], batch.is_rows))
                  for f in features for name in f.looked_up}
        return {name: value if f.context else batch.packed(value) for name, (f, value) in values.items()}

    def _compared(self, feature: Any, batch: Batch) -> Tensor:
        """Encodes a feature in comparison with its target, for every real item."""
        layers = self.by_feature.by_name
        goal = next(f for f in self.schema.features if f.name == feature.target)
        target = goal.encode(self._rows([goal], batch), layers)
        target = batch.repeated(target) if goal.context else target
        repeated = batch.repeated if feature.context else lambda value: value
        return feature.compare(self._rows([feature], batch), target, layers, repeated)

    def _groups(self) -> list[list[Any]]:
        """Groups of features that are encoded together: of one kind, and all per list or all per item."""
        groups: dict[Any, list[Any]] = {}
        for feature in (f for f in self.order if not f.target):
            groups.setdefault((type(feature), feature.context), []).append(feature)
        return list(groups.values())

    def _in_runs(self, group: list[Any], encoded: list[Any]) -> dict[str, Any]:
        """Encoded features by name. Adjacent features in one tensor stay together, under the first one's name."""
        if len(encoded) == len(group):
            return {f.name: value for f, value in zip(group, encoded, strict=True)}
        places = {f.name: place for place, f in enumerate(self.order)}
        runs: list[list[Any]] = []
        for feature in group:
            if runs and places[feature.name] == places[runs[-1][-1].name] + 1:
                runs[-1].append(feature)
            else:
                runs.append([feature])
        widths = [sum(f.width for f in run) for run in runs]
        parts = encoded if len(runs) == 1 else tf.split(encoded[0], widths, axis=-1)
        return {run[0].name: part for run, part in zip(runs, parts, strict=True)}


def checked(feature: Any, name: str, value: Any, is_rows: bool) -> Any:
    """An input of a feature as a tensor.

    Args:
        feature: a feature of the schema.
        name: name of the input.
        value: the looked-up values of a batch.
        is_rows: whether the batch has plain rows, not lists.

    Raises:
        ValueError: for a wrong number of axes.
    """
    value, shape = tf.convert_to_tensor(value), feature.looked_up[name].shape
    rank = (1 if feature.context or is_rows else 2) + len(shape)
    if value.shape.rank != rank:
        raise InputError(f"feature {name!r}: expected {rank} axes ({'row' if is_rows else 'list'} data, shape per item "
                         f"{shape}), got a tensor of shape {tuple(value.shape)}")
    return value


def per_item(feature: Any, batch: Batch, compute: Callable[[dict[str, Any]], Any]) -> Tensor:
    """Applies a function to the inputs of a feature, and returns its result for every real item.

    For a feature of the list, the function runs once per list.

    Args:
        feature: a feature of the schema.
        batch: a batch that contains the feature.
        compute: a function from looked-up inputs by name, ``[rows, ...]``, to a tensor ``[rows, ...]``, or to True for
            all rows.
    """
    spread = batch.packed if not feature.context else lambda value: value
    found = compute({name: spread(batch.features[name]) for name in feature.looked_up})
    return batch.repeated(found) if feature.context and found is not True else found


class ListEncoder(Encoder):
    """Encodes items one by one, then with a transformer in which the items of a list attend to each other.

    Args:
        schema: a fitted schema.
        transformer: options of :class:`tfmtl2r.layers.list_attention.ListTransformer`.
        interaction: interaction of features before the transformer, as in :class:`Encoder`.
    """

    def __init__(
        self, schema: Schema, transformer: dict[str, Any], interaction: dict[str, Any] | None = None, **kwargs: Any
    ):
        super().__init__(schema, interaction, **kwargs)
        self.transformer = ListTransformer(**transformer, dtype=self.dtype_policy, name="transformer")
        self.transformer.build((None, None, self.width))
        self.width = self.transformer.units
        self.fields = (self.width,)

    def call(self, batch: Batch, training: bool = False) -> Tensor:
        """Encodes the real items of a batch, each with its list, ``[n, units]``.

        Raises:
            ValueError: for plain rows.
        """
        if batch.is_rows:
            raise InputError("a list encoder needs lists (a batch with list_size): on plain rows leave out "
                             "encoder='transformer'")
        alone = batch.padded(super().call(batch, training))
        return batch.packed(self.transformer(alone, batch.valid, training=training))
