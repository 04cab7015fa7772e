"""Makes raw requests from the schema or from real rows, and merges requests as the server does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfmtl2r.batch import LIST_SIZE, PREFERENCE
from tfmtl2r.data.columns import feature_values
from tfmtl2r.data.lists import Lists
from tfmtl2r.errors import InputError
from tfmtl2r.schema import Schema
from tfmtl2r.serving.answers import BLEND_WEIGHTS, ITEM_IDS, TOP, request_key
from tfmtl2r.serving.parsing import Request

_SIZES = ((3, 2), (11, 4, 0), (1,))  # sizes of the lists of each request; L is the first; 0 is an empty list


def requests(schema: Schema, lists: bool = True, seed: int = 0) -> list[Request]:
    """Makes typical requests, with known values, an unknown category, a missing number and lists of several lengths.

    Each kind of feature generates plausible values. In the last item of the first request, every feature has a missing
    or unknown value.

    Args:
        schema: a fitted schema.
        lists: True makes lists ``[B, L]`` = (2, 3), (3, 11) and (1, 1); False makes plain rows with B = 5, 15 and 1.
        seed: seed of the values.

    Returns:
        The requests, each as feature name -> values, with ``list_size`` for lists.

    >>> from tfmtl2r import Category, Dense
    >>> first = requests(Schema([Dense("price", mean=(9.0,), variance=(4.0,)), Category("brand", vocabulary="ab")]))[0]
    >>> first["price"].shape, first["brand"][-1].tolist(), first["list_size"].tolist()
    ((2, 3), ['b', 'b', '<unknown 0>'], [3, 2])
    """
    random = np.random.default_rng(seed)
    made = []
    for number, sizes in enumerate(_SIZES):
        request: Request = {}
        for feature in schema.features:
            items = (len(sizes), sizes[0]) if lists and not feature.context else (len(sizes),)
            shape = items if lists else (sum(sizes),)
            values = feature.example(shape, random)
            if number == 0:
                for name, unknown in feature.unknown().items():
                    values[name][(-1,) * len(shape)] = unknown
            request |= values
        if lists:
            request[LIST_SIZE] = np.array(sizes, np.int32)
        made.append(request)
    return made


def from_rows(rows: Lists, schema: Schema, lists: bool = True, count: int = 8) -> list[Request]:
    """Makes two requests from real data: the first list (or row) alone, and the next lists together.

    Args:
        rows: lists, or plain rows.
        schema: a fitted schema.
        lists: whether the ranker ranks lists.
        count: total number of lists (or rows) in the requests.

    Raises:
        ValueError: when ``rows`` are plain rows but the ranker ranks lists (or the reverse), or a column is missing or
            invalid.

    >>> from tfmtl2r import Dense
    >>> rows = Lists({"price": np.array([3.0, 1.0, 2.0])}, offsets=np.array([0, 2, 3]))
    >>> [request["price"].tolist() for request in from_rows(rows, Schema([Dense("price")]))]
    [[[3.0, 1.0]], [[2.0]]]
    """
    if rows.is_rows == lists:
        kinds = {True: "lists", False: "plain rows"}
        raise InputError(f"the rows for warm-up are {kinds[not rows.is_rows]}, but the ranker is exported for "
                         f"{kinds[lists]}")
    total = min(count, rows.num_lists)
    parts = [rows.select(np.arange(*span)) for span in ((0, 1), (1, total)) if span[0] < span[1]]
    return [_request(part, schema) for part in parts]


def _request(rows: Lists, schema: Schema) -> Request:
    values = {name: value for feature in schema.features
              for name, value in feature.hidden(feature_values(rows, feature)).items()}
    if rows.is_rows:
        return values
    sizes = rows.sizes.astype(np.int32)
    valid = np.arange(sizes.max()) < sizes[:, None]
    for name, feature in schema.inputs.items():
        if not feature.context:
            flat = values[name]
            fill = "" if flat.dtype == object else 0
            values[name] = np.full((*valid.shape, *flat.shape[1:]), fill, flat.dtype)
            values[name][valid] = flat
    return {**values, LIST_SIZE: sizes}


def with_extras(request: Request, schema: Schema, tasks: int) -> Request:
    """Adds the further inputs of signatures to a request: blend weights, preference, ids of items and ``k``.

    Weights and preference of the first list are zeros, so that the defaults apply. Its ``k`` is larger than the list.

    Args:
        request: feature name -> values.
        schema: the features.
        tasks: number of tasks T.
    """
    count = len(next(iter(request.values())))
    weights = (np.arange(count * tasks, dtype=np.float32).reshape(count, tasks) % 5) / 2
    extras = {BLEND_WEIGHTS: np.where(np.arange(count)[:, None] == 0, np.float32(0), weights)}
    if PREFERENCE not in schema.inputs:
        extras[PREFERENCE] = extras[BLEND_WEIGHTS][:, ::-1].copy()
    if LIST_SIZE in request:
        length = next(request[f.name].shape[1] for f in schema.features if not f.context)
        ids = [[f"item {number} of list {row}" for number in range(length)] for row in range(count)]
        extras[ITEM_IDS] = np.array(ids, object).reshape(count, length)
        extras[TOP] = np.array([length + 3, 2, 0], np.int32)[np.arange(count) % 3]
    return {**request, **{request_key(name, schema): values for name, values in extras.items()}}


def merged(requests: Sequence[Request]) -> Request:
    """Merges requests as the server's batching does: every tensor is padded with its own first element.

    Args:
        requests: requests with the same names; each must have items.

    >>> merged([{"x": np.array([[7, 8]])}, {"x": np.array([[1]])}])["x"].tolist()
    [[7, 8], [1, 1]]
    """
    whole = {}
    for name in requests[0]:
        tensors = [request[name] for request in requests]
        shape = np.max([tensor.shape[1:] for tensor in tensors], axis=0).astype(int)
        padded = []
        for tensor in tensors:
            full = np.full((len(tensor), *shape), tensor.flat[0], tensor.dtype)
            full[tuple(slice(0, n) for n in tensor.shape)] = tensor
            padded.append(full)
        whole[name] = np.concatenate(padded)
    return whole
