"""Finds inputs that give labels away: columns that determine a label, and histories that contain their own row."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, MutableMapping

import numpy as np

from tfmtl2r.data.columns import Columns, numbers_of
from tfmtl2r.data.lists import Lists
from tfmtl2r.data.quality import leaks_of
from tfmtl2r.schema import Schema
from tfmtl2r.task import Task

OFTEN = 0.9
SAMPLE = 100_000
_EXAMINED: MutableMapping[Lists, dict[tuple[tuple[str, ...], ...], list[str]]] = weakref.WeakKeyDictionary()
"""Lists -> labels and columns -> lines: the trainings of a sweep examine the same lists once."""


def suspected_leaks(lists: Lists, schema: Schema, tasks: Iterable[Task]) -> list[str]:
    """Returns a line for each input of a ranker that may give a label away.

    Lists of a store have been examined when the store was made, and give no lines.

    A line is about a column (:func:`tfmtl2r.data.data_report`) or a history (:func:`history_leaks`). Of more than
    100,000 items, evenly chosen lists are read.

    Args:
        lists: the training split.
        schema: its fitted features.
        tasks: the tasks.

    >>> from tfmtl2r import Dense
    >>> rows = Lists({"x": np.arange(9.0), "y": np.repeat([0.0, 1.0, 2.0], 3)})
    >>> suspected_leaks(rows, Schema([Dense("x")]), [Task("y")])[0][:59]
    'SUSPECTED LEAK: x gives y away (determines, correlation 0.9'
    """
    if lists.prepared is not None:
        return []
    labels = tuple(dict.fromkeys(task.label for task in tasks))
    columns = tuple(single_columns(lists, schema))
    known = _EXAMINED.setdefault(lists, {})
    if (step := -(-lists.num_items // SAMPLE)) > 1:
        lists = lists.select(np.arange(lists.num_lists) % step == 0)
    if (labels, columns) not in known:
        targets = {label: numbers_of(lists, label, f"label column {label!r}").astype(np.float64) for label in labels}
        known[labels, columns] = [str(leak) for leak in leaks_of(lists, targets, columns)[1]]
    return [*known[labels, columns], *history_leaks(lists, schema, labels)]


def single_columns(lists: Lists, schema: Schema) -> list[str]:
    """The columns of numbers and text that features read, without columns of lists."""
    listed = {column for feature in schema.features if feature.reads_lists for column in feature.columns}
    read = {column for feature in schema.features for column in feature.columns}
    return [name for name in sorted(read - listed)
            if not lists.kept(name).holds_lists and lists.column(name).dtype.kind in "iufbOU"]


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
            values = numbers_of(lists, label, f"label column {label!r}").astype(np.float64)
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
