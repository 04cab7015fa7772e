"""The rules by which the content of a column decides about its kind of feature."""

from __future__ import annotations

import numpy as np

MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "N/A", "NA", "NULL",
    "NaN", "n/a", "nan", "null",
)
"""How text files spell a missing number."""
FEW_INTEGERS = 64
"""Largest number of different integers for which a column counts as names rather than numbers."""


def names_things(values: np.ndarray) -> bool:
    """Whether a column that nobody declared contains names, not measurements: text, or at most 64 different integers.

    Only the type decides whether numbers are integers, so that a missing value changes nothing: it is -1 in a column of
    integers, and does not count. Floats are measurements, also where all of them are whole.

    >>> names_things(np.array([3, 1, -1])), names_things(np.array([3.0, 1.0]))
    (True, False)
    """
    if values.dtype.kind in "OU":
        return True
    return values.dtype.kind in "iub" and values.ndim == 1 and _different(values) <= FEW_INTEGERS


def content(values: np.ndarray, sizes: np.ndarray | None = None) -> str:
    """What a column contains, as the kinds of features see it.

    Args:
        values: the values; of a column of lists, the elements of all lists.
        sizes: lengths of the lists, if the column contains lists.

    >>> content(np.array([3, -1]))
    'at most 64 different integers (1)'
    >>> content(np.array([3.0, 4.0]), np.array([2]))
    'lists of 2 numbers'
    """
    if sizes is not None:
        what = "text" if values.dtype.kind in "OU" else "numbers" if values.dtype.kind == "f" else "integers"
        shortest, longest = (int(sizes.min()), int(sizes.max())) if len(sizes) else (0, 0)
        return f"lists of {longest if shortest == longest else f'{shortest} to {longest}'} {what}"
    if values.dtype.kind in "OU":
        return "text, or of a category type"
    if values.ndim > 1:
        return f"vectors of {values.shape[1]} numbers"
    if values.dtype.kind in "iub":
        count = _different(values)
        return f"{'at most' if count <= FEW_INTEGERS else 'more than'} {FEW_INTEGERS} different integers ({count})"
    if values.dtype.kind != "f":
        return str(values.dtype)
    count = _whole(values)
    return f"floats, although all are whole ({count} different); if they are codes, declare a category" if count else \
        "floats"


def doubt(values: np.ndarray) -> str:
    """What is uncertain about a column that nobody declared; empty for nothing.

    >>> doubt(np.array([3, -1])), doubt(np.array([3.0, np.nan])), doubt(np.array([0.5])), doubt(np.array(["a"]))
    ('a category (1 different integers)', 'a number (floats, all whole, 1 different)', '', '')
    """
    if values.ndim > 1 or values.dtype.kind not in "iubf":
        return ""
    if values.dtype.kind == "f":
        return f"a number (floats, all whole, {count} different)" if (count := _whole(values)) else ""
    return f"a category ({_different(values)} different integers)" if names_things(values) else ""


def _whole(values: np.ndarray) -> int:
    """The number of different floats; 0 if they are many, or some are not whole."""
    known = np.unique(values[~np.isnan(values)])
    return len(known) if len(known) <= FEW_INTEGERS and (known == np.rint(known)).all() else 0


def _different(values: np.ndarray) -> int:
    found = np.unique(values)
    return len(found) - int(-1 in found[:1])
