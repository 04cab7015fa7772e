"""Text: a value of an open vocabulary, as a whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from tfmtl2r.errors import InputError
from tfmtl2r.features.base import Columns
from tfmtl2r.features.category import Category
from tfmtl2r.registry import Card

CARD = Card(title="Text", note="a text or id of an open vocabulary, hashed as a whole; nothing is fitted")
__all__ = ["Text"]


@dataclasses.dataclass(frozen=True)
class Text(Category):
    """The whole value, hashed: nothing is fitted, and values that are new after the training have rows, too.

    Different values may share a row. The missing value (``""`` or -1) has the row 0, which no other value has.

    Args:
        name, dim, context, dtype: as in :class:`tfmtl2r.Category`.
        buckets: number of rows, with that of the missing value.
        hash: keep the values of real requests out of the warm-up records of an export. No other file contains values.

    >>> Text("query", buckets=100, dim=8).size
    100
    """

    buckets: int | None = 10_000

    file_keys: ClassVar[tuple[str, ...]] = ("width", "hash_buckets", "hash")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.buckets is None or self.buckets < 2 or self.vocabulary is not None or self.shares:
            raise InputError(f"feature {self.name!r}: a text needs at least 2 hash_buckets and no vocabulary of its "
                             "own or another feature; for known values, declare a category")

    @classmethod
    def inferred(
        cls, name: str, values: np.ndarray, context: bool, sizes: np.ndarray | None = None
    ) -> Self | None:
        """A text must be declared."""
        return None

    def fit(self, columns: Columns, min_count: int) -> Self:
        """Decides between text and integers."""
        columns.identities(self.name)
        return super().fit(columns, min_count)

    def lookups(self) -> dict[str, Any]:
        """The hash, with row 0 for the missing value."""
        from tfmtl2r._backend import keras

        missing = "" if self.dtype == "string" else -1
        return {self.name: keras.layers.Hashing(self.buckets, mask_value=missing, name=f"lookup_{self.key}")}

    def known(self, tensors: Mapping[str, Any]) -> Any:
        """True for a value that is not missing."""
        return tensors[self.name] > 0

    def unknown(self) -> dict[str, Any]:
        """The missing value."""
        return {name: values.missing for name, values in self.raw.items()}
