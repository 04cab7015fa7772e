"""Chooses rows by the rules of ``only_where`` (:mod:`tfmtl2r.rules`)."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tfmtl2r.data.lists import Lists, missing_column
from tfmtl2r.errors import InputError
from tfmtl2r.rules import Rule


def chosen_rows(lists: Lists, rules: tuple[Rule, ...], where: str) -> np.ndarray:
    """Which rows satisfy all rules, ``bool[N]``. A missing value satisfies no condition but ``is_not``.

    Args:
        lists: the table.
        rules: rules, as from :func:`tfmtl2r.rules.checked_rules`.
        where: the place of the rules, for error messages.

    Raises:
        ValueError: for a missing column, or a value that the column's type cannot be compared with.

    >>> lists = Lists({"kind": np.array(["ad", "", "post"], object), "s": np.array([0.0, 3.0, np.nan])})
    >>> chosen_rows(lists, ({"column": "kind", "is_not": "ad"}, {"column": "s", "above": 0}), "data").tolist()
    [False, True, False]
    """
    found = np.ones(lists.num_items, bool)
    for rule in rules:
        name = f"{where}: only_where, column {rule['column']!r}"
        if rule["column"] not in lists.columns:
            raise InputError(f"{where}: only_where, {missing_column(rule['column'], lists.columns)}")
        values, known = _read(lists, rule, name)
        for condition, wanted in rule.items():
            if condition != "column":
                with np.errstate(over="ignore"):  # no float32 is as large as 1e300
                    found &= _holds(values, known, condition, wanted, name)
    return found


def only_rows(lists: Lists, rules: tuple[Rule, ...], where: str = "data") -> Lists:
    """Drops the rows that do not satisfy the rules of ``[data] only_where``, and lists without a row that does.

    Args:
        lists: the table.
        rules: rules, as from :func:`tfmtl2r.rules.checked_rules`.
        where: the place of the rules, for error messages.

    Raises:
        ValueError: as for :func:`chosen_rows`, and if no row is left.
    """
    if not rules:
        return lists
    kept = chosen_rows(lists, rules, where)
    if not kept.any():
        raise InputError(f"{where}: only_where leaves none of {len(kept)} rows: {list(map(dict, rules))}")
    if lists.offsets is None:
        return lists.select(kept)
    there = np.add.reduceat(kept, lists.offsets[:-1], dtype=np.int64) > 0
    return lists.select(there).keep(kept[np.repeat(there, lists.sizes)])


def _read(lists: Lists, rule: Rule, where: str) -> tuple[np.ndarray, np.ndarray]:
    """The values of a rule's column as bools, numbers, dates or text, and which of them are known."""
    kept = lists.kept(rule["column"])
    if kept.holds_lists:
        raise InputError(f"{where} has lists, which a rule cannot compare")
    values = kept.spelled.typed
    if values.dtype == object and not any(isinstance(value, str) for value in values):
        values = kept.values
    if values.ndim != 1:
        raise InputError(f"{where} has {values.shape[1]} values per row, which a rule cannot compare")
    known = ~kept.spelled.missing
    if not known.any() and values.dtype.kind == "f" and _is_text(rule):
        # No cell shows the type. Of a text file, all cells may be the text NA.
        values = kept.identities.astype(str) if kept.spells_numbers else np.full(len(values), "")
        return values, values != ""
    return values.astype(str) if values.dtype.kind in "OU" else values, known


def _is_text(rule: Rule) -> bool:
    wanted = [value for key, value in rule.items() if key != "column"]
    return all(isinstance(one, str) for value in wanted for one in (value if isinstance(value, list) else [value]))


def _holds(values: np.ndarray, known: np.ndarray, condition: str, wanted: Any, where: str) -> np.ndarray:
    if condition == "is_not":
        return ~_holds(values, known, "is", wanted, where)
    several = wanted if condition == "in" else [wanted]
    several = [_comparable(one, values, where) for one in several]
    if condition == "above":
        return known & (values > several[0])
    if condition == "below":
        return known & (values < several[0])
    # np.isin would compare in a common type, in which 0.1 is no float32.
    return known & functools.reduce(np.logical_or, (values == one for one in several))


def _comparable(wanted: Any, values: np.ndarray, where: str) -> Any:
    """A value of a rule in the type of a column."""
    kind = values.dtype.kind
    if kind in "mM" and isinstance(wanted, str):
        try:
            return np.datetime64(wanted)
        except ValueError:
            raise InputError(f"{where} has dates; {wanted!r} is none, such as \"2024-01-31\"") from None
    is_text = isinstance(wanted, str)
    if (kind in "OU") != is_text or (kind in "mM"):
        has = {"O": "text", "U": "text", "b": "true and false", "M": "dates", "m": "durations"}.get(kind, "numbers")
        raise InputError(f"{where} has {has}, such as {values[:1].tolist()[0]!r}, which cannot be compared with "
                         f"{wanted!r}")
    return wanted
