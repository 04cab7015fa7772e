"""Lists in memory: the columns of :class:`Lists` contain the items of all lists, one list after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tfmtl2r.data import fingerprints
from tfmtl2r.data.prepared import Elsewhere, Prepared
from tfmtl2r.data.stored import NO_FILE, Column, Source, Stored
from tfmtl2r.data.vectors import Vectors
from tfmtl2r.errors import InputError
from tfmtl2r.names import did_you_mean
from tfmtl2r.types import Array

if TYPE_CHECKING:
    from tfmtl2r.data.ragged import Ragged

_PART = 1 << 22
"""Numbers in a part of lists with vectors in a file."""


@dataclasses.dataclass(frozen=True, eq=False)
class Lists:
    """A table of N items in consecutive lists, or N plain rows without lists.

    Args:
        columns: name -> array ``[N]`` or ``[N, D]``. Text is an object array of ``str``; ``""`` is a missing value.
        offsets: ``int64[n_lists + 1]``: items of list i are ``offsets[i]:offsets[i + 1]``; None for plain rows.
        ids: ``[n_lists]``, the id of each list; by default 0, 1, 2, ...
        context: names of context columns, which belong to the whole list. They must have one value in each list.
        list_id: the column with the ids of the lists; it is not a feature.
        source_rows: ``int64[N]``, the row of each item in the source table, so that scores can be returned in the order
            of this table; by default 0, 1, 2, ...
        source: the files of the source table, for error messages.
        prepared: the values of a store, if the columns lie elsewhere (:mod:`tfmtl2r.data.prepared`).

    Raises:
        ValueError: for columns of different lengths, a list without items, or a context column that varies in a list.

    >>> lists = Lists({"price": np.array([3.0, 1.0, 2.0])}, offsets=np.array([0, 2, 3]), ids=np.array(["a", "b"]))
    >>> lists.num_lists, lists.num_items, lists.sizes.tolist()
    (2, 3, [2, 1])
    >>> lists.select([1]).columns["price"].tolist()
    [2.0]
    """

    columns: Mapping[str, Any]
    offsets: np.ndarray | None = None
    ids: np.ndarray | None = None
    context: tuple[str, ...] = ()
    list_id: str | None = None
    source_rows: np.ndarray | None = None
    source: Source = NO_FILE
    prepared: Prepared | None = None

    def __post_init__(self) -> None:
        columns = Stored(self.columns)
        lengths = {name: len(column) for name, column in columns.columns.items()}
        if not lengths or 0 in lengths.values():
            raise InputError(f"expected at least one column with at least one row, got {lengths or 'no column'}")
        if len(set(lengths.values())) > 1:
            raise InputError(f"columns differ in length: {lengths}")
        object.__setattr__(self, "columns", columns)
        if self.source_rows is None and self.prepared is None:
            object.__setattr__(self, "source_rows", np.arange(self.num_items))
        object.__setattr__(self, "context", tuple(self.context))
        if self.offsets is not None:
            self._check_offsets()
        elif self.context:
            raise InputError(f"plain rows have no context columns, got {self.context}: give a list id, or no context")
        for name in self.context if self.prepared is None else ():
            if self.kept(name).holds_lists:
                self.elements_of_lists(name)
            elif isinstance(column := self.kept(name), Vectors):
                for values in column.components():
                    self.first_of_lists(name, values)
            else:
                self.first_of_lists(name)

    def _check_offsets(self) -> None:
        offsets = np.asarray(self.offsets, np.int64)
        sizes = np.diff(offsets)
        if offsets.ndim != 1 or len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != self.num_items:
            raise InputError(f"offsets must run from 0 to the number of items, {self.num_items}, got {offsets}")
        if sizes.min() < 1:
            raise InputError(f"list {int(sizes.argmin())} has {sizes.min()} items; each list needs at least one")
        ids = np.arange(len(sizes)) if self.ids is None else np.asarray(self.ids)
        if len(ids) != len(sizes):
            raise InputError(f"{len(ids)} ids were given for {len(sizes)} lists")
        object.__setattr__(self, "offsets", offsets)
        object.__setattr__(self, "ids", ids)

    @property
    def stored(self) -> Stored:
        """The columns, which convert when they are read."""
        return cast(Stored, self.columns)

    @property
    def is_rows(self) -> bool:
        """True for plain rows without lists."""
        return self.offsets is None

    @property
    def num_items(self) -> int:
        """N, the number of items (rows)."""
        return len(next(iter(self.stored.columns.values())))

    @property
    def num_lists(self) -> int:
        """The number of lists. Each plain row counts as a list."""
        return self.num_items if self.offsets is None else len(self.offsets) - 1

    @property
    def sizes(self) -> np.ndarray:
        """``int64[n_lists]``, the number of items of each list; 1 for each plain row."""
        return np.ones(self.num_items, np.int64) if self.offsets is None else np.diff(self.offsets)

    def ready(self, name: str) -> Prepared | None:
        """The prepared values, if the column lies elsewhere."""
        return self.prepared if isinstance(self.stored.columns.get(name), Elsewhere) else None

    def parts(self, items: int = 1 << 18) -> Iterator[Lists]:
        """The lists, a part of about this number of items after the other, if they are in a store or hold vectors that
        are in a file.

        Lists in memory are one part. A caller that needs sums over all items therefore needs little memory.
        """
        width = max((len(column.chosen) for column in self.stored.columns.values() if isinstance(column, Vectors)),
                    default=0)
        if self.prepared is None and not width:
            yield self
            return
        items = min(items, max(1, _PART // max(width, 1)))
        step = max(1, items * self.num_lists // self.num_items)
        for first in range(0, self.num_lists, step):
            yield self.select(np.arange(first, min(first + step, self.num_lists)))

    def parts_of(self, names: Iterable[str]) -> Iterator[Lists]:
        """The lists, or if one of these columns holds vectors in a file, parts of them with only these columns."""
        mine = {name: self.kept(name) for name in names if name in self.columns}
        if not any(isinstance(column, Vectors) for column in mine.values()):
            yield self
            return
        context = tuple(name for name in self.context if name in mine)
        yield from dataclasses.replace(self, columns=mine, context=context).parts()

    def column(self, name: str) -> np.ndarray:
        """Returns the values of a column.

        Raises:
            ValueError: for an unknown name; the message contains the most similar names.
        """
        return self.kept(name).values

    def identities(self, name: str) -> np.ndarray:
        """Returns a column as ids, which are exact (:mod:`tfmtl2r.data.stored`)."""
        return self.kept(name).identities

    def kept(self, name: str) -> Column:
        """Returns a column that may not be converted yet; an unknown name is an error as for :meth:`column`."""
        if name not in self.columns:
            raise InputError(missing_column(name, self.columns))
        return self.stored.columns[name]

    def first_of_lists(self, name: str, values: np.ndarray | None = None) -> np.ndarray:
        """Returns the values of a context column, one per list: ``[n_lists]`` or ``[n_lists, D]``.

        Args:
            name: the column.
            values: its values in another reading, ``[N, ...]``.

        Raises:
            ValueError: if the column varies within a list; the message contains the first such list.
        """
        values = self.column(name) if values is None else values
        if self.offsets is None:
            return values
        first = values[self.offsets[:-1]]
        spread = np.repeat(first, self.sizes, axis=0)
        differs = (values != spread) & ((values == values) | (spread == spread))  # NaN and NaT are like themselves
        differs = differs.reshape(len(values), -1).any(axis=1)
        if differs.any():
            item = int(differs.argmax())
            raise self._varies(name, item, repr(values[item]), repr(spread[item]))
        return first

    def elements_of_lists(self, name: str, separator: str = "", gaps: bool = False) -> Ragged:
        """Returns a context column whose cells are lists, one cell per list of items.

        Args:
            name: the column.
            separator, gaps: as for :meth:`tfmtl2r.data.stored.Column.elements`.

        Raises:
            ValueError: if the column varies within a list of items; the message contains the first such list.
        """
        cells = self.kept(name).elements(separator, gaps)
        if self.offsets is None:
            return cells
        first = np.repeat(self.offsets[:-1], self.sizes)
        differs = cells.sizes != cells.sizes[first]
        if not differs.any() and cells.sizes.any():
            flat = cells.flat.values if cells.flat.values.dtype.kind == "f" else cells.flat.identities
            other = flat[cells.places(first)]
            unequal = (flat != other) & ((flat == flat) | (other == other))
            differs[np.repeat(np.arange(len(cells)), cells.sizes)[unequal]] = True
        if differs.any():
            item = int(differs.argmax())
            raise self._varies(name, item, f"a list of {cells.sizes[item]}", f"another, of {cells.sizes[first[item]]},")
        return cells.take(self.offsets[:-1])

    def _varies(self, name: str, item: int, found: str, start: str) -> InputError:
        return InputError(f"column {name!r} is a context column, but its value varies within a list: {found} in "
                          f"{self.place(item)}, {start} at the start of this list; give the rows of a list one value, "
                          "or train with the column as a feature of the item (without it in data.context; in Python, "
                          "with context=False)")

    def in_order_of_rows(self, values: np.ndarray) -> np.ndarray:
        """Returns values per item, ``[N, ...]``, in the order of the rows of the source table."""
        if self.source_rows is None:
            raise InputError("lists of a store do not know the rows of the files of which the store was made: read the "
                             "files")
        ordered = np.empty_like(values)
        ordered[self.source_rows] = values
        return ordered

    def place(self, item: int) -> str:
        """Describes the row and the list of an item, for error messages."""
        row = self.source.row(int(item if self.source_rows is None else self.source_rows[item]))
        if self.offsets is None or self.ids is None:
            return row
        found = self.ids[np.searchsorted(self.offsets, item, side="right") - 1]
        return f"{row}, list {getattr(found, 'item', lambda: found)()!r}"

    def select(self, list_indices: Array) -> Lists:
        """Returns the lists (for plain rows: the rows) of these indices, in their order, or of a boolean mask."""
        indices = np.asarray(list_indices)
        indices = np.flatnonzero(indices) if indices.dtype == bool else indices.astype(np.int64)
        if self.offsets is None or self.ids is None:
            return self._taken(indices, None, None, indices)
        sizes = self.sizes[indices]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        items = np.arange(offsets[-1]) + np.repeat(self.offsets[indices] - offsets[:-1], sizes)
        return self._taken(items, offsets, self.ids[indices], indices)

    def keep(self, items: np.ndarray) -> Lists:
        """Returns the lists without the items for which ``items``, ``bool[N]``, is False. No list may become empty."""
        if self.offsets is None:
            return self._taken(np.flatnonzero(items), None, None)
        counts = np.add.reduceat(items.astype(np.int64), self.offsets[:-1])
        return self._taken(np.flatnonzero(items), np.concatenate([[0], np.cumsum(counts)]), self.ids)

    def _taken(
        self, items: np.ndarray, offsets: np.ndarray | None, ids: np.ndarray | None, lists: np.ndarray | None = None
    ) -> Lists:
        rows = None if self.source_rows is None else self.source_rows[items]
        prepared = None if self.prepared is None or lists is None else self.prepared.take(lists)
        return dataclasses.replace(
            self, columns=self.stored.take(items), offsets=offsets, ids=ids, source_rows=rows,
            prepared=prepared,
        )

    def with_column(self, name: str, values: np.ndarray) -> Lists:
        """Returns the lists with an additional column. If a column has this name, the new column replaces it."""
        return dataclasses.replace(self, columns=self.stored.having(name, values))

    def fingerprint(self) -> str:
        """Returns a digest of the content for run cards, with the version of its definition: ``"2:..."``.

        The fingerprint is the sum of the digests of the lists (:mod:`tfmtl2r.data.fingerprints`). It depends on the
        order of the items in a list. It does not depend on the order of the lists, on the types of the columns, or on
        ids of lists that are not a column.
        """
        if self.prepared is not None:
            return self.prepared.fingerprint
        return fingerprints.fingerprint(self.stored.all_readable(), self.offsets)

    def order(self) -> str:
        """Returns a digest that also depends on the order of the lists.

        If two runs have the same digest, their values per list can be paired.
        """
        if self.prepared is not None:
            return self.prepared.order
        return fingerprints.order(self.stored.all_readable(), self.offsets)


def missing_column(name: str, columns: Iterable[str], where: str = "the table") -> str:
    """Returns the message for a missing column, with the most similar names and all names."""
    columns = [str(column) for column in columns]
    hint = did_you_mean(name, columns, most=3) or "."
    return f"{where} has no column {name!r}{hint} Its columns: {', '.join(columns)}"
