"""Divides the lists of one table into the splits train, vali and test. A list is always in one split as a whole."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd

from tfmtl2r.data.lists import Lists
from tfmtl2r.errors import InputError

SPLITS = ("train", "vali", "test")


def by_list(lists: Lists, vali: float, test: float, seed: int | None = None) -> np.ndarray:
    """The split of each list, which the MD5 of seed and id decides; of plain rows, the MD5 of the row number.

    The last two digits of the MD5 decide about shares in whole percents, and the whole MD5 about others.

    Args:
        lists: the whole table.
        vali, test: shares of the lists.
        seed: another seed gives another division.

    >>> rows = Lists({"x": np.arange(1000.0)})
    >>> [int((by_list(rows, 0.1, 0.2) == split).sum()) for split in SPLITS]
    [693, 94, 213]
    """
    ids = np.arange(lists.num_items) if lists.ids is None else lists.ids
    start = "" if seed is None else f"{seed}:"
    digests = [hashlib.md5(f"{start}{i}".encode(), usedforsecurity=False).hexdigest() for i in ids.tolist()]
    bounds = np.round(100 * np.array([1 - vali - test, 1 - test]), 6)
    if (bounds == np.round(bounds)).all():
        places = [float(int(digest, 16) % 100) for digest in digests]
    else:
        places = [100 * (int(digest, 16) / 2**128) for digest in digests]
    return np.array(SPLITS)[np.searchsorted(bounds, places, side="right")]


def by_fold(lists: Lists, number: int, folds: int, seed: int = 0, vali: float = 0.1) -> np.ndarray:
    """The split of each list in a fold: the lists of this fold are the test split.

    The MD5 of seed and id decides about the fold of a list (of plain rows, the MD5 of seed and row number), so that
    lists with the same id are in the same fold. Another MD5 takes the validation split from the lists of the other
    folds.

    Args:
        lists: the whole table.
        number: the number of the fold, from 0.
        folds: the number of folds.
        seed: another seed gives another division into folds.
        vali: share of the lists of the other folds for validation.

    >>> rows = Lists({"x": np.arange(1000.0)})
    >>> parts = [by_fold(rows, number, 4) for number in range(4)]
    >>> [int((part == "test").sum()) for part in parts], set(sum((part == "test" for part in parts)).tolist())
    ([...], {1})
    """
    ids = np.arange(lists.num_items) if lists.ids is None else lists.ids
    fold = np.floor(folds * np.array([_share(f"fold:{seed}:{i}") for i in ids.tolist()]))
    held = np.array([_share(f"vali:{seed}:{number}:{i}") for i in ids.tolist()]) < vali
    return np.where(fold == number, "test", np.where(held, "vali", "train"))


def _share(text: str) -> float:
    """A number in [0, 1) that the MD5 of a text decides."""
    return (int(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(), 16) >> 75) / 2**53


def by_time(lists: Lists, column: str, vali: float, test: float) -> np.ndarray:
    """The split of each list: the latest lists are the test split, and the latest others the vali split.

    The time of a list is the time of its latest row. Lists of the same time are in the same split, so that the shares
    are as near to the wanted ones as the times allow.

    Args:
        lists: the whole table.
        column: dates, times, ISO 8601 text, or numbers that grow with time.
        vali, test: shares of the lists.

    Raises:
        ValueError: for a row without a time, or fewer different times than splits.

    >>> days = Lists({"day": np.array([3, 1, 2, 5, 4, 4])}, offsets=np.array([0, 1, 2, 3, 4, 6]))
    >>> by_time(days, "day", 0.2, 0.2).tolist()
    ['train', 'train', 'train', 'test', 'vali']
    """
    times = times_of_lists(lists, column)
    found, counts = np.unique(times, return_counts=True)
    ends = np.concatenate([[0], np.cumsum(counts)])  # the number of lists before each different time
    shares = [share for share in (1 - vali - test, vali, test) if share > 0]
    if len(found) < len(shares):
        raise InputError(f"the lists have {len(found)} different times in {column!r}, too few for {len(shares)} "
                         "splits by time; use split = {by = \"list\"}, or a more precise time")
    train_end = _nearest(ends, len(times) * (1 - vali - test), 1, len(found) - (len(shares) - 1))
    vali_end = train_end
    if vali > 0:
        vali_end = _nearest(ends, len(times) * (1 - test), train_end + 1, len(found) - (1 if test > 0 else 0))
    place = np.searchsorted(found, times)
    return np.array(SPLITS)[(place >= train_end).astype(int) + (place >= vali_end if test > 0 else 0)]


def times_of_lists(lists: Lists, column: str) -> np.ndarray:
    """The time of the latest row of each list, ``[num_lists]``: integers, floats or ``datetime64``.

    Raises:
        ValueError: for a row without a time, or text that is no time.
    """
    kept = lists.kept(column)
    values = kept.values
    typed = kept.spelled.identities if kept.is_category else kept.typed
    if values.ndim == 1 and values.dtype.kind in "iuf" and typed.dtype.kind in "iu":
        values, missing = typed, kept.spelled.missing  # exact, also with missing cells
    elif values.dtype.kind == "f" and values.ndim == 1:
        missing = ~np.isfinite(values)
    elif values.dtype.kind in "OU" and values.ndim == 1:
        moments = pd.to_datetime(pd.Series(values.astype(object)), utc=True, format="ISO8601", errors="coerce")
        values = moments.dt.tz_localize(None).to_numpy()
        missing = np.isnat(values)
    elif values.dtype.kind == "M":
        missing = np.isnat(values)
    else:
        raise InputError(f"column {column!r} contains no times, but {values.dtype} {values.shape[1:] or ''}")
    if missing.any():
        item = int(missing.argmax())
        raise InputError(f"the time {column!r} is missing, or no ISO 8601 time, in {lists.place(item)} "
                         f"({int(missing.sum())} in all): fill these rows or leave them out")
    return values if lists.offsets is None else np.maximum.reduceat(values, lists.offsets[:-1])


def shown_time(time: Any) -> str | float | int:
    """A time for a run card: ISO 8601 text, or the number."""
    if not isinstance(time, np.datetime64):
        return time.item()
    whole, point, fraction = str(time).partition(".")
    return f"{whole}{point}{fraction}".rstrip("0").removesuffix(".") if point else whole


def _nearest(ends: np.ndarray, wanted: float, least: int, most: int) -> int:
    """The number of different times before a boundary, such that about ``wanted`` lists come before it."""
    return least + int(np.abs(ends[least : most + 1] - wanted).argmin())
