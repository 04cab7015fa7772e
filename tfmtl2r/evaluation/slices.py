"""Metrics of parts of a split: by the values of a column, by the length of lists, or for new users and items."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfmtl2r.data import Lists
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.split_metrics import Score, evaluate
from tfmtl2r.schema import Schema
from tfmtl2r.task import Task

LENGTH, NEW = "list_length", "new:"
BINS = 4
MOST = 10
"""Largest number of values that get a slice each."""
MISSING = "(missing)"


@dataclasses.dataclass(frozen=True)
class Slicing:
    """The items of a split in slices, of which no two have an item in common.

    Slices are slices of **lists** if the value is the same for all items of each list: a list is in one slice as a
    whole. Otherwise they are slices of **items**: each list is reduced to its items in the slice, and a list without
    such items does not count. A metric of a slice of items therefore ranks these items among themselves.

    Args:
        by: what the slices are made by.
        of: "lists", "items", or "rows" for plain rows.
        slices: the name of each slice, with its items, ``bool[N]``.
    """

    by: str
    of: str
    slices: Mapping[str, np.ndarray]


def slicing(lists: Lists, by: str, train: Lists | None = None, schema: Schema | None = None) -> Slicing:
    """Divides the items of a split.

    Args:
        lists: the split.
        by: a column; ``list_length``; or ``new:COLUMN``, which separates the ids of a column that the training split
            contains from all others, such as new users or new items. Text, categories and at most ten different numbers
            have a slice for each of the ten most frequent values, and one for all others. More numbers, and times, have
            four slices with about equally many lists or items. A column of lists counts by their lengths. The slices
            of a feature with ``hash`` have hashes for names, since run cards contain the names.
        train: the training split, for ``new:COLUMN``.
        schema: the features, of which some are known to be categories.

    Raises:
        ValueError: for an unknown column, a column of vectors, or ``new:`` without the training split.

    >>> lists = Lists({"device": np.array(["tv", "tv", "web"], object)}, offsets=np.array([0, 2, 3]))
    >>> found = slicing(lists, "device")
    >>> found.of, {name: items.tolist() for name, items in found.slices.items()}
    ('lists', {'tv': [True, True, False], 'web': [False, False, True]})
    """
    if by.startswith(NEW):
        (values, missing), named = _seen(lists, by.removeprefix(NEW), train), True
    elif by == LENGTH and by not in lists.columns:
        if lists.is_rows:
            raise InputError("the data are plain rows, which have no list_length")
        values, missing, named = np.repeat(lists.sizes, lists.sizes), np.zeros(lists.num_items, bool), False
    else:
        values, missing, named = _values(lists, by, schema)
    of, first = _level(lists, values, missing)
    known = first & ~missing
    if not named and len(np.unique(values[known])) > MOST:
        slices = _bins(values, missing, known)
    else:
        slices = _each(values, missing, known)
    return Slicing(by, of, {**slices, **({MISSING: missing} if missing.any() else {})})


def sliced(
    scores: Mapping[str, np.ndarray], lists: Lists, tasks: Sequence[Task], slicings: Iterable[Slicing],
    weights: Mapping[str, str] | None = None, values: Mapping[str, np.ndarray] | None = None,
    levels: Mapping[str, np.ndarray] | None = None,
) -> dict[str, dict[str, Any]]:
    """Evaluates scores on each slice, with the metrics of the tasks.

    Args:
        scores: task -> ``[N]``, as for :func:`tfmtl2r.evaluation.evaluate`.
        lists: the split.
        tasks: the tasks.
        slicings: divisions of the split.
        weights: as for :func:`tfmtl2r.evaluation.evaluate`.
        values: as for :func:`tfmtl2r.evaluation.evaluate`.
        levels: as for :func:`tfmtl2r.evaluation.evaluate`.

    Returns:
        by -> ``{"of": ..., "slices": name -> {"num_lists", "items", "results"}}``, as plain data. ``num_lists`` is
        the number of lists in the slice; of a metric, it is the number of lists that count, as for a whole split.
    """
    found: dict[str, dict[str, Any]] = {}
    for one in slicings:
        slices = {}
        for name, items in one.slices.items():
            part = _part(lists, items)
            mine, read, known = ({task: each[items] for task, each in given.items()}
                                 for given in (scores, values or {}, levels or {}))
            results = evaluate(mine, part, tasks, weights, values=read, levels=levels and known)
            slices[name] = {"num_lists": part.num_lists, "items": part.num_items, "results": _plain(results)}
        found[one.by] = {"of": one.of, "slices": slices}
    return found


def _part(lists: Lists, items: np.ndarray) -> Lists:
    """The items of a slice, in lists without any other item."""
    if lists.offsets is None:
        return lists.keep(items)
    inside = np.maximum.reduceat(items, lists.offsets[:-1])
    return lists.select(inside).keep(items[np.repeat(inside, lists.sizes)])


def _plain(results: Mapping[str, Mapping[str, Score]]) -> dict[str, dict[str, Any]]:
    return {task: {metric: {"value": one.value, "num_lists": one.num_lists, "direction": one.direction, **one.beside}
                   for metric, one in row.items()} for task, row in results.items()}


def _values(lists: Lists, name: str, schema: Schema | None) -> tuple[np.ndarray, np.ndarray, bool]:
    """The value of each item, which of them are missing, and whether the values are names."""
    column = lists.kept(name)
    if column.holds_lists:
        return column.elements().sizes, np.zeros(lists.num_items, bool), False
    values = column.typed
    if values.ndim > 1:
        raise InputError(f"column {name!r} contains vectors, which cannot be slices: name a column of single values")
    missing = column.spelled.missing
    if schema is not None and (hashed := schema.in_files(name, values)) is not values:
        return hashed, missing, True
    if values.dtype.kind in "OU":
        return values.astype(str), missing, True
    categories = {feature.name for feature in (schema.features if schema else ()) if feature.reads_names}
    return values, missing, name in categories


def _seen(lists: Lists, name: str, train: Lists | None) -> tuple[np.ndarray, np.ndarray]:
    """Whether the training split has the id of each item, and which ids are missing."""
    if train is None:
        raise InputError(f"'{NEW}{name}' needs the training split")
    if lists.kept(name).holds_lists:
        raise InputError(f"column {name!r} contains lists: '{NEW}' takes a column with one id per row")
    columns = [lists.kept(name), train.kept(name)]
    if all(column.spelled.typed.dtype.kind in "iuf" for column in columns):  # "1" and "1.0" are one id
        columns = [column.spelled for column in columns]
    mine, known = (_id_texts(column.identities) for column in columns)
    inside = np.isin(mine, np.unique(known[~columns[1].missing]))
    return np.where(inside, "seen in train", "new"), columns[0].missing


def _id_texts(ids: np.ndarray) -> np.ndarray:
    """Ids as texts that do not depend on the type: whole floats are spelled like integers, and times in one unit."""
    if ids.dtype.kind == "f":
        return np.array([text.removesuffix(".0") for text in ids.astype(str).tolist()], str)
    return (ids.astype("datetime64[ns]") if ids.dtype.kind == "M" else ids).astype(str)


def _level(lists: Lists, values: np.ndarray, missing: np.ndarray) -> tuple[str, np.ndarray]:
    """Whether the slices are of lists, and the items that count: the first one of each list, or all."""
    everything = np.ones(lists.num_items, bool)
    if lists.offsets is None:
        return "rows", everything
    start = np.repeat(lists.offsets[:-1], lists.sizes)
    same = np.where(missing | missing[start], missing == missing[start], values == values[start])
    if not same.all():
        return "items", everything
    first = np.zeros(lists.num_items, bool)
    first[lists.offsets[:-1]] = True
    return "lists", first


def _each(values: np.ndarray, missing: np.ndarray, known: np.ndarray) -> dict[str, np.ndarray]:
    """A slice for each frequent value, the most frequent first; numbers ascend."""
    found, counts = np.unique(values[known], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST]
    chosen = found[np.sort(order)] if values.dtype.kind not in "OU" and len(found) <= MOST else found[order]
    rest = ~missing & ~np.isin(values, chosen)
    others = f"({len(found) - len(chosen)} other values)"
    names = _names(chosen, (MISSING, others))
    slices = {name: (values == value) & ~missing for name, value in zip(names, chosen, strict=True)}
    return {**slices, **({others: rest} if rest.any() else {})}


def _bins(values: np.ndarray, missing: np.ndarray, known: np.ndarray) -> dict[str, np.ndarray]:
    """Slices of about equally many lists or items, by ascending values. A value that fills a slice has its own."""
    ordered = np.sort(values[known])
    found = np.unique(ordered)
    places = np.searchsorted(found, ordered[[len(ordered) * part // BINS for part in range(1, BINS)]])
    full = [place for place in places if place == 0 or (places == place).sum() > 1]
    starts = np.unique([0, *places, *(place + 1 for place in full if place + 1 < len(found))])
    lows, highs = found[starts], found[[*(starts[1:] - 1), -1]]
    ends = np.unique([lows, highs])
    names = dict(zip(ends.tolist(), _names(ends), strict=True))
    slices = {}
    for low, high in zip(lows, highs, strict=True):
        name = " to ".join(dict.fromkeys([names[low.item()], names[high.item()]]))
        slices[name] = (values >= low) & (values <= high) & ~missing
    return slices


def _names(values: np.ndarray, own: Sequence[str] = ()) -> list[str]:
    """The name of each value, as short as differing values allow. Text like one of our own names is quoted.

    >>> _names(np.array([1000000.25, 1000000.5, 5.0])), _names(np.array(["tv", MISSING]), [MISSING])
    (['1000000.25', '1000000.5', '5'], ['tv', "'(missing)'"])
    """
    if values.dtype.kind not in "fM":
        texts = list(map(str, values.tolist()))
        for place, text in enumerate(texts):
            while text in own or text in texts[:place]:
                text = texts[place] = f"'{text}'"
        return texts
    if values.dtype.kind == "M":
        seconds = [str(value).removesuffix("T00:00:00") for value in values.astype("datetime64[s]")]
        return seconds if len(set(seconds)) == len(values) else list(map(str, values))
    for digits in (6, 9, 12, 15):
        texts = [f"{value:.{digits}g}" for value in values.tolist()]
        if len(set(texts)) == len(values):
            return texts
    return list(map(repr, values.tolist()))
