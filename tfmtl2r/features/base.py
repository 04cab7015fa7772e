"""Base class of all kinds of features: a kind reads columns of a table and encodes their values for a network.

A kind is declared without TensorFlow. Methods that make tensors or layers import it when they are called.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from tfmtl2r.errors import InputError, not_defined
from tfmtl2r.features._columns import Columns, Values, size_of
from tfmtl2r.features._contents import MISSING, content, doubt, names_things
from tfmtl2r.names import safe_name

if TYPE_CHECKING:
    from tfmtl2r.batch import Batch

__all__ = ["MISSING", "Columns", "Feature", "Values", "content", "doubt", "names_things", "size_of"]


class Feature:
    """Base class of all kinds of features. A kind is a frozen dataclass with at least ``name`` and ``context``.

    A feature has one or more *inputs*, tensors that a request contains by name. The first input has the name of the
    feature. The lookup runs in the input pipeline, and before an exported graph. After the lookup, each input has the
    type that a training step reads.

    Shapes: B lists of L items, or N plain rows. A tensor of the feature is ``[B, L, ...]``, ``[B, ...]`` if it belongs
    to the list, or ``[N, ...]`` for plain rows. :class:`Values` describes the other axes. Encoders receive rows,
    ``[n, ...]``.

    Attributes:
        name: name of the feature.
        context: True for a feature of the whole list, False for a feature of each item.

    Class attributes:
        embedded: whether the encoded feature is a learnt vector that can be multiplied with other such vectors.
            Encoded features are in the order of the schema, but embedded features come after all others.
        reads_names: whether values are names, which are only compared. :meth:`of_entry` then receives the column as
            :meth:`Columns.identities` returns it, otherwise as numbers.
        reads_lists: whether the cells of the column are lists of values.
        by_component: whether the components of a value are numbers that may change one by one.
        file_keys: the keys of an entry ``[[features]]`` of an experiment file that this kind reads.
        fitted: the options that :meth:`fit` finds in the training split.
        after_lookup: fitted options that are used after the lookup, so that looked-up values do not depend on them, and
            those that describe :attr:`inside`.
        reading: the options that concern the table only, and no value of the encoded feature.
    """

    name: str
    context: bool
    shares: str = ""
    """The name of another feature with the same ids. Its lookup and its embedding table serve this feature, too."""
    embedded: ClassVar[bool] = False
    reads_names: ClassVar[bool] = False
    reads_lists: ClassVar[bool] = False
    by_component: ClassVar[bool] = False
    file_keys: ClassVar[tuple[str, ...]] = ()
    fitted: ClassVar[tuple[str, ...]] = ()
    after_lookup: ClassVar[tuple[str, ...]] = ()
    reading: ClassVar[tuple[str, ...]] = ()

    @property
    def raw(self) -> dict[str, Values]:
        """The inputs in a request, by name."""
        raise not_defined(self, "raw")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a table that the feature reads; by default a column for each input."""
        return tuple(self.raw)

    @property
    def looked_up(self) -> dict[str, Values]:
        """The inputs after the lookup, under the same names; by default unchanged."""
        return self.raw

    @property
    def known_values(self) -> tuple[Any, ...] | None:
        """The values that the training split contained; None (the default) if the feature does not know them."""
        return None

    def as_known(self, values: np.ndarray) -> np.ndarray:
        """Raw values in the form of :attr:`known_values`; by default unchanged."""
        return values

    @property
    def width(self) -> int:
        """Number of values per item in the encoded feature."""
        raise not_defined(self, "width")

    @property
    def borrowed(self) -> tuple[str, ...]:
        """Inputs that other features may read, too, if all of them read them in the same way; none by default."""
        return ()

    def reading_of(self, name: str) -> Any:
        """How the feature reads an input; features that read the same input must have equal results."""
        return self.context, self.raw[name]

    @property
    def target(self) -> str:
        """The name of a feature of the items with which this feature is compared; empty (the default) for none.

        The feature then has a value for each item, also if it belongs to the list. It is encoded by :meth:`compare`.
        """
        return ""

    @property
    def key(self) -> str:
        """The name in variables and files: :func:`tfmtl2r.names.safe_name` of the feature's name."""
        return safe_name(self.name)

    @property
    def list_context(self) -> bool:
        """Whether the encoded feature of an item depends on the other items of its list; by default not."""
        return False

    def joined(self, owner: Feature) -> Self:
        """The feature with everything that it takes over from the feature that :attr:`shares` names.

        :class:`tfmtl2r.schema.Schema` calls this when it is made.
        """
        return self

    # A table

    @classmethod
    def inferred(
        cls, name: str, values: np.ndarray, context: bool, sizes: np.ndarray | None = None
    ) -> Self | None:
        """The feature for a column that is not declared; None (the default) if this kind does not suit the column.

        Args:
            name: name of the column.
            values: ``[N, ...]``; a missing integer is -1, and the values of a category type are objects.
            context: whether the column belongs to the list.
            sizes: for a column of lists, the lengths of the lists; ``values`` are then the elements of all lists.
        """
        return None

    @classmethod
    def of_entry(cls, name: str, values: np.ndarray, context: bool, options: Mapping[str, Any]) -> Self:
        """The feature for an entry of an experiment file. By default the keys are the options of the class.

        Args:
            name, values, context: as for :meth:`inferred`.
            options: value of each given key of :attr:`file_keys`.
        """
        return cls(name=name, context=context, **options)  # type: ignore[call-arg]

    def separator_of(self, column: str) -> str:
        """What splits a cell of text of a column with lists; empty, the default, to choose it from the cells."""
        return ""

    def read(self, columns: Columns) -> dict[str, np.ndarray]:
        """Reads and checks the inputs in a table: types as in :attr:`raw`, one row per item (or list).

        Raises:
            ValueError: for a missing column, or values that the feature cannot read.
        """
        return {name: columns.values(name, values) for name, values in self.raw.items()}

    def fit(self, columns: Columns, min_count: int) -> Self:
        """Returns the feature with all statistics of the training split. Given statistics do not change.

        By default nothing is fitted.

        Args:
            columns: columns of the training split.
            min_count: text and integer values that occur less often count as unknown.
        """
        return self

    def continued(self, earlier: Self, keep: bool) -> Self:
        """The feature for a training that starts from the weights of an earlier run.

        Args:
            earlier: the feature of the same name in the earlier run.
            keep: True to keep the earlier statistics, False for those of this feature, which is fitted on new data.

        Raises:
            ValueError: for kept statistics of other options.
        """
        if not keep:
            return self
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            mine, theirs = getattr(self, field.name), getattr(earlier, field.name)
            if field.name not in (*self.fitted, *self.reading) and mine != theirs:
                raise self.refused(field.name, mine, theirs)
        return dataclasses.replace(self, **{name: getattr(earlier, name) for name in self.fitted})  # type: ignore

    def refused(self, option: str, mine: Any, theirs: Any) -> InputError:
        """The error for an option that has another value than in an earlier run whose statistics are kept."""
        return InputError(f"feature {self.name!r}: {option} is {mine!r}, but {theirs!r} in the earlier run, whose "
                          "statistics are kept: declare the same in [[features]], or set start.statistics = \"refit\"")

    def rows(self, earlier: Self) -> np.ndarray | None:
        """For each row of the feature's table, the row of the same value in the table of an earlier run; -1 for a new
        value. None, the default, if the rows have not changed or there is no table."""
        return None

    @property
    def inside(self) -> tuple[Feature, ...]:
        """Features of which this one is made, such as the side columns of a history; none by default."""
        return ()

    # A graph

    def looks_up_as(self, other: Feature) -> bool:
        """Whether both features make the same looked-up inputs of every row."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        names = [field.name for field in fields if field.name not in self.after_lookup]
        parts = zip(self.inside, other.inside, strict=False)  # as many as the options name, which are compared
        return type(self) is type(other) and all(getattr(self, name) == getattr(other, name) for name in names) and \
            all(one.looks_up_as(two) for one, two in parts)

    def lookups(self) -> dict[str, Any]:
        """Layers that map raw inputs to looked-up inputs, by name of the input. Other inputs are only cast."""
        return {}

    def layer(self, dtype: Any, others: Mapping[str, Any]) -> Any:
        """The built layer with the feature's variables; None (the default) for a feature without variables.

        Files contain the layer's weights under the feature's name.

        Args:
            dtype: a Keras dtype policy.
            others: layers of the earlier features in the schema, by name. The layer may share them.
        """
        return None

    def encode(self, tensors: Mapping[str, Any], layers: Mapping[str, Any]) -> Any:
        """The encoded feature, ``[n, width]``.

        Args:
            tensors: looked-up inputs by name, ``[n, ...]``.
            layers: all layers of features, by name of the feature.
        """
        raise not_defined(self, "encode")

    def compare(
        self, tensors: Mapping[str, Any], target: Any, layers: Mapping[str, Any], repeated: Callable[[Any], Any]
    ) -> Any:
        """The encoded feature of every item, ``[n, width]``, in comparison with the feature :attr:`target`.

        Args:
            tensors: looked-up inputs by name: ``[B, ...]`` for a feature of the list, otherwise ``[n, ...]``.
            target: the encoded target of every item, ``[n, width of the target]``.
            layers: all layers of features, by name of the feature.
            repeated: turns ``[B, ...]`` into ``[n, ...]``; for a feature of the items it changes nothing.
        """
        raise not_defined(self, "compare")

    @classmethod
    def encode_all(
        cls, features: Sequence[Self], tensors: Mapping[str, Any], layers: Mapping[str, Any],
        batch: Batch | None = None, training: bool = False,
    ) -> list[Any]:
        """Encodes several features of this kind: :meth:`encode` of each, or one concatenated tensor.

        Args:
            features: the features, in the order of their columns in the result.
            tensors, layers: as for :meth:`encode`.
            batch: the batch whose real items, or lists for features of the list, are the rows. None for rows that
                belong to no list, such as the elements of a history.
            training: True in a training step.
        """
        return [feature.encode(tensors, layers) for feature in features]

    def known(self, tensors: Mapping[str, Any]) -> Any:
        """Whether the feature has a value, ``bool[n]``; by default True."""
        return True

    # A request

    def example(self, shape: tuple[int, ...], random: np.random.Generator) -> dict[str, np.ndarray]:
        """Plausible raw values, for warm-up and checks of an export.

        Args:
            shape: axes of lists and items, which come before the shapes of :attr:`raw`.
            random: generator of random numbers.
        """
        raise not_defined(self, "example")

    def unknown(self) -> dict[str, Any]:
        """A missing or unknown raw value of each input."""
        return {name: values.missing for name, values in self.raw.items()}

    def hidden(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Raw values of real data as files may contain them; by default unchanged."""
        return values

    def written(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Raw values, without values that JSON cannot represent."""
        return values

    def parsing(self) -> dict[str, Any]:
        """How TensorFlow parses the inputs from ``tf.Example``. A single number is parsed as a vector of length one."""
        from tfmtl2r._backend import tf

        sizes = {name: math.prod(size or 1 for size in values.shape) for name, values in self.raw.items()}
        return {name: tf.io.FixedLenFeature([sizes[name]], tf.as_dtype(values.dtype), [values.missing] * sizes[name])
                for name, values in self.raw.items()}

    def parsed(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Raw inputs from tensors that were parsed with :meth:`parsing`, each ``[B, size]`` or ``[B, L, size]``."""
        from tfmtl2r._backend import tf

        return {name: tf.reshape(tensors[name], tf.concat([tf.shape(tensors[name])[:-1], values.shape], 0))
                if len(values.shape) > 1 else tensors[name] if values.shape else tf.squeeze(tensors[name], axis=-1)
                for name, values in self.raw.items()}

    def in_example(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """One value of each input in the form of a ``tf.Example``, which contains lists without padding."""
        return dict(values)

    def fill(self, example: Any, values: Mapping[str, Any]) -> None:
        """Writes one value of each input into a ``tf.Example``; missing numbers are left out."""
        for name, value in self.in_example(values).items():
            kind = np.asarray(value).dtype.kind
            if name in example.features.feature or (kind == "f" and np.isnan(value).all()):
                continue  # another feature reads the input, too, or the value is missing
            field = example.features.feature[name]
            if kind == "f":
                field.float_list.value.extend(np.ravel(value).tolist())
            elif kind in "iu":
                field.int64_list.value.extend(np.ravel(value).tolist())
            else:
                cells = [value] if isinstance(value, (str, bytes)) else np.ravel(value).tolist()
                field.bytes_list.value.extend(cell if isinstance(cell, bytes) else str(cell).encode() for cell in cells)
