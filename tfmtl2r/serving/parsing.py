"""Requests as ``tf.Example`` and ``ExampleListWithContext``: read inside the graph, written for warm-up and checks.

A feature that is missing is NaN if it is a number (and then the mean), the unknown value if it is a category: the same
as in :mod:`tfmtl2r.data.elwc`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r._keras2 import ranking
from tfmtl2r.batch import LIST_SIZE
from tfmtl2r.data.columns import UNKNOWN_INTEGER
from tfmtl2r.schema import Category, Dense, Schema

Request = dict[str, np.ndarray]


def parse_lists(serialized: Any, schema: Schema, context: Mapping[str, int]) -> dict[str, Any]:
    """Raw features by name from ``string[B]`` of ``ExampleListWithContext``, with ``list_size``.

    Args:
        serialized: B > 0 messages.
        schema: the features.
        context: further numbers of the context and their widths; zeros where missing.

    Returns:
        ``[B, L, ...]`` and ``[B, ...]``; L is that of the longest list, at least 1.
    """
    there = tf.debugging.assert_positive(tf.size(serialized), "the input 'inputs' holds no ExampleListWithContext")
    with tf.control_dependencies([there]):
        serialized = tf.identity(serialized)
    extra = {name: tf.io.FixedLenFeature([width], tf.float32, [0.0] * width) for name, width in context.items()}
    parsed = ranking().data.parse_from_example_list(
        serialized,
        context_feature_spec={f.name: _spec(f) for f in schema.features if f.context} | extra or None,
        example_feature_spec={f.name: _spec(f) for f in schema.features if not f.context},
        size_feature_name=LIST_SIZE,
    )
    raw = {f.name: _squeezed(f, parsed[f.name]) for f in schema.features}
    return {**raw, **{name: parsed[name] for name in extra}, LIST_SIZE: parsed[LIST_SIZE]}


def parse_items(serialized: Any, schema: Schema, lists: bool) -> dict[str, Any]:
    """Raw features by name from ``string[N]`` of ``tf.Example``: N lists of one item, or N plain rows.

    Features of the context stand in every example: the server puts them there.

    Args:
        serialized: the examples.
        schema: the features.
        lists: whether the ranker ranks lists.
    """
    parsed = tf.io.parse_example(serialized, {f.name: _spec(f) for f in schema.features})
    raw = {f.name: _squeezed(f, parsed[f.name]) for f in schema.features}
    if not lists:
        return raw
    raw = {f.name: raw[f.name] if f.context else raw[f.name][:, None] for f in schema.features}
    return {**raw, LIST_SIZE: tf.ones_like(serialized, tf.int32)}


def list_messages(request: Request, schema: Schema, context: Mapping[str, int]) -> list[Any]:
    """The ``ExampleListWithContext`` of each list of a raw request; a NaN is left out.

    Args:
        request: by feature name, with ``list_size``.
        schema: the features.
        context: names of further numbers of the context.
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
    """One ``tf.Example`` per item of a raw request of lists of one item, or of plain rows; a NaN is left out."""
    lists = LIST_SIZE in request
    messages = []
    for number in range(len(request[schema.names[0]])):
        message = tf.train.Example()
        for feature in schema.features:
            _fill(message, [feature], request, (number, 0) if lists and not feature.context else (number,))
        messages.append(message)
    return messages


def one_item_lists(request: Request, schema: Schema) -> Request:
    """Every item of a request of lists as a list of its own."""
    valid = np.arange(request[_first(schema)].shape[1]) < request[LIST_SIZE][:, None]
    lists, items = np.nonzero(valid)
    alone = {f.name: request[f.name][lists] if f.context else request[f.name][lists, items][:, None]
             for f in schema.features}
    return {**alone, LIST_SIZE: np.ones(len(items), np.int32)}


def _first(schema: Schema) -> str:
    return next(f.name for f in schema.features if not f.context)


def _spec(feature: Dense | Category) -> Any:
    # One number is parsed as a vector of one: TF-Ranking wants a known width.
    if isinstance(feature, Dense):
        return tf.io.FixedLenFeature([feature.width], tf.float32, [np.nan] * feature.width)
    if feature.dtype == "int64":
        return tf.io.FixedLenFeature([1], tf.int64, [UNKNOWN_INTEGER])
    return tf.io.FixedLenFeature([1], tf.string, [""])


def _squeezed(feature: Dense | Category, value: Any) -> Any:
    return value if isinstance(feature, Dense) and feature.shape else tf.squeeze(value, axis=-1)


def _fill(message: Any, features: list[Dense | Category], request: Request, place: tuple[int, ...]) -> None:
    for feature in features:
        value = request[feature.name][place]
        values = message.features.feature[feature.name]
        if isinstance(feature, Dense):
            if np.isnan(value).all():
                del message.features.feature[feature.name]
            else:
                values.float_list.value.extend(np.ravel(value).tolist())
        elif feature.dtype == "int64":
            values.int64_list.value.append(int(value))
        else:
            values.bytes_list.value.append(value if isinstance(value, bytes) else str(value).encode())
