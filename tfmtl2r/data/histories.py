"""A check of histories: a history must end before its row, or it gives the label away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from tfmtl2r.data.columns import Columns
from tfmtl2r.data.lists import Lists
from tfmtl2r.schema import Schema

OFTEN = 0.9


def history_leaks(lists: Lists, schema: Schema, labels: Iterable[str]) -> Iterator[str]:
    """Yields a line for each list of ids that contains the row's own id suspiciously often.

    A feature of lists is compared with the feature that it shares a table with. Suspicious is a history that contains
    the row's own id in nearly all rows, or in nearly all rows with a label above 0 but in far fewer of the others.

    Args:
        lists: the training split.
        schema: its fitted features.
        labels: label columns.

    >>> from tfmtl2r import Category
    >>> from tfmtl2r.features import Sequence
    >>> video = Category("video", vocabulary=(1, 2), dtype="int64")
    >>> rows = Lists({"video": np.array([1, 2]), "seen": np.array([[1, 2], [1, -1]]), "click": np.array([1, 0])})
    >>> list(history_leaks(rows, Schema([video, Sequence("seen", shares="video")]), ["click"]))[0][:63]
    "SUSPECTED LEAK: 'seen' contains the row's own 'video' in 100 % "
    """
    for feature in schema.features:
        owner = next((one for one in schema.features if one.name == feature.shares and not one.reads_lists), None)
        if owner is None or not feature.reads_lists:
            continue
        inside = _inside(lists, feature.name, owner.name, feature.separator_of(feature.name))
        for label in labels:
            values = lists.column(label).astype(np.float64)
            positive, negative = inside[values > 0], inside[values == 0]
            if len(positive) and len(negative) and positive.mean() >= OFTEN and negative.mean() < OFTEN / 2:
                where = f"{100 * positive.mean():.0f} % of the rows with a {label!r} above 0"
                yield _line(feature.name, owner.name, f"{where}, but in {100 * negative.mean():.0f} % of the others")
        if inside.mean() >= OFTEN:
            yield _line(feature.name, owner.name, f"{100 * inside.mean():.0f} % of all rows")


def _inside(lists: Lists, history: str, own: str, separator: str) -> np.ndarray:
    """Whether the list of each row contains the row's own id, ``bool[N]``."""
    cells, sizes = Columns(lists, False).elements(history, separator)
    found = np.zeros(len(sizes), bool)
    if sizes.any():
        ids = cells.identities(history).astype(str)
        rows = np.repeat(np.arange(len(sizes)), sizes)
        np.logical_or.at(found, rows, ids == lists.identities(own).astype(str)[rows])
    return found


def _line(history: str, own: str, where: str) -> str:
    return f"SUSPECTED LEAK: {history!r} contains the row's own {own!r} in {where}: a history must end before its row"
