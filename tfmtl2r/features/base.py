"""What every kind of feature is: the columns that it reads, and the way from there to numbers that a network reads.

A kind is declared without TensorFlow. Methods that make tensors or layers import it when they are called.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self

import numpy as np

FEW_INTEGERS = 64
"""Up to so many different integers in a column are names rather than numbers."""


_MISSING = {"float32": float("nan"), "int64": -1, "string": ""}


@dataclasses.dataclass(frozen=True)
class Values:
    """One tensor of a feature.

    Args:
        dtype: ``"float32"``, ``"int32"``, ``"int64"`` or ``"string"``.
        shape: the axes behind those of lists and items.
    """

    dtype: str
    shape: tuple[int, ...] = ()

    @property
    def missing(self) -> Any:
        """What stands for a missing value in tables, files and requests: NaN, -1 or ``""``."""
        return _MISSING[self.dtype]

    def spec(self, axes: Sequence[int | None]) -> Any:
        """The ``tf.TensorSpec`` behind these axes of lists and items."""
        from tfmtl2r._backend import tf

        return tf.TensorSpec([*axes, *self.shape], tf.as_dtype(self.dtype))


class Columns(Protocol):
    """A table as a feature reads it: one row per item, or per list for a feature of the list."""

    def stored(self, name: str) -> np.ndarray:
        """A column as it is, ``[N, ...]``.

        Raises:
            ValueError: for a column that does not exist, or varies in a list although it belongs to the list.
        """

    def values(self, name: str, wanted: Values) -> np.ndarray:
        """A column checked and converted; text is an object array of ``str``.

        Raises:
            ValueError: for values of another kind or shape, with the row of the first one.
        """

    def refuse(self, wrong: np.ndarray, values: np.ndarray, what: str, advice: str) -> None:
        """Raises a ValueError for the first wrong value, if there is any.

        Args:
            wrong: ``bool[N, ...]``.
            values: the values, of that shape.
            what: the beginning of the message; value, row, list and count follow.
            advice: the end of the message.
        """


class Feature:
    """Base class of all kinds of features. A kind is a frozen dataclass with at least ``name`` and ``context``.

    A feature has one or more *inputs*, tensors that a request contains by name. The first input is called like the
    feature. After the lookup, which runs in the input pipeline and in front of an exported graph, each input has the
    type that a training step reads.

    Shapes: B lists of L items, or N plain rows. A tensor of the feature is ``[B, L, ...]``, ``[B, ...]`` if it belongs
    to the list, ``[N, ...]`` for plain rows; :class:`Values` describes what follows. Encoders see rows, ``[n, ...]``.

    Attributes:
        name: of the feature.
        context: True for a feature of the whole list, False for a feature of each item.

    Class attributes:
        embedded: whether the encoded feature is a learnt vector that can be multiplied with other such vectors.
            Encoded features stand in the order of the schema, embedded ones behind the others.
        file_keys: keys of an entry of ``[[features]]`` in an experiment file that this kind reads.
    """

    name: str
    context: bool
    embedded: ClassVar[bool] = False
    file_keys: ClassVar[tuple[str, ...]] = ()

    @property
    def raw(self) -> dict[str, Values]:
        """The inputs as a request contains them, by name. A table has a column for each of them."""
        raise NotImplementedError

    @property
    def looked_up(self) -> dict[str, Values]:
        """The inputs after the lookup, under the same names; by default unchanged."""
        return self.raw

    @property
    def width(self) -> int:
        """Numbers per item of the encoded feature."""
        raise NotImplementedError

    @property
    def key(self) -> str:
        """The name in variables and files: :func:`safe_name` of the feature's name."""
        return safe_name(self.name)

    # A table

    @classmethod
    def inferred(cls, name: str, values: np.ndarray, context: bool) -> Self | None:
        """The feature that an undeclared column becomes; None, the default, where it is not one of this kind.

        Args:
            name: of the column.
            values: ``[N, ...]``, as stored.
            context: whether the column belongs to the list.
        """
        return None

    @classmethod
    def of_entry(cls, name: str, values: np.ndarray, context: bool, options: Mapping[str, Any]) -> Self:
        """The feature that an entry of an experiment file declares; by default its keys are the options of the class.

        Args:
            name, values, context: as for :meth:`inferred`.
            options: by key, of :attr:`file_keys` only.
        """
        return cls(name=name, context=context, **options)  # type: ignore[call-arg]

    def read(self, columns: Columns) -> dict[str, np.ndarray]:
        """The inputs of a table, checked: as declared in :attr:`raw`, one row per item (or list).

        Raises:
            ValueError: for a missing column, or values that the feature cannot read.
        """
        return {name: columns.values(name, values) for name, values in self.raw.items()}

    def fit(self, columns: Columns, min_count: int) -> Self:
        """The feature with all statistics of the training split; what was given stays. By default nothing is fitted.

        Args:
            columns: of the training split.
            min_count: values of text and integers that occur less often count as unknown.
        """
        return self

    # A graph

    def lookups(self) -> dict[str, Any]:
        """Layers that map raw inputs to looked-up ones, by input; the other inputs are cast."""
        return {}

    def layer(self, dtype: Any, others: Mapping[str, Any]) -> Any:
        """The layer with the feature's variables, built; None, the default, without variables.

        In files its weights stand under the feature's name.

        Args:
            dtype: a Keras dtype policy.
            others: layers of the features before it in the schema, by name, which it may share.
        """
        return None

    def encode(self, tensors: Mapping[str, Any], layers: Mapping[str, Any]) -> Any:
        """The feature as numbers that a network reads, ``[n, width]``.

        Args:
            tensors: looked-up inputs by name, ``[n, ...]``.
            layers: of all features that have one, by name of the feature.
        """
        raise NotImplementedError

    @classmethod
    def encode_all(
        cls, features: Sequence[Self], tensors: Mapping[str, Any], layers: Mapping[str, Any]
    ) -> list[Any]:
        """Several features of this kind: :meth:`encode` of each, or all of them side by side in one tensor.

        Args:
            features: in the order of their columns.
            tensors, layers: as for :meth:`encode`.
        """
        return [feature.encode(tensors, layers) for feature in features]

    def known(self, tensors: Mapping[str, Any]) -> Any:
        """Where the feature has a value, ``bool[n]``; by default everywhere."""
        return True

    # A request

    def example(self, shape: tuple[int, ...], random: np.random.Generator) -> dict[str, np.ndarray]:
        """Likely raw values, for warm-up and checks of an export.

        Args:
            shape: of lists and items; the shapes of :attr:`raw` follow.
            random: where they come from.
        """
        raise NotImplementedError

    def unknown(self) -> dict[str, Any]:
        """A missing or unknown raw value of each input."""
        return {name: values.missing for name, values in self.raw.items()}

    def written(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Raw values without what JSON cannot hold."""
        return values

    def parsing(self) -> dict[str, Any]:
        """How TensorFlow parses the inputs from ``tf.Example``; one number is parsed as a vector of one."""
        from tfmtl2r._backend import tf

        sizes = {name: math.prod(values.shape) for name, values in self.raw.items()}
        return {name: tf.io.FixedLenFeature([sizes[name]], tf.as_dtype(values.dtype), [values.missing] * sizes[name])
                for name, values in self.raw.items()}

    def parsed(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Raw inputs from what :meth:`parsing` gave, ``[B, size]`` or ``[B, L, size]`` each."""
        from tfmtl2r._backend import tf

        return {name: tf.reshape(tensors[name], tf.concat([tf.shape(tensors[name])[:-1], values.shape], 0))
                if len(values.shape) > 1 else tensors[name] if values.shape else tf.squeeze(tensors[name], axis=-1)
                for name, values in self.raw.items()}

    def fill(self, example: Any, values: Mapping[str, Any]) -> None:
        """Writes one value of each input into a ``tf.Example``; missing numbers are left out."""
        for name, value in values.items():
            field = example.features.feature[name]
            if np.asarray(value).dtype.kind == "f":
                if np.isnan(value).all():
                    del example.features.feature[name]
                else:
                    field.float_list.value.extend(np.ravel(value).tolist())
            elif np.asarray(value).dtype.kind in "iu":
                field.int64_list.value.extend(np.ravel(value).tolist())
            else:
                cells = [value] if isinstance(value, (str, bytes)) else np.ravel(value).tolist()
                field.bytes_list.value.extend(cell if isinstance(cell, bytes) else str(cell).encode() for cell in cells)


def safe_name(name: str) -> str:
    """A name that can stand in variables, layers and files.

    Letters, digits and underscores stay; a name with other signs gets a digest, so that different names stay
    different.

    >>> safe_name("brand"), safe_name("Product Type"), safe_name("a/b")
    ('brand', 'Product_Type_f123dc0e', 'a_b_c14cddc0')
    """
    clean = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return clean if clean == name else f"{clean}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def names_things(values: np.ndarray) -> bool:
    """Whether a column names things rather than measures: text, or at most 64 different integers."""
    if values.dtype.kind in "OU":
        return True
    return values.dtype.kind in "iub" and values.ndim == 1 and len(np.unique(values)) <= FEW_INTEGERS
