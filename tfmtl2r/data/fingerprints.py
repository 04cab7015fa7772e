"""Fingerprints of data, which depend only on the values and not on how they are stored.

A fingerprint is the sum, modulo 2^128, of the digests of all lists. The order of lists and their distribution over
files therefore have no effect. The digest of a list is computed from the values of its items, row by row. Values with
the same canonical text are equal: a whole number has no ``.0``, another number has the digits of a float32, and a text
that spells a number equals this number. The canonical text itself is never computed, because a number determines it.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

VERSION = "2"
"""Prefix of every fingerprint. Fingerprints without a prefix have version 1."""
_ROWS = 1 << 13
_DIGEST = 16
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_DECIMAL = re.compile(r"-?[0-9]+\.[0-9]+(e[+-][0-9]+)?")
_MISSING = int(np.array(np.nan).view(np.int64))


def fingerprint(columns: Mapping[str, np.ndarray], offsets: np.ndarray | None) -> str:
    """The fingerprint of a table of lists.

    Args:
        columns: name -> ``[N]`` or ``[N, D]``, numbers or text; a missing value is NaN or ``""``.
        offsets: ``int64[num_lists + 1]``: items of list i are ``offsets[i]:offsets[i + 1]``; None for plain rows.

    Returns:
        ``"2:"`` and 32 hexadecimal digits.

    >>> whole, half = np.array([0, 2, 3]), np.array([0, 1, 3])
    >>> first = fingerprint({"price": np.array([3.0, 1.5, 2.0])}, whole)
    >>> first == fingerprint({"price": np.array([2.0, 3.0, 1.5], np.float32)}, half)  # the lists in another order
    True
    >>> first == fingerprint({"price": np.array([1.5, 3.0, 2.0])}, whole)  # the items of a list in another order
    False
    """
    return both({name: InMemory(values) for name, values in columns.items()}, offsets)[0]


def order(columns: Mapping[str, np.ndarray], offsets: np.ndarray | None) -> str:
    """Like :func:`fingerprint`, but the order of the lists changes the 32 hexadecimal digits.

    >>> columns = {"price": np.array([3.0, 1.5])}
    >>> order(columns, None) == order({"price": np.array([1.5, 3.0])}, None)
    False
    """
    return both({name: InMemory(values) for name, values in columns.items()}, offsets)[1]


class Coded(Protocol):
    """A column as eight bytes for each value.

    Attributes:
        width: numbers in a row.
    """

    width: int

    def __len__(self) -> int:
        """Number of rows."""

    def codes(self, rows: slice) -> np.ndarray:
        """The bytes of some rows, ``int64[n, width]``."""


class InMemory:
    """A column in memory.

    Args:
        values: ``[N]`` or ``[N, D]``, numbers or text.
    """

    def __init__(self, values: np.ndarray):
        flat = values.reshape(len(values), -1)
        self.kind, self.width = values.dtype.kind, flat.shape[1]
        self.flat = _codes_of_texts(flat) if self.kind in "OUS" else flat

    def __len__(self) -> int:
        return len(self.flat)

    def codes(self, rows: slice) -> np.ndarray:
        """The bytes of some rows."""
        return _codes(self.flat[rows], self.kind)


def both(columns: Mapping[str, Coded], offsets: np.ndarray | None) -> tuple[str, str]:
    """The fingerprint and the digest of the order, for which a few rows of all columns are read at a time."""
    total, whole = 0, hashlib.blake2b(digest_size=_DIGEST)
    for digest in _digests(columns, offsets):
        total += int.from_bytes(digest, "little")
        whole.update(digest)
    return f"{VERSION}:{total % (1 << 8 * _DIGEST):0{2 * _DIGEST}x}", whole.hexdigest()


def comparable(one: str, other: str) -> bool:
    """Whether two fingerprints have the same version, so that equal data have equal fingerprints.

    >>> comparable("2:ab", "2:cd"), comparable("2:ab", "cd")
    (True, False)
    """
    return one.rpartition(":")[0] == other.rpartition(":")[0]


def _digests(columns: Mapping[str, Coded], offsets: np.ndarray | None) -> Iterator[bytes]:
    """Yields the digest of each list. Each plain row counts as a list."""
    flat = dict(sorted(columns.items()))
    kind, widths = "rows" if offsets is None else "lists", [(name, values.width) for name, values in flat.items()]
    start = hashlib.blake2b(repr((kind, widths)).encode(), digest_size=_DIGEST)
    bounds = np.arange(len(next(iter(flat.values()))) + 1) if offsets is None else offsets
    first = 0
    while first < len(bounds) - 1:  # a few lists at a time, which fit into the cache of the processor
        last = max(first + 1, int(np.searchsorted(bounds, bounds[first] + _ROWS, side="right")) - 1)
        rows = slice(int(bounds[first]), int(bounds[last]))
        codes = np.concatenate([values.codes(rows) for values in flat.values()], 1)
        codes = np.ascontiguousarray(codes)  # columns that lie column by column in memory stay so
        content, width = codes.data.cast("B"), 8 * codes.shape[1]
        ends = ((bounds[first:last + 1] - bounds[first]) * width).tolist()
        for low, high in itertools.pairwise(ends):
            digest = start.copy()
            digest.update(content[low:high])
            yield digest.digest()
        first = last


def _codes(values: np.ndarray, kind: str) -> np.ndarray:
    """Eight bytes for each value, ``int64[N, D]``: the bytes of a float64, or the digest of a text."""
    if kind in "OUS":
        return values
    if kind in "iub":
        return _codes_of_integers(values)
    numbers = values.astype(np.float64)
    if values.dtype != np.float32:
        with np.errstate(over="ignore"):
            rounded = numbers.astype(np.float32).astype(np.float64)
        np.copyto(rounded, numbers, where=np.rint(numbers) == numbers)
        numbers = rounded
    numbers += 0.0  # no negative zero
    np.copyto(numbers, np.nan, where=np.isnan(numbers))  # NaN has many bit patterns; keep one
    return numbers.view(np.int64)


def _codes_of_integers(values: np.ndarray) -> np.ndarray:
    """Bytes of the float64 if it represents the integer exactly; otherwise bytes of the integer."""
    integers = values.astype(np.int64)
    floats = integers.astype(np.float64)
    return np.where(np.abs(integers) <= 2**53, floats.view(np.int64), integers)


def _codes_of_texts(texts: np.ndarray) -> np.ndarray:
    import pandas as pd  # not needed for lists of numbers

    places, known = pd.factorize(texts.ravel().astype(object))
    codes = np.array([*(_code_of_text(str(text)) for text in known), _MISSING], np.int64)
    return codes[places].reshape(texts.shape)  # a missing object has the index -1, which is the last code


def _code_of_text(text: str) -> int:
    if not text:
        return _MISSING
    number: Any = None
    if _INTEGER.fullmatch(text):
        number = np.array([[int(text)]])
    elif _DECIMAL.fullmatch(text) and str(float(text)) == text:
        number = np.array([[float(text)]])
    if number is not None:
        return int(_codes(number, number.dtype.kind)[0, 0])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)
