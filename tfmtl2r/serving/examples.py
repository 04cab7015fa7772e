"""Raw requests made from the schema alone, for checks that need no data."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from tfmtl2r.batch import LIST_SIZE
from tfmtl2r.schema import LOG_OFFSET, Category, Dense, Schema

Request = dict[str, np.ndarray]

_SIZES = ((3, 2), (11, 4, 0), (1,))  # L is the first of each; 0 is a list that a filter upstream left empty


def requests(schema: Schema, lists: bool = True, seed: int = 0) -> list[Request]:
    """Requests as callers send them: known values, an unknown category, a missing number, lists of many lengths.

    Numbers are normal around the mean of the feature, in its raw scale; the last item of the first request has a
    missing value (NaN) and an unknown category in every feature.

    Args:
        schema: a fitted schema.
        lists: for lists ``[B, L]`` = (2, 3), (3, 11) and (1, 1); for plain rows B = 5, 15 and 1.
        seed: of the values.

    Returns:
        Each request by feature name, with ``list_size`` for lists.

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
            values = _category(feature, shape, random) if isinstance(feature, Category) else \
                _dense(feature, shape, random)
            if number == 0:
                values[(-1,) * len(shape)] = _unknown(feature) if isinstance(feature, Category) else np.nan
            request[feature.name] = values
        if lists:
            request[LIST_SIZE] = np.array(sizes, np.int32)
        made.append(request)
    return made


def merged(requests: Sequence[Request]) -> Request:
    """One request from many, as the server's batching makes it: tensors are padded with their own first element.

    Args:
        requests: with the same names; none without items.

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


_INVERSES = {
    "log1p": lambda values: np.expm1(np.maximum(values, 0.0)),
    "signed_log1p": lambda values: np.sign(values) * np.expm1(np.abs(values)),
    "log": lambda values: np.maximum(np.exp(values) - LOG_OFFSET, 0.0),
    "log_negative": lambda values: np.minimum(LOG_OFFSET - np.exp(values), 0.0),
}


def _dense(feature: Dense, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    mean = np.reshape(feature.mean or (0.0,) * feature.width, feature.shape)
    std = np.sqrt(np.reshape(feature.variance or (1.0,) * feature.width, feature.shape))
    values = mean + std * random.standard_normal((*shape, *feature.shape))
    # The statistics are of transformed values; a request brings raw ones.
    for name, inverse in _INVERSES.items():
        mine = np.reshape([transform == name for transform in feature.transforms], feature.shape)
        values = np.where(mine, inverse(values), values) if mine.any() else values
    highest = np.finfo(np.float32).max
    return np.clip(values, -highest, highest).astype(np.float32)


def _category(feature: Category, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    known = feature.vocabulary
    if not known:
        known = tuple(range(1000)) if feature.dtype == "int64" else tuple(f"value {i}" for i in range(1000))
    values = np.empty(shape, np.int64 if feature.dtype == "int64" else object)
    for place in np.ndindex(shape):
        values[place] = known[random.integers(len(known))]
    return values


def _unknown(feature: Category) -> int | str:
    known = set(feature.vocabulary or ())
    values = itertools.count() if feature.dtype == "int64" else (f"<unknown {i}>" for i in itertools.count())
    return next(value for value in values if value not in known)
