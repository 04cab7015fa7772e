"""Bags: several ids per item or per list, whose embeddings are pooled."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from tfmtl2r.errors import InputError
from tfmtl2r.features._listed import Listed
from tfmtl2r.features.base import Columns, Values
from tfmtl2r.features.category import Category
from tfmtl2r.registry import Card

CARD = Card(title="Bag", note="several ids per item or list; the sum or mean of their embeddings")
__all__ = ["Bag"]
_LONGEST = 4
log = logging.getLogger("tfmtl2r")


@dataclasses.dataclass(frozen=True)
class Bag(Listed, Category):
    """Several ids per item or per list, without order: tags, genres, followed users.

    With the embeddings ``h_m`` and weights ``w_m`` (1 without weights), the encoded bag is ``sum w h``,
    ``sum w h / sum w`` (mean), ``sum w h / sqrt(sum w^2)`` (sqrtn), or the maximum of each component. An empty bag is
    0. An id that occurs twice counts twice. An id with a missing weight does not count.

    Args:
        name: column and serving input; :mod:`tfmtl2r.data.ragged` describes the cells.
        vocabulary, buckets, dim, context, dtype, shares, min_count: as in :class:`tfmtl2r.Category`.
        pooling: ``"mean"``, ``"sum"``, ``"sqrtn"`` or ``"max"``.
        weights: a column with a weight >= 0 for each id; empty for no weights.
        max_length: number of ids that count, the first ones; None for all.
        separator: splits a cell of text; empty to choose it from each column.
        separators: the separator of each column, fitted on the training split.
        missing: add a component that is 1 for an empty bag.

    >>> Bag("tags", vocabulary=("a", "b"), dim=8).width  # with the component for an empty bag
    9
    """

    pooling: str = "mean"
    weights: str = ""
    max_length: int | None = None
    separator: str = ""
    separators: tuple[str, ...] = ()
    missing: bool = True

    file_keys: ClassVar[tuple[str, ...]] = (
        *Category.file_keys, "pooling", "weights", "max_length", "missing", "separator")
    poolings: ClassVar[tuple[str, ...]] = ("mean", "sum", "sqrtn", "max")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "separators", tuple(self.separators))
        self.checked_length()
        if self.pooling not in self.poolings:
            raise InputError(f"feature {self.name!r}: pooling must be one of {', '.join(self.poolings)}, "
                             f"not {self.pooling!r}")

    @property
    def width(self) -> int:
        """Width of the embedding, and one for the indicator."""
        return self.table_width + self.missing

    @property
    def listed(self) -> dict[str, Values]:
        """The ids, and their weights."""
        weights = {self.weights: Values("float32")} if self.weights else {}
        return {self.name: Values(self.dtype), **weights}

    @property
    def looked_up(self) -> dict[str, Values]:
        """The ids become rows of the embedding table."""
        return {**self.raw, self.name: Values("int32", (None,))}

    @classmethod
    def inferred(
        cls, name: str, values: np.ndarray, context: bool, sizes: np.ndarray | None = None
    ) -> Self | None:
        """A bag for a column of lists of text or integers."""
        if sizes is None or values.dtype.kind not in "OUiub":
            return None
        return cls(name, context=context, dtype=_dtype(values))

    def read(self, columns: Columns) -> dict[str, np.ndarray]:
        """Reads ids and weights; a negative weight is an error."""
        found = super().read(columns)
        if self.weights:
            weights = found[self.weights]
            columns.refuse(weights < 0, weights, f"feature {self.name!r}: a weight in {self.weights!r} is negative",
                           "weights must be >= 0; mark a missing weight with NaN")
        return found

    def fit(self, columns: Columns, min_count: int) -> Self:
        """Fits the vocabulary on the ids of all bags."""
        found = self.split(columns)
        if self.shares:
            return found
        ids, sizes = columns.elements(self.name, found.separator_of(self.name))
        if sizes.any():
            return super(Bag, found).fit(ids, min_count)
        log.warning("feature %r is empty in the training split: it is useless; exclude it", self.name)
        return found if self.vocabulary is not None else dataclasses.replace(found, buckets=self.buckets or 1)

    def encode(self, tensors: Mapping[str, Any], layers: Mapping[str, Any]) -> Any:
        """The pooled embeddings, and the indicator of an empty bag."""
        from tfmtl2r._backend import tf
        from tfmtl2r.layers.pooling import POOLINGS, rows_of

        mask = self.mask(tensors)
        weights = tf.cast(mask, tf.float32)
        if self.weights:
            given = tensors[self.weights]
            usable = mask & self.mask(tensors, self.weights) & tf.math.is_finite(given) & (given >= 0)
            weights = tf.where(usable, given, 0.0)
        pooled = POOLINGS[self.pooling](rows_of(self.table(layers), tensors[self.name], mask), weights)
        if not self.missing:
            return pooled
        empty = tf.cast(~self.known(tensors), pooled.dtype)
        return tf.concat([pooled, empty[:, None]], axis=-1)

    def example(self, shape: tuple[int, ...], random: np.random.Generator) -> dict[str, np.ndarray]:
        """Known ids, with weights."""
        length = min(int(random.integers(1, _LONGEST, endpoint=True)), self.max_length or _LONGEST)
        found = super().example((*shape, length), random)
        if self.weights:
            found[self.weights] = random.uniform(0, 2, (*shape, length)).astype(np.float32)
        return self.sized(found, shape, random)

    def unknown(self) -> dict[str, Any]:
        """An empty bag."""
        return {name: values.missing for name, values in self.raw.items()}

    def written(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Replaces missing weights by 0, since JSON has no NaN."""
        return {name: np.nan_to_num(value) if name == self.weights else value for name, value in values.items()}


def _dtype(values: np.ndarray) -> str:
    return "string" if values.dtype.kind in "OU" else "int64"
