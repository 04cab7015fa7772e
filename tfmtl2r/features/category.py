"""Categories: each known value has a row of an embedding table."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from tfmtl2r.errors import InputError
from tfmtl2r.features.base import Columns, Feature, Values, names_things
from tfmtl2r.registry import Card

CARD = Card(title="Category", note="text or integer ids; an embedding for each known value")
__all__ = ["Category"]

UNKNOWN = ("", "[UNK]", -1)
"""Values that Keras's lookup layers map to the unknown value, id 0. A vocabulary does not contain them."""
_EXAMPLES = 1000
log = logging.getLogger("tfmtl2r")


@dataclasses.dataclass(frozen=True)
class Category(Feature):
    """A categorical feature, embedded.

    Args:
        name: column and serving input.
        vocabulary: known values in a fixed order; all other values are the unknown value, id 0.
        buckets: number of hash buckets, in place of a vocabulary.
        dim: width of the embedding; by default ``min(32, ceil(1.6 * size ** 0.56))``.
        context: True for a feature of the whole list.
        dtype: ``"string"`` or ``"int64"``, of the raw values.
        shares: name of another category with the same ids, whose table this feature reads, too.
        min_count: values that occur less often count as unknown; by default the schema's number.
        hash: whether the vocabulary contains hashes of the values, so that no file contains the values themselves. A
            request contains values as before.

    >>> Category("brand", vocabulary=("acme", "zenith")).size  # with the unknown value
    3
    """

    name: str
    vocabulary: tuple[Any, ...] | None = None
    buckets: int | None = None
    dim: int | None = None
    context: bool = False
    dtype: str = "string"
    shares: str = ""
    min_count: int | None = None
    hash: bool = False

    embedded: ClassVar[bool] = True
    reads_names: ClassVar[bool] = True
    file_keys: ClassVar[tuple[str, ...]] = ("width", "vocabulary", "hash_buckets", "shares", "min_count", "hash")
    fitted: ClassVar[tuple[str, ...]] = ("dtype", "vocabulary", "buckets", "dim")
    after_lookup: ClassVar[tuple[str, ...]] = ("dim",)
    reading: ClassVar[tuple[str, ...]] = ("min_count",)

    def __post_init__(self) -> None:
        if self.dtype not in ("string", "int64"):
            raise InputError(f"feature {self.name!r}: dtype must be 'string' or 'int64', not {self.dtype!r}")
        if self.vocabulary is not None and self.buckets is not None:
            raise InputError(f"feature {self.name!r}: give a vocabulary or a number of hash buckets, not both")
        own = [field for field in ("vocabulary", "buckets", "min_count") if getattr(self, field) is not None]
        if self.shares and own:
            raise InputError(f"feature {self.name!r} shares the table of {self.shares!r}, which has its own "
                             f"{' and '.join(own)}: leave {'it' if len(own) == 1 else 'them'} out")
        if self.hash and any(isinstance(value, str) for value in self.vocabulary or ()):
            raise InputError(f"feature {self.name!r}: with hash, the vocabulary contains hashes and is fitted on the "
                             "training split: leave vocabulary out")
        if self.buckets is not None and self.buckets < 1:
            raise InputError(f"feature {self.name!r}: buckets must be at least 1, not {self.buckets}")
        if self.vocabulary is not None:
            object.__setattr__(self, "vocabulary", tuple(self.vocabulary))

    @property
    def size(self) -> int:
        """Number of rows of the embedding table, including the unknown value."""
        if self.buckets is not None:
            return self.buckets
        if self.vocabulary is None:
            raise InputError(f"feature {self.name!r} has no vocabulary yet: fit the schema on the training split")
        return len(self.vocabulary) + 1

    @property
    def width(self) -> int:
        """Width of the embedding."""
        return self.table_width

    @property
    def table_width(self) -> int:
        """Width of the rows of the embedding table."""
        return self.dim or min(32, math.ceil(1.6 * self.size**0.56))

    @property
    def known_values(self) -> tuple[Any, ...] | None:
        """The vocabulary."""
        return self.vocabulary

    def as_known(self, values: np.ndarray) -> np.ndarray:
        """Hashes, if the vocabulary contains hashes."""
        return _hashed(values) if self.hash else values

    def joined(self, owner: Feature) -> Self:
        """The feature with the type of the owner's values and the width of its table."""
        assert isinstance(owner, Category)
        if self.hash and not owner.hash:
            raise InputError(f"feature {self.name!r} has hash, but shares the table of {owner.name!r}, which contains "
                             "the values: give hash to that feature")
        fitted = owner.dim or owner.vocabulary is not None or owner.buckets is not None
        dim = owner.table_width if fitted else None
        return dataclasses.replace(self, dtype=owner.dtype, dim=dim, hash=owner.hash)

    @property
    def raw(self) -> dict[str, Values]:
        """Text or integers."""
        return {self.name: Values(self.dtype)}

    @property
    def looked_up(self) -> dict[str, Values]:
        """Ids, which are rows of the embedding table."""
        return {self.name: Values("int32")}

    @classmethod
    def inferred(
        cls, name: str, values: np.ndarray, context: bool, sizes: np.ndarray | None = None
    ) -> Self | None:
        """A category for a column of names (:func:`tfmtl2r.features.base.names_things`)."""
        if sizes is not None or not names_things(values):
            return None
        return cls(name, context=context, dtype=_dtype(values))

    @classmethod
    def of_entry(cls, name: str, values: np.ndarray, context: bool, options: Mapping[str, Any]) -> Self:
        """The key ``width`` is the width of the embedding. Vocabulary and column decide between text and integers."""
        names = {"hash_buckets": "buckets", "width": "dim"}
        found = {names.get(key, key): value for key, value in options.items()}
        if found.get("hash") and found.get("vocabulary"):
            raise InputError(f"feature {name!r}: with hash, the vocabulary is fitted on the training split: leave "
                             "vocabulary out")
        return cls(name, context=context, dtype=_dtype(values, found.get("vocabulary")), **found)

    def fit(self, columns: Columns, min_count: int) -> Self:
        """Fits the vocabulary: most frequent values first, equally frequent values in ascending order."""
        if self.shares:
            return self
        min_count = self.min_count or min_count
        given = None if self.hash else self.vocabulary
        if self.dtype == "string" and _dtype(columns.identities(self.name), given) == "int64":
            # "string" is only the default: the serving input will have the type of the column.
            if any(isinstance(value, str) for value in given or ()):
                raise InputError(f"feature {self.name!r}: the vocabulary is text, but the column contains numbers")
            return dataclasses.replace(self, dtype="int64").fit(columns, min_count)
        column = columns.values(self.name, Values(self.dtype))
        if self.vocabulary is not None or self.buckets is not None:
            return self
        if self.hash:
            column = _hashed(column[~np.isin(column, UNKNOWN[:2] if self.dtype == "string" else UNKNOWN[2:])])
        values, counts = np.unique(column, return_counts=True)
        entries: list[tuple[int, Any]] = [
            (-count, value)
            for value, count in zip(values.tolist(), counts.tolist(), strict=True)
            if count >= min_count and value not in UNKNOWN
        ]
        if len(values) == 1:
            log.warning("feature %r is constant (%r) in the training split: it is useless; exclude it", self.name,
                        values.tolist()[0])
        if not entries:
            log.warning("feature %r has no known value that occurs %d times in the training split: it is useless; "
                        "exclude it", self.name, min_count)
            return dataclasses.replace(self, buckets=1)
        return dataclasses.replace(self, vocabulary=tuple(value for _, value in sorted(entries)))

    def continued(self, earlier: Self, keep: bool) -> Self:
        """Kept vocabularies grow: the values that the earlier run did not know come last. The table keeps its width."""
        if self.shares:  # width and values are the owner's
            return super().continued(dataclasses.replace(earlier, dtype=self.dtype, dim=self.dim), keep)
        dim = self.dim or earlier.table_width
        if not keep:
            return dataclasses.replace(self, dim=dim)
        if dim != earlier.table_width:
            raise self.refused("width", dim, earlier.table_width)
        found = super().continued(earlier, keep)
        if earlier.buckets == 1:  # there was no known value
            return dataclasses.replace(self, dim=dim)
        if self.buckets not in (1, earlier.buckets):
            raise self.refused("hash_buckets", self.buckets, earlier.buckets)
        known = earlier.vocabulary
        if known is None or self.vocabulary is None:
            return dataclasses.replace(found, dim=dim)
        added = tuple(value for value in self.vocabulary if value not in {*known})
        return dataclasses.replace(found, dim=dim, vocabulary=(*known, *added))

    def rows(self, earlier: Self) -> np.ndarray | None:
        """Row 0 stands for all unknown values, in every table with a vocabulary."""
        if (self.vocabulary, self.buckets) == (earlier.vocabulary, earlier.buckets):
            return None
        if self.vocabulary is None or (earlier.buckets or 1) > 1:
            return np.full(self.size, -1)
        places = {value: row for row, value in enumerate(earlier.vocabulary or (), start=1)}
        return np.array([0, *(places.get(value, -1) for value in self.vocabulary)])

    def lookups(self) -> dict[str, Any]:
        """The lookup of ids. Id 0 is the unknown value, except with hash buckets, which have none."""
        from tfmtl2r._backend import keras

        name = f"lookup_{self.key}"
        if self.shares:
            return {}
        if self.buckets is not None:
            return {self.name: keras.layers.Hashing(self.buckets, name=name)}
        if self.vocabulary is None:
            raise InputError(f"feature {self.name!r} has no vocabulary yet: fit the schema on the training split")
        if self.hash:
            from tfmtl2r.layers.hashed_lookup import HashedLookup

            return {self.name: HashedLookup(self.vocabulary, name=name)}
        kind = keras.layers.StringLookup if self.dtype == "string" else keras.layers.IntegerLookup
        return {self.name: kind(vocabulary=list(self.vocabulary), name=name)}

    def layer(self, dtype: Any, others: Mapping[str, Any]) -> Any:
        """The embedding table; None for a feature that shares the table of another one."""
        from tfmtl2r.layers.tables import Table

        if self.shares:
            return None
        table = Table(self.size, self.table_width, dtype=dtype, name=f"embedding_{self.key}")
        table.build()
        return table

    def encode(self, tensors: Mapping[str, Any], layers: Mapping[str, Any]) -> Any:
        """Rows of the table, in the compute dtype."""
        return self.table(layers)(tensors[self.name])

    def table(self, layers: Mapping[str, Any]) -> Any:
        """The layer from ids to rows: the feature's own, or that of the feature that ``shares`` names."""
        found = layers[self.shares or self.name]
        return getattr(found, "table", found)  # the layer of a sequence holds a table beside others

    def example(self, shape: tuple[int, ...], random: np.random.Generator) -> dict[str, np.ndarray]:
        """Known values; with hashes or hash buckets, any values."""
        known = None if self.hash else self.vocabulary
        if not known:
            known = tuple(range(_EXAMPLES)) if self.dtype == "int64" else tuple(f"value {i}" for i in range(_EXAMPLES))
        values = np.empty(shape, np.int64 if self.dtype == "int64" else object)
        for place in np.ndindex(shape):
            values[place] = known[random.integers(len(known))]
        return {self.name: values}

    def hidden(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """With hash, one value in place of all ids."""
        return {**values, self.name: np.full_like(values[self.name], "hidden" if self.dtype == "string" else 0)} \
            if self.hash else values

    def unknown(self) -> dict[str, Any]:
        """A value that is not in the vocabulary."""
        known = set(self.vocabulary or ())
        values = itertools.count() if self.dtype == "int64" else (f"<unknown {i}>" for i in itertools.count())
        return {self.name: next(value for value in values if value not in known)}


def _hashed(values: np.ndarray) -> np.ndarray:
    from tfmtl2r.layers.hashed_lookup import hashes

    found: np.ndarray = hashes(values if values.dtype.kind in "iu" else values.astype(str)).numpy()
    return found


def _dtype(values: np.ndarray, vocabulary: Sequence[Any] | None = None) -> str:
    """The type of raw values, which the types of column and vocabulary decide: integers for numbers whose type fits
    into int64, otherwise text. A vocabulary of integers makes integers of text."""
    if values.dtype.kind in "OU":
        integers = vocabulary and not any(isinstance(value, str) for value in vocabulary)
        return "int64" if integers else "string"
    return "int64" if values.dtype.kind in "iubf" and values.dtype != np.uint64 else "string"
