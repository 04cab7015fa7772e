"""Rules that choose rows: ``{column = "duration", above = 0}``."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from tfmtl2r.errors import InputError
from tfmtl2r.names import did_you_mean

CONDITIONS = {"is": "one value", "is_not": "one value", "in": "a list of values", "above": "a number or a date",
              "below": "a number or a date"}
"""The conditions of a rule and what each takes."""
Rule = Mapping[str, Any]


def checked_rules(given: Any) -> tuple[Rule, ...]:
    """Returns rules as a tuple of plain mappings.

    Args:
        given: a rule, several rules, or None. A rule is a mapping with ``column`` and at least one condition: ``is``,
            ``is_not``, ``in``, ``above`` or ``below``. A row is chosen if all conditions of all rules hold.

    Raises:
        ValueError: for a rule without a column or a condition, an unknown key, or a value of a wrong type.

    >>> checked_rules({"column": "duration", "above": 0})
    ({'column': 'duration', 'above': 0},)
    """
    if given is None:
        return ()
    rules = [given] if isinstance(given, Mapping) else given
    if not isinstance(rules, Iterable) or not all(isinstance(rule, Mapping) for rule in rules):
        raise InputError(f"only_where is a table or a list of tables such as {{column = \"duration\", above = 0}}, not "
                         f"{given!r}")
    return tuple(_checked(dict(rule)) for rule in rules)


def columns_of(rules: tuple[Rule, ...]) -> tuple[str, ...]:
    """The columns that rules read."""
    return tuple(dict.fromkeys(rule["column"] for rule in rules))


def _checked(rule: dict[str, Any]) -> Rule:
    known = ("column", *CONDITIONS)
    for key, value in rule.items():
        if key not in known:
            raise InputError(f"only_where: {key!r} is no key of a rule{did_you_mean(key, known)}; its keys: "
                             f"{', '.join(known)}")
        if key != "column" and not _fits(key, value):
            raise InputError(f"only_where: {key} takes {CONDITIONS[key]}, not {value!r}")
    if not isinstance(rule.get("column"), str) or not rule["column"]:
        raise InputError(f"only_where: a rule needs a column, such as {{column = \"duration\", above = 0}}; got {rule}")
    if len(rule) == 1:
        raise InputError(f"only_where: the rule for column {rule['column']!r} needs a condition: "
                         f"{', '.join(CONDITIONS)}")
    return {key: _plain(value) for key, value in rule.items()}


def _fits(key: str, value: Any) -> bool:
    if key == "in":
        return isinstance(value, (list, tuple)) and bool(value) and all(_fits("is", one) for one in value)
    if key in ("above", "below"):
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
        return number or isinstance(value, (str, datetime.date))
    return isinstance(value, (str, bool, int, float, datetime.date)) and value == value


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value.isoformat() if isinstance(value, datetime.date) else value
