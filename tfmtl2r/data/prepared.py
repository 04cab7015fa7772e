"""Lists whose columns lie elsewhere: what a split of a store offers in place of columns.

A store (:mod:`tfmtl2r.data.store`) holds what a training reads: looked-up features, labels and weights. The columns of
the files are not in it. Functions that read labels, weights or batches therefore ask :attr:`Lists.prepared` first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from tfmtl2r.data.stored import Column
from tfmtl2r.errors import InputError
from tfmtl2r.schema import Schema
from tfmtl2r.task import Task

if TYPE_CHECKING:
    from tfmtl2r.data.ragged import Ragged
    from tfmtl2r.data.sources import Source


class Prepared(Protocol):
    """Prepared values of some lists, in their order."""

    def take(self, lists: np.ndarray) -> Self:
        """The values of the lists with these numbers."""

    def labels(self, task: Task) -> np.ndarray:
        """``float32[N]``, as :func:`tfmtl2r.data.label_values` returns them."""

    def weights(self, column: str) -> np.ndarray:
        """``float32[N]`` or, for a context column, ``[num_lists]``."""

    def fitted(self, task: Task) -> Task:
        """The task with its fitted transform and statistics."""

    def source(
        self, tasks: tuple[Task, ...], schema: Schema, weights: Mapping[Any, str], limit: int | None, random: bool
    ) -> Source:
        """The source of batches; see :class:`tfmtl2r.data.sources.MemorySource`.

        Args:
            tasks: the tasks whose labels the batches contain.
            schema: the features.
            weights: (task, kind of weight) -> column.
            limit: the largest number of items of a list; None for no limit.
            random: whether random items of a cut list stay, in place of the first ones.
        """

    def contents(self, schema: Schema) -> dict[str, dict[str, Any]]:
        """What the inputs contain; see :func:`tfmtl2r.data.contents.contents`."""

    @property
    def fingerprint(self) -> str:
        """See :meth:`tfmtl2r.data.Lists.fingerprint`."""

    @property
    def order(self) -> str:
        """See :meth:`tfmtl2r.data.Lists.order`."""


class Elsewhere(Column):
    """A column of the files from which a store was made. Reading its cells is an error.

    Args:
        name: the column.
        rows: number of rows.
        where: the place of the store.
    """

    def __init__(self, name: str, rows: int, where: str):
        self.name, self.rows, self.where = name, rows, where

    def __len__(self) -> int:
        return self.rows

    @property
    def values(self) -> np.ndarray:
        raise InputError(f"the column {self.name!r} is not in the store {self.where}, which holds only what a training "
                         "reads: features, labels and weights. Set data.files to the files of which the store was made")

    identities = typed = whole = missing = values

    def elements(self, separator: str = "", gaps: bool = False) -> Ragged:
        raise InputError(str(self.values))

    def take(self, items: np.ndarray) -> Column:
        return Elsewhere(self.name, len(items), self.where)
