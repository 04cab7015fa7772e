"""Vectors: numbers that another model has made, such as the embedding of an image or a text."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from tfmtl2r.errors import InputError
from tfmtl2r.features.base import Columns, Feature, Values
from tfmtl2r.registry import Card

CARD = Card(title="Vector", note="a pretrained vector of fixed length, with a projection")
__all__ = ["Vector"]


@dataclasses.dataclass(frozen=True)
class Vector(Feature):
    """A pretrained vector of D numbers, which are not standardised.

    The vector is normalised if asked for, then adapted (``x + x W`` with W from 0) if it is not frozen, then projected
    (``x P``). A vector with any missing number is missing: it is 0, and has an indicator.

    Args:
        name: column and serving input; the cells are lists of D numbers, or text as in :mod:`tfmtl2r.data.ragged`.
        size: D; fitted on the training split.
        context: True for a feature of the whole list.
        projection: width of a trained linear layer; None for no such layer.
        frozen: whether the vector enters as it is. False trains a linear map of all vectors, which starts as the
            identity.
        normalise: divide by the length, ``x / max(|x|, 1e-12)``.
        missing: add a component that is 1 for a missing vector.

    >>> Vector("image", size=512, projection=16).width  # with the component for a missing vector
    17
    """

    name: str
    size: int | None = None
    context: bool = False
    projection: int | None = None
    frozen: bool = True
    normalise: bool = False
    missing: bool = True

    reads_lists: ClassVar[bool] = True
    file_keys: ClassVar[tuple[str, ...]] = ("projection", "frozen", "normalise", "missing")
    fitted: ClassVar[tuple[str, ...]] = ("size",)

    def __post_init__(self) -> None:
        for field in ("size", "projection"):
            if getattr(self, field) is not None and getattr(self, field) < 1:
                raise InputError(f"feature {self.name!r}: {field} must be at least 1, not {getattr(self, field)}")

    @property
    def raw(self) -> dict[str, Values]:
        """D numbers."""
        return {self.name: Values("float32", (self.size or 1,))}

    @property
    def width(self) -> int:
        """The width after the projection, and one for the indicator."""
        return (self.projection or self.size or 1) + self.missing

    def read(self, columns: Columns) -> dict[str, np.ndarray]:
        """Reads vectors; an empty one is missing, and another length is an error."""
        cells, sizes = columns.elements(self.name, gaps=True)
        size = self.size or int(sizes.max(initial=1))
        columns.refuse((sizes != size) & (sizes > 0), sizes, f"feature {self.name!r} has the wrong number of "
                       "components", f"each vector must have {size}, or be empty if it is missing")
        found = np.full((len(sizes), size), np.nan, np.float32)
        if sizes.any():
            found[sizes > 0] = cells.values(self.name, Values("float32")).reshape(-1, size)
        return {self.name: found}

    def fit(self, columns: Columns, min_count: int) -> Self:
        """Fits the length of the vectors."""
        return dataclasses.replace(self, size=self.read(columns)[self.name].shape[1])

    def layer(self, dtype: Any, others: Mapping[str, Any]) -> Any:
        """The trained linear maps; None without any."""
        from tfmtl2r.layers.linear_maps import LinearMaps

        if self.frozen and self.projection is None:
            return None
        return LinearMaps(self.size or 1, not self.frozen, self.projection, dtype=dtype, name=f"vector_{self.key}")

    def encode(self, tensors: Mapping[str, Any], layers: Mapping[str, Any]) -> Any:
        """The vector, and the indicator."""
        from tfmtl2r._backend import tf

        known = self.known(tensors)[:, None]
        value = tf.where(known, tensors[self.name], 0.0)
        if self.normalise:
            value /= tf.maximum(tf.norm(value, axis=-1, keepdims=True), 1e-12)
        value = tf.cast(layers[self.name](value), tf.float32) if self.name in layers else value
        return tf.concat([value, tf.cast(~known, value.dtype)], axis=-1) if self.missing else value

    def known(self, tensors: Mapping[str, Any]) -> Any:
        """True if all components are finite."""
        from tfmtl2r._backend import tf

        return tf.reduce_all(tf.math.is_finite(tensors[self.name]), axis=-1)

    def example(self, shape: tuple[int, ...], random: np.random.Generator) -> dict[str, np.ndarray]:
        """Normally distributed components."""
        return {self.name: random.standard_normal((*shape, self.size or 1)).astype(np.float32)}

    def written(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Replaces missing numbers by 0, since JSON has no NaN."""
        return {name: np.nan_to_num(value) for name, value in values.items()}
