"""Columns of a table as inputs of a served signature."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.batch import LIST_SIZE
from tfmtl2r.data.columns import Columns
from tfmtl2r.data.lists import Lists
from tfmtl2r.errors import InputError
from tfmtl2r.features import Time
from tfmtl2r.features.base import Values, size_of
from tfmtl2r.names import did_you_mean, digest, served_as
from tfmtl2r.serving.listed import has_items, is_list, of_table


def columns_of(
    specs: Mapping[str, Any], given: Sequence[str], constants: Collection[str], optional: Collection[str]
) -> dict[str, str]:
    """The column of each input that comes from the table.

    Args:
        specs: input name -> spec.
        given: columns of the table.
        constants: inputs that do not come from the table.
        optional: inputs that the table may lack.

    Raises:
        ValueError: for an input without a column, or with several possible ones.
    """
    columns = {}
    lengths = {size_of(name) for name in specs if is_list(specs, name)}
    for name in specs:
        if name in (LIST_SIZE, *constants, *lengths):
            continue
        found = [name] if name in given else [c for c in given if name in _inputs_of(c)]
        if len(found) == 1:
            columns[name] = found[0]
        elif found or name not in optional:
            what = f"columns that could be the input {name!r}: {found}; rename one" if found else \
                f"no column for the input {name!r}{did_you_mean(name, given)}; its columns: " \
                f"{', '.join(given)}"
            raise InputError(f"the table has {what}")
    return columns


def values_of(
    lists: Lists, column: str, name: str, specs: Mapping[str, Any], separator: str, times: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """The values of an input: ``[N, ...]``, or ``[lists, ...]`` without an axis of items; lists with lengths.

    Args:
        lists: the table.
        column: the column.
        name: the input.
        specs: input name -> spec.
        separator: splits a cell of text that is a list; empty to choose it from the column.
        times: column with dates or times -> unit of the epoch numbers.

    Raises:
        ValueError: for values that do not fit the input.
    """
    spec = specs[name]
    per_item = not lists.is_rows and has_items(specs, name)
    columns = Columns(lists, not lists.is_rows and not per_item)
    if is_list(specs, name):
        return dict(zip((name, size_of(name)), of_table(columns, column, spec.dtype, separator), strict=True))
    width = tuple(spec.shape.as_list()[1 + per_item:])
    if spec.dtype == tf.int64 and column in times:
        return {name: Time(column, unit=times[column]).read(columns)[column]}
    if spec.dtype == tf.int64 and lists.column(column).dtype.kind == "M":
        raise InputError(f"column {column!r} contains times, and the input takes epoch numbers in the unit of its "
                         f"feature: give this unit, as in times={{{column!r}: 's'}} (--times {column}=s)")
    if spec.dtype in (tf.string, tf.int64, tf.float32) and None not in width:
        return {name: columns.values(column, Values(spec.dtype.name, width))}
    raise InputError(f"input {name!r} takes {spec.dtype.name} of shape {spec.shape}, which a column of a table cannot "
                     "contain: call predict with arrays")


def _inputs_of(column: str) -> set[str]:
    """The names that the input of an exported column can have: a name may be reserved or need a digest."""
    plain = served_as(column)
    names = {plain, served_as(column, [plain])}
    return names | {f"{name}_{digest(column)}" for name in names}
