"""The one layout of a batch.

Sizes, here and everywhere: B lists, L items in the longest of them, n real items in all, T tasks, F feature columns, P
shared parameters.

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

The ranker turns this once into a :class:`Batch`, which is what every layer below receives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError, InputTypeError
from tfmtl2r.preferences import per_list
from tfmtl2r.schema import Schema
from tfmtl2r.types import Count, Tensor

__all__ = ["LIST_SIZE", "PREFERENCE", "Batch", "unpack"]

LIST_SIZE = "list_size"
PREFERENCE = "preference"


@dataclasses.dataclass(frozen=True, eq=False)  # tensors compare element by element
class Batch:
    """One batch: what a data set yielded, and what follows from it.

    Args:
        features: dict of looked-up features, per item ``[B, L, ...]`` or per list ``[B, ...]``.
        labels: dict task -> labels; empty when there are none.
        weights: dict task -> weights; empty when there are none.
        list_size: ``int32[B]``, or None for plain rows.
        valid: ``bool[B, L]``, True for real items; None for plain rows.
        preference: ``float32[B, T]``, each row of sum 1; None where the ranker reads none.

    >>> batch = Batch({"price": tf.constant([[1, 0], [2, 3]])}, valid=tf.constant([[True, False], [True, True]]))
    >>> rows = batch.packed(batch.features["price"])
    >>> rows.numpy().tolist(), batch.padded(rows).numpy().tolist()
    ([1, 2, 3], [[1, 0], [2, 3]])
    >>> batch.repeated(tf.constant([7, 8])).numpy().tolist()
    [7, 8, 8]
    """

    features: dict[str, Any]
    labels: dict[str, Any] = dataclasses.field(default_factory=dict)
    weights: dict[str, Any] = dataclasses.field(default_factory=dict)
    list_size: Any = None
    valid: Any = None
    preference: Any = None

    @classmethod
    def of(cls, data: Any, schema: Schema, preference: Any = None) -> Batch:
        """The batch that a data set yields.

        Args:
            data: ``x``, ``(x, y)`` or ``(x, y, sample_weight)``, each a dict.
            schema: the features that are read; L is the length of the first one that is per item.
            preference: ``float32[T]`` of sum 1: what a conditioned ranker reads where the data have no ``preference``.
                None for a ranker that reads none.

        Raises:
            TypeError: when a part is not a dict.
            ValueError: for lists without a feature per item.
        """
        features, labels, weights = unpack(data)
        list_size, valid = features.pop(LIST_SIZE, None), None
        if list_size is not None:
            valid = tf.sequence_mask(list_size, _length(features, schema))
        given = None if preference is None else features.pop(PREFERENCE, None)
        batch = cls(features, labels, weights, list_size, valid)
        if preference is not None:
            rows = per_list(given, preference, batch.num_lists)
            batch = dataclasses.replace(batch, preference=rows)
        return batch

    @property
    def num_lists(self) -> Count:
        """B, a tensor; for plain rows their number."""
        first = next(iter(self.features.values())) if self.list_size is None else self.list_size
        return tf.shape(first)[0]

    @property
    def is_rows(self) -> bool:
        """Whether these are plain rows, without lists."""
        return self.valid is None

    def at(self, places: Tensor) -> Batch:
        """Some of the lists (or plain rows), with everything that belongs to them.

        Args:
            places: which ones, ``int[B']``.
        """
        parts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Batch(**tf.nest.map_structure(lambda part: None if part is None else tf.gather(part, places), parts))

    def packed(self, values: Tensor) -> Tensor:
        """What is per item, ``[B, L, ...]``, for the real items alone: ``[n, ...]``, lists one after another.

        Plain rows stay as they are, here and in :meth:`repeated`, :meth:`padded` and :meth:`as_lists`.
        """
        if self.is_rows:
            return values
        places = self._places()
        in_batch = places[:, 0] * tf.shape(self.valid, out_type=tf.int64)[1] + places[:, 1]
        return tf.gather(tf.reshape(values, [-1, *values.shape[2:]]), in_batch)

    def repeated(self, values: Tensor) -> Tensor:
        """What is per list, ``[B, ...]``, for every real item of the list: ``[n, ...]``."""
        if self.is_rows:
            return values
        # The gradient of a gather is sparse; behind a reshape it becomes dense.
        return tf.gather(tf.reshape(values, tf.shape(values)), self._places()[:, 0])

    def padded(self, rows: Tensor) -> Tensor:
        """The way back from :meth:`packed`: ``[n, ...]`` to ``[B, L, ...]``, 0 at padded places."""
        if self.is_rows:
            return rows
        # A scatter, since its gradient is a gather; the other way round the gradient would scatter.
        shape = tf.concat([tf.shape(self.valid, out_type=tf.int64), tf.shape(rows, out_type=tf.int64)[1:]], 0)
        return tf.scatter_nd(self._places(), rows, shape)

    def as_lists(self, scores: Tensor) -> Tensor:
        """Scores of the real items in their lists: ``[..., n]`` to ``[..., B, L]``, 0 at padded places."""
        if self.is_rows:
            return scores
        leading = list(range(scores.shape.rank - 1))
        lists = self.padded(tf.transpose(scores, [len(leading), *leading]))
        return tf.transpose(lists, [*(2 + axis for axis in leading), 0, 1])

    def _places(self) -> Tensor:
        """List and place in the list of every real item, ``int64[n, 2]``; a graph computes it once."""
        return tf.where(self.valid)


def unpack(data: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Features, labels and weights of what a data set yields; copies, empty where a part is missing.

    Args:
        data: ``x``, ``(x, y)`` or ``(x, y, sample_weight)``, each a dict.

    Raises:
        TypeError: when a part is not a dict, naming what came instead.

    >>> unpack(({"price": 1.0, "list_size": 2}, {"click": 0.0}))
    ({'price': 1.0, 'list_size': 2}, {'click': 0.0}, {})
    """
    parts = data if isinstance(data, (tuple, list)) else (data,)
    x, y, weights = (*parts, None, None)[:3]
    for part, value in (("features", x), ("labels", y), ("weights", weights)):
        if value is not None and not isinstance(value, Mapping):
            raise InputTypeError(f"the {part} of a batch must be a dict of tensors by name, not {type(value).__name__};"
                                 " a data set yields (features, labels) or (features, labels, weights)")
    return dict(x), dict(y or {}), dict(weights or {})


def _length(features: dict[str, Any], schema: Schema) -> Count:
    """L, the number of places in a list."""
    per_item = [name for name, feature in schema.inputs.items() if not feature.context]
    if not per_item:
        raise InputError("a ranker for lists needs at least one feature per item; all features are per list")
    return tf.shape(features[per_item[0]])[1]
