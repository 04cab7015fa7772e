"""The tensors of a feature, and the table from which features read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from tfmtl2r.features.base import Feature

_MISSING = {"float32": float("nan"), "int64": -1, "string": "", "int32": 0}


@dataclasses.dataclass(frozen=True)
class Values:
    """One tensor of a feature.

    Args:
        dtype: ``"float32"``, ``"int32"``, ``"int64"`` or ``"string"``.
        shape: the axes after the axes of lists and items; ``(None,)`` for values of any number, as in a bag. The input
            ``<name>_size``, :func:`size_of`, then contains their number.
    """

    dtype: str
    shape: tuple[int | None, ...] = ()

    @property
    def missing(self) -> Any:
        """The value that represents a missing value in tables, files and requests: NaN, -1, ``""``, or the size 0."""
        return _MISSING[self.dtype]

    @property
    def array_type(self) -> Any:
        """The type of a numpy array of such values."""
        return object if self.dtype == "string" else np.dtype(self.dtype)

    def spec(self, axes: Sequence[int | None]) -> Any:
        """The ``tf.TensorSpec`` with these axes of lists and items."""
        from tfmtl2r._backend import tf

        return tf.TensorSpec([*axes, *self.shape], tf.as_dtype(self.dtype))


def size_of(name: str) -> str:
    """The name of the input with the lengths of the input ``name``, whose last axis is padded.

    >>> size_of("tags")
    'tags_size'
    """
    return f"{name}_size"


class Columns(Protocol):
    """A table from which features read: one row per item, or per list for a feature of the list."""

    def identities(self, name: str) -> np.ndarray:
        """A column whose values are only compared, ``[N]``: exact integers, text, or whole floats below 2**53.

        In a text file, all values are text, also where they spell numbers.

        Raises:
            ValueError: for a column that does not exist, or values that are not exact.
        """

    def numbers(self, name: str) -> np.ndarray:
        """A column of numbers in the type that it has, ``[N, ...]``; NaN is missing.

        Raises:
            ValueError: for a column that does not exist, or is not numeric.
        """

    def components(self, name: str) -> Iterator[np.ndarray]:
        """The numbers of a column, one component after the other, each ``[N]``.

        Raises:
            ValueError: as for :meth:`numbers`.
        """

    def check(self, feature: Feature) -> None:
        """Reads all values of a feature, a part after the other where the table is large.

        Raises:
            ValueError: for values that the feature cannot read.
        """

    def values(self, name: str, wanted: Values) -> np.ndarray:
        """A column, checked and converted. Text is an object array of ``str``.

        Raises:
            ValueError: for values of another kind or shape; the message contains the row of the first such value.
        """

    def separator(self, name: str) -> str:
        """What splits the texts of a column that is read as lists; empty if it has no such texts."""

    def elements(self, name: str, separator: str = "", gaps: bool = False) -> tuple[Columns, np.ndarray]:
        """A column whose cells are lists, as a table with one row per element, and the lengths of the lists ``[N]``.

        A cell of text is a JSON list or is split, as in :mod:`tfmtl2r.data.ragged`. Another cell is a list of one.

        Args:
            name: the column.
            separator: splits a cell of text; empty to choose it from the cells.
            gaps: whether elements keep their places, also behind missing ones, as those of a vector do.
        """

    def refuse(self, wrong: np.ndarray, values: np.ndarray, what: str, advice: str) -> None:
        """Raises a ValueError for the first wrong value, if there is any.

        Args:
            wrong: ``bool[N, ...]``.
            values: the values, of the same shape.
            what: the beginning of the message, followed by value, row, list and count.
            advice: the end of the message.
        """
