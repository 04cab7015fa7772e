"""Base class of the kinds whose inputs are lists of values, with their lengths."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from tfmtl2r.errors import InputError, not_defined
from tfmtl2r.features.base import Columns, Feature, Values, size_of


class Listed(Feature):
    """A feature with inputs ``[..., M]`` of any length M, each with an input of lengths ``<name>_size``.

    Class attributes:
        keeps_newest: whether a list that is too long keeps its end instead of its beginning.
    """

    max_length: int | None = None
    separator: str = ""
    separators: tuple[str, ...] = ()
    """What splits the texts of each of :attr:`columns` in the training split. A later table may not show it."""
    reads_lists: ClassVar[bool] = True
    keeps_newest: ClassVar[bool] = False
    reading: ClassVar[tuple[str, ...]] = ("min_count", "separator", "separators")

    @property
    def listed(self) -> dict[str, Values]:
        """The type of the values of each list, by input. The lists of a row have the same length."""
        raise not_defined(self, "listed")

    @property
    def raw(self) -> dict[str, Values]:
        """Each list and its length."""
        found: dict[str, Values] = {}
        for name, values in self.listed.items():
            found |= {name: Values(values.dtype, (None,)), size_of(name): Values("int32")}
        return found

    @property
    def columns(self) -> tuple[str, ...]:
        """A column for each list."""
        return tuple(self.listed)

    def checked_length(self) -> None:
        """Raises a ValueError for a ``max_length`` below 1."""
        if self.max_length is not None and self.max_length < 1:
            raise InputError(f"feature {self.name!r}: max_length must be at least 1, not {self.max_length}")

    def separator_of(self, column: str) -> str:
        """The separator that is given, or that of the column in the training split."""
        return self.separator or dict(zip(self.columns, self.separators, strict=False)).get(column, "")

    def split(self, columns: Columns) -> Self:
        """The feature with the separators of the training split."""
        if self.separator or self.separators:
            return self
        found = tuple(columns.separator(name) for name in self.columns)
        return dataclasses.replace(self, separators=found if any(found) else ())  # type: ignore[type-var]

    def read(self, columns: Columns) -> dict[str, np.ndarray]:
        """Reads the lists, cut to ``max_length`` and padded to the longest."""
        found: dict[str, np.ndarray] = {}
        lengths: np.ndarray | None = None
        for name, wanted in self.listed.items():
            cells, sizes = columns.elements(name, self.separator_of(name))
            values = cells.values(name, wanted) if sizes.any() else np.empty(0, wanted.array_type)
            if lengths is not None:
                columns.refuse(sizes != lengths, sizes, f"feature {self.name!r}: {name!r} has another length than "
                               f"{self.name!r}", "both must have one value for each element")
            lengths = sizes
            found |= self._padded(name, values, sizes, wanted)
        return found

    def _padded(self, name: str, values: np.ndarray, sizes: np.ndarray, wanted: Values) -> dict[str, np.ndarray]:
        kept = np.minimum(sizes, self.max_length or sizes)
        first = np.cumsum(sizes) - (kept if self.keeps_newest else sizes)
        places = np.arange(max(int(kept.max(initial=0)), 1))
        real = places < kept[:, None]
        padded = np.full(real.shape, wanted.missing, wanted.array_type)
        padded[real] = values[(first[:, None] + places)[real]]
        return {name: padded, size_of(name): kept.astype(np.int32)}

    def mask(self, tensors: Mapping[str, Any], name: str = "") -> Any:
        """The places of a list that count, ``bool[n, M]``. A request may contain lists longer than ``max_length``."""
        from tfmtl2r._backend import tf

        name = name or self.name
        longest = tf.shape(tensors[name])[1]
        places, sizes = tf.range(longest)[None, :], tf.minimum(tensors[size_of(name)], longest)[:, None]
        real = places < sizes
        if self.max_length is None:
            return real
        return real & ((places >= sizes - self.max_length) if self.keeps_newest else (places < self.max_length))

    def known(self, tensors: Mapping[str, Any]) -> Any:
        """True if the list has an element."""
        return tensors[size_of(self.name)] > 0

    # A request

    def sized(self, values: dict[str, np.ndarray], shape: tuple[int, ...], random: np.random.Generator
              ) -> dict[str, np.ndarray]:
        """Adds plausible lengths to lists ``[*shape, M]``."""
        length = values[self.name].shape[-1]
        sizes = random.integers(0, length, shape, endpoint=True).astype(np.int32)
        return {name: one for key, value in values.items() for name, one in ((key, value), (size_of(key), sizes))}

    def in_example(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The lists without padding."""
        return {name: values[name][: int(values[size_of(name)])] for name in self.listed}

    def parsing(self) -> dict[str, Any]:
        """Lists of any length."""
        from tfmtl2r._backend import tf

        return {name: tf.io.VarLenFeature(tf.as_dtype(values.dtype)) for name, values in self.listed.items()}

    def parsed(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Each list, padded to the longest of all lists, and its length."""
        from tfmtl2r._backend import tf

        found = {}
        longest = tf.reduce_max(tf.stack([tensors[name].dense_shape[-1] for name in self.listed]))
        for name, values in self.listed.items():
            shape = tf.concat([tensors[name].dense_shape[:-1], [longest]], 0)
            lists = tf.SparseTensor(tensors[name].indices, tensors[name].values, shape)
            ones = lists.with_values(tf.ones_like(lists.values, tf.int32))
            found[name] = tf.sparse.to_dense(lists, values.missing)
            found[size_of(name)] = tf.reduce_sum(tf.sparse.to_dense(ones), axis=-1)
        return found
