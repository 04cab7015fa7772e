"""The one layout of a batch.

Sizes, here and everywhere: B lists, L items in the longest of them, T tasks, F feature columns, P shared parameters.

A data set yields what Keras calls ``(x, y)`` or ``(x, y, sample_weight)``:

``x``
    dict of features, per item ``[B, L]`` or ``[B, L, D]``, per list ``[B]`` or ``[B, D]``, plus ``list_size``,
    ``int32[B]``: the number of real items in each list. Places behind that are padding and are never looked at.
    A ranker that is conditioned on the preference also reads ``preference``, ``float32[B, T]``.
``y``
    dict task -> ``float32[B, L]``. A missing label is NaN (or negative, for binary and graded tasks).
``sample_weight``
    optional dict task -> ``float32[B]`` (a weight per list) or ``[B, L]`` (per item).

Plain rows without lists have no ``list_size``; features are then ``[B]`` or ``[B, D]`` and labels ``[B]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tfmtl2r.errors import InputTypeError

__all__ = ["LIST_SIZE", "PREFERENCE", "Batch", "unpack"]

LIST_SIZE = "list_size"
PREFERENCE = "preference"


class Batch(NamedTuple):
    """One batch, taken apart.

    Args:
        features: dict of tensors, without ``list_size``.
        labels: dict task -> labels; empty when there are none.
        weights: dict task -> weights; empty when there are none.
        list_size: ``int32[B]``, or None for plain rows.
    """

    features: dict[str, Any]
    labels: dict[str, Any]
    weights: dict[str, Any]
    list_size: Any


def unpack(data: Any) -> Batch:
    """Takes apart what a data set yields.

    Args:
        data: ``x``, ``(x, y)`` or ``(x, y, sample_weight)``, each a dict.

    Raises:
        TypeError: when a part is not a dict, naming what came instead.

    >>> unpack(({"price": 1.0, "list_size": 2}, {"click": 0.0})).list_size
    2
    """
    parts = data if isinstance(data, (tuple, list)) else (data,)
    x, y, weights = (*parts, None, None)[:3]
    for part, value in (("features", x), ("labels", y), ("weights", weights)):
        if value is not None and not isinstance(value, Mapping):
            raise InputTypeError(f"the {part} of a batch must be a dict of tensors by name, not {type(value).__name__};"
                                 " a data set yields (features, labels) or (features, labels, weights)")
    features = dict(x)
    return Batch(features, dict(y or {}), dict(weights or {}), features.pop(LIST_SIZE, None))
