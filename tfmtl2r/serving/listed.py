"""Inputs of a signature that are lists of any length, such as bags. The input ``<name>_size`` contains the lengths."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.data.columns import Columns
from tfmtl2r.features.base import Values, size_of


def is_list(specs: Mapping[str, Any], name: str) -> bool:
    """Whether the last axis of an input has any length, ``[..., M]``.

    Args:
        specs: input name -> spec.
        name: the input.
    """
    size, shape = specs.get(size_of(name)), specs[name].shape
    return (size is not None and size.dtype == tf.int32 and shape.rank == size.shape.rank + 1 and shape.rank > 1
            and shape[-1] is None)


def has_items(specs: Mapping[str, Any], name: str) -> bool:
    """Whether an input has an axis of items, ``[B, L, ...]``; arguments as for :func:`is_list`."""
    shape = specs[name].shape
    return shape.rank is not None and shape.rank > 1 + is_list(specs, name) and shape[1] is None


def padded(inputs: Mapping[str, Any], specs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs whose nested lists of different lengths end with 0 or empty text, and their lengths if they are not given.

    >>> specs = {"tags": tf.TensorSpec([None, None], tf.string), "tags_size": tf.TensorSpec([None], tf.int32)}
    >>> padded({"tags": [["a"], ["b", "c"], []]}, specs)
    {'tags': [['a', ''], ['b', 'c'], ['', '']], 'tags_size': [1, 2, 0]}
    """
    found = dict(inputs)
    for name, value in inputs.items():
        if name in specs and is_list(specs, name) and size_of(name) not in inputs and isinstance(value, (list, tuple)):
            depth, fill = specs[name].shape.rank - 1, "" if specs[name].dtype == tf.string else 0
            found[size_of(name)] = sizes = _map(len, value, depth)
            longest = max([1, *(int(size) for size in _flat(sizes))])  # a server cannot pad empty tensors
            found[name] = _map(functools.partial(_filled, fill=fill, length=longest), value, depth)
    return found


def of_table(columns: Columns, column: str, dtype: Any, separator: str = "") -> tuple[np.ndarray, np.ndarray]:
    """A column of lists as a padded array ``[N, M]``, and the lengths ``int32[N]``; ``separator`` splits texts."""
    wanted = Values(dtype.name)
    cells, sizes = columns.elements(column, separator)
    array = np.full((len(sizes), max(int(sizes.max()), 1)), "" if wanted.dtype == "string" else 0, wanted.array_type)
    if sizes.any():
        array[np.arange(array.shape[1]) < sizes[:, None]] = cells.values(column, wanted)
    return array, sizes.astype(np.int32)


def nothing(spec: Any, value: Any) -> Any:
    """The value of a place without an item, of the length of the other items."""
    width = next((len(item) for items in value for item in items if np.ndim(item)), 0)
    shape = [width if size is None else size for size in spec.shape[2:]]
    return np.full(shape, "" if spec.dtype == tf.string else 0, object).tolist()


def _filled(cell: Sequence[Any], fill: Any, length: int) -> list[Any]:
    return [*cell, *[fill] * (length - len(cell))]


def _map(function: Any, value: Any, depth: int) -> list[Any]:
    return [function(cell) if depth == 1 else _map(function, cell, depth - 1) for cell in value]


def _flat(value: Any) -> list[Any]:
    return [one for cell in value for one in (_flat(cell) if isinstance(cell, list) else [cell])]
