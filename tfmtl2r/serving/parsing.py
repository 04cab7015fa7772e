"""Requests as ``tf.Example`` and ``ExampleListWithContext``: the graph parses them; warm-up and checks write them.

Every feature declares the value that replaces a missing value, as in :mod:`tfmtl2r.data.elwc`: NaN for a number (which
then becomes the mean), and the unknown value for a category.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r._keras2 import ranking
from tfmtl2r.batch import LIST_SIZE
from tfmtl2r.features.base import Feature
from tfmtl2r.schema import Schema
from tfmtl2r.types import Tensor

Request = dict[str, np.ndarray]


def parse_lists(serialized: Tensor, schema: Schema, context: Mapping[str, int]) -> dict[str, Any]:
    """Parses ``ExampleListWithContext`` messages to feature name -> raw values, with ``list_size``.

    Args:
        serialized: ``string[B]`` with B > 0 messages.
        schema: the features.
        context: name -> width of further numbers in the context; missing numbers are zeros.

    Returns:
        Values ``[B, L, ...]`` and ``[B, ...]``; L is the length of the longest list, at least 1.
    """
    there = tf.debugging.assert_positive(tf.size(serialized), "the input 'inputs' contains no ExampleListWithContext")
    with tf.control_dependencies([there]):
        serialized = tf.identity(serialized)
    extra = {name: tf.io.FixedLenFeature([width], tf.float32, [0.0] * width) for name, width in context.items()}
    parsed = ranking().data.parse_from_example_list(
        serialized,
        context_feature_spec=_specs(f for f in schema.features if f.context) | extra or None,
        example_feature_spec=_specs(f for f in schema.features if not f.context),
        size_feature_name=LIST_SIZE,
    )
    return {**_raw(schema, parsed), **{name: parsed[name] for name in extra}, LIST_SIZE: parsed[LIST_SIZE]}


def parse_items(serialized: Tensor, schema: Schema, lists: bool) -> dict[str, Any]:
    """Parses ``tf.Example`` messages to feature name -> raw values: N lists of one item, or N plain rows.

    Features of the context are in every example, because the server copies them there.

    Args:
        serialized: ``string[N]`` of examples.
        schema: the features.
        lists: whether the ranker ranks lists.
    """
    raw = _raw(schema, tf.io.parse_example(serialized, _specs(schema.features)))
    if not lists:
        return raw
    raw = {name: raw[name] if f.context else raw[name][:, None] for name, f in schema.inputs.items()}
    return {**raw, LIST_SIZE: tf.ones_like(serialized, tf.int32)}


def list_messages(request: Request, schema: Schema, context: Mapping[str, int]) -> list[Any]:
    """Writes each list of a raw request as an ``ExampleListWithContext``; NaN is left out.

    Args:
        request: feature name -> values, with ``list_size``.
        schema: the features.
        context: names of further numbers in the context.
    """
    from tensorflow_serving.apis import input_pb2

    messages = []
    per_list = [f for f in schema.features if f.context]
    for number, size in enumerate(request[LIST_SIZE].tolist()):
        message = input_pb2.ExampleListWithContext()
        _fill(message.context, per_list, request, (number,))
        for name in context:
            message.context.features.feature[name].float_list.value.extend(request[name][number].tolist())
        for item in range(size):
            _fill(message.examples.add(), [f for f in schema.features if not f.context], request, (number, item))
        messages.append(message)
    return messages


def item_messages(request: Request, schema: Schema) -> list[Any]:
    """Writes one ``tf.Example`` per item of a raw request with lists of one item or plain rows; NaN is left out."""
    lists = LIST_SIZE in request
    messages = []
    for number in range(len(request[schema.names[0]])):
        message = tf.train.Example()
        for feature in schema.features:
            _fill(message, [feature], request, (number, 0) if lists and not feature.context else (number,))
        messages.append(message)
    return messages


def one_item_lists(request: Request, schema: Schema) -> Request:
    """Makes a list of one item from every item of a request."""
    valid = np.arange(request[_first(schema)].shape[1]) < request[LIST_SIZE][:, None]
    lists, items = np.nonzero(valid)
    alone = {name: request[name][lists] if f.context else request[name][lists, items][:, None]
             for name, f in schema.inputs.items()}
    return {**alone, LIST_SIZE: np.ones(len(items), np.int32)}


def _first(schema: Schema) -> str:
    return next(f.name for f in schema.features if not f.context)


def _specs(features: Iterable[Feature]) -> dict[str, Any]:
    return {name: spec for feature in features for name, spec in feature.parsing().items()}


def _raw(schema: Schema, parsed: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for feature in schema.features for name, value in feature.parsed(parsed).items()}


def _fill(message: Any, features: Iterable[Feature], request: Request, place: tuple[int, ...]) -> None:
    for feature in features:
        feature.fill(message, {name: request[name][place] for name in feature.raw})
