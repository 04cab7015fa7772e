"""The layout of a batch.

Symbols of sizes in this library: B lists, L places in each list (its items and padding), n real items in all lists, T
tasks, F width of an encoded item, D width of a feature or a layer, E experts, P shared parameters.

A data set yields tuples ``(x, y)`` or ``(x, y, sample_weight)``, as in Keras:

``x``
    dict of features, per item ``[B, L]`` or ``[B, L, D]``, per list ``[B]`` or ``[B, D]``, plus ``list_size``,
    ``int32[B]``: the number of real items in each list. The places after these items are padding and never used.
    A ranker that is conditioned on the preference also reads ``preference``, ``float32[B, T]``.
``y``
    dict task -> ``float32[B, L]``. A missing label is NaN (or negative, for binary and graded tasks).
``sample_weight``
    optional dict task -> ``float32[B]`` (a weight per list) or ``[B, L]`` (per item): how important they are within
    the task, in losses and metrics. The value of a task may also be a dict with ``importance`` and ``propensity``.
    Weights of ``propensity`` correct the bias of logged clicks: they multiply the terms of the loss, and do not enter
    metrics.

Plain rows without lists have no ``list_size``; features are then ``[B]`` or ``[B, D]`` and labels ``[B]``.

The ranker converts these once into a :class:`Batch`, which all layers receive.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError, InputTypeError
from tfmtl2r.preferences import per_list
from tfmtl2r.schema import Schema
from tfmtl2r.types import Count, Mask, Preference, Tensor

__all__ = ["IMPORTANCE", "LIST_SIZE", "PREFERENCE", "PROPENSITY", "Batch", "unpack"]

LIST_SIZE = "list_size"
PREFERENCE = "preference"
IMPORTANCE = "importance"
PROPENSITY = "propensity"


@dataclasses.dataclass(frozen=True, eq=False)  # tensors compare element by element
class Batch:
    """One batch: an element of a data set, with values that are computed from it.

    Args:
        features: dict of looked-up features, per item ``[B, L, ...]`` or per list ``[B, ...]``. Looked-up means that
            categories are integer ids and numbers are raw float32; data sets and exports look up, the ranker
            normalises.
        labels: dict task -> labels; empty without labels.
        weights: dict task -> importance weights; empty without weights.
        list_size: ``int32[B]``, or None for plain rows.
        valid: ``bool[B, L]``, True for real items; None for plain rows.
        preference: ``float32[B, T]``, each row of sum 1; None for a ranker that is not conditioned.
        propensity_weights: dict task -> weights that enter losses only; empty without such weights.
        shares: ``float32[B, T]``, how much each list counts in the loss of each task; None if all count the same.

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
    list_size: Tensor | None = None
    valid: Mask | None = None
    preference: Preference | None = None
    propensity_weights: dict[str, Any] = dataclasses.field(default_factory=dict)
    shares: Preference | None = None

    @classmethod
    def of(cls, data: Any, schema: Schema, preference: Any = None) -> Batch:
        """Makes a batch from an element of a data set.

        Args:
            data: ``x``, ``(x, y)`` or ``(x, y, sample_weight)``, each a dict.
            schema: the features that are read; L is read off the first feature per item.
            preference: ``float32[T]`` of sum 1, the default of a conditioned ranker for data without ``preference``.
                None for other rankers.

        Raises:
            TypeError: if a part is not a dict.
            ValueError: for lists without a feature per item.
        """
        features, labels, given = unpack(data)
        weights, propensity_weights = (_weights(given, kind) for kind in (IMPORTANCE, PROPENSITY))
        list_size, valid = features.pop(LIST_SIZE, None), None
        if list_size is not None:
            valid = tf.sequence_mask(list_size, _length(features, schema))
        leaning = None if preference is None else features.pop(PREFERENCE, None)
        batch = cls(features, labels, weights, list_size, valid, propensity_weights=propensity_weights)
        if preference is not None:
            rows = per_list(leaning, preference, batch.num_lists)
            batch = dataclasses.replace(batch, preference=rows)
        return batch

    @property
    def num_lists(self) -> Count:
        """The number B of lists, or the number of plain rows, as a tensor."""
        first = next(iter(self.features.values())) if self.list_size is None else self.list_size
        return tf.shape(first)[0]

    @property
    def is_rows(self) -> bool:
        """Whether these are plain rows, without lists."""
        return self.valid is None

    def at(self, places: Tensor) -> Batch:
        """A batch of some of the lists (or plain rows), with all their values.

        Args:
            places: positions of the lists, ``int[B']``.
        """
        parts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Batch(**tf.nest.map_structure(lambda part: None if part is None else tf.gather(part, places), parts))

    def packed(self, values: Tensor) -> Tensor:
        """Turns values per item, ``[B, L, ...]``, into values of the real items only, ``[n, ...]``, list by list.

        Plain rows do not change, here and in :meth:`repeated`, :meth:`padded` and :meth:`as_lists`.
        """
        if self.is_rows:
            return values
        places = self._places()
        in_batch = places[:, 0] * tf.shape(self.valid, out_type=tf.int64)[1] + places[:, 1]
        if None in values.shape[2:]:
            flat = tf.reshape(values, tf.concat([[-1], tf.shape(values)[2:]], 0))
            flat.set_shape([None, *values.shape[2:]])
        else:
            flat = tf.reshape(values, [-1, *values.shape[2:]])
        return tf.gather(flat, in_batch)

    def repeated(self, values: Tensor) -> Tensor:
        """Repeats values of lists, ``[B, ...]``, for every real item of each list: ``[n, ...]``."""
        if self.is_rows:
            return values
        # The gradient of a gather is sparse. The reshape before the gather makes the gradient dense.
        return tf.gather(tf.reshape(values, tf.shape(values)), self._places()[:, 0])

    def padded(self, rows: Tensor) -> Tensor:
        """The inverse of :meth:`packed`: turns ``[n, ...]`` into ``[B, L, ...]``, 0 at padded places."""
        if self.is_rows:
            return rows
        # A scatter, whose gradient is a gather. A gather here would have a scatter as its gradient.
        shape = tf.concat([tf.shape(self.valid, out_type=tf.int64), tf.shape(rows, out_type=tf.int64)[1:]], 0)
        return tf.scatter_nd(self._places(), rows, shape)

    def as_lists(self, scores: Tensor) -> Tensor:
        """Turns scores of the real items, ``[..., n]``, into ``[..., B, L]``, 0 at padded places."""
        if self.is_rows:
            return scores
        leading = list(range(scores.shape.rank - 1))
        lists = self.padded(tf.transpose(scores, [len(leading), *leading]))
        return tf.transpose(lists, [*(2 + axis for axis in leading), 0, 1])

    def _places(self) -> Tensor:
        """The list of every real item and its position in the list, ``int64[n, 2]``; a graph computes this once."""
        return tf.where(self.valid)


def unpack(data: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Features, labels and weights in an element of a data set, as copies; a missing part is empty.

    Args:
        data: ``x``, ``(x, y)`` or ``(x, y, sample_weight)``, each a dict.

    Raises:
        TypeError: if a part is not a dict; the message contains its type.

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


def _weights(given: dict[str, Any], kind: str) -> dict[str, Any]:
    """The weights of one kind in a batch's ``sample_weight``, by task."""
    found = {}
    for task, value in given.items():
        by_kind = value if isinstance(value, Mapping) else {IMPORTANCE: value}
        unknown = sorted(set(by_kind) - {IMPORTANCE, PROPENSITY})
        if unknown:
            raise InputError(f"task {task!r}: the weights of a task are a tensor, or a dict with {IMPORTANCE!r} and "
                             f"{PROPENSITY!r}; got {', '.join(map(repr, unknown))}")
        if by_kind.get(kind) is not None:
            found[task] = by_kind[kind]
    return found


def _length(features: dict[str, Any], schema: Schema) -> Count:
    """L, the number of places in a list."""
    per_item = [name for name, feature in schema.inputs.items() if not feature.context]
    if not per_item:
        raise InputError("a ranker for lists needs at least one feature per item; all features are per list")
    return tf.shape(features[per_item[0]])[1]
