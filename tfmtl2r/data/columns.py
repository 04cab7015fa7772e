"""Columns checked and converted: what a feature, a label or a weight reads from :class:`Lists`."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tfmtl2r.data.lists import Lists, missing_column
from tfmtl2r.errors import InputError
from tfmtl2r.schema import Category, Dense
from tfmtl2r.task import Task

UNKNOWN_INTEGER = -1
"""What a missing integer category becomes; Keras looks it up as the unknown value, id 0."""
HIGHEST_GRADE = 30
"""Gains are ``2**grade - 1``: beyond this a float32 sum of gains says nothing about the lower grades."""


def feature_values(lists: Lists, feature: Dense | Category) -> np.ndarray:
    """The raw values of a feature, as :class:`tfmtl2r.layers.features.Lookup` reads them.

    Returns:
        ``[N]`` or ``[N, D]``, for a context feature ``[n_lists]`` or ``[n_lists, D]``; float32 (missing: NaN) for a
        :class:`Dense` feature, int64 (missing: -1) or an object array of ``str`` (missing: ``""``) for a category.

    Raises:
        ValueError: for a missing column, a wrong type or shape, or a number that its logarithm cannot take.

    >>> lists = Lists({"brand": np.array([7.0, np.nan])})
    >>> feature_values(lists, Category("brand", vocabulary=(7,), dtype="int64")).tolist()
    [7, -1]
    """
    values = lists.column(feature.name)
    if feature.context:
        values = lists.first_of_lists(feature.name)
    place = _Places(lists, feature.context)
    if isinstance(feature, Dense):
        return _dense(values, feature, place)
    return _category(values, feature, place)


def label_values(lists: Lists, task: Task) -> np.ndarray:
    """The labels of a task as ``float32[N]``; a missing one is NaN.

    Raises:
        ValueError: for a missing column, text, an infinite label, a binary label other than 0 and 1, or a grade
            above 30; each names the row and the list.

    >>> label_values(Lists({"click": np.array([1, 0, -1])}), Task("click", kind="binary")).tolist()
    [1.0, 0.0, -1.0]
    """
    where = f"task {task.name!r}: label column {task.label!r}"
    if task.label not in lists.columns:
        raise InputError(f"task {task.name!r}: {missing_column(task.label, lists.columns)}")
    values = _as_float32(_numeric(lists.columns[task.label], where, lists), where, lists)
    _refuse(np.isinf(values), values, f"{where} is infinite", "mark a missing label with NaN", lists)
    if task.kind == "binary":
        wrong = (values >= 0) & (values != 0) & (values != 1)
        _refuse(wrong, values, f"{where} must be 0 or 1", "use kind='graded' or kind='regression'", lists)
    if task.kind == "graded":
        wrong = values > HIGHEST_GRADE
        advice = f"grades go up to {HIGHEST_GRADE}, since gains are 2**grade - 1: grade counts first, " \
                 "for example with numpy.digitize, or use kind='regression'"
        _refuse(wrong, values, f"{where} is too large", advice, lists)
    return values


def weight_values(lists: Lists, task: str, name: str) -> np.ndarray:
    """The weights of a task: ``float32[N]``, or ``[n_lists]`` if the column is a context column.

    Raises:
        ValueError: for a missing column, text, or a weight that is not a finite number >= 0.
    """
    where = f"task {task!r}: weight column {name!r}"
    if name not in lists.columns:
        raise InputError(f"task {task!r}: {missing_column(name, lists.columns)}")
    values = _as_float32(_numeric(lists.columns[name], where, lists), where, lists)
    _refuse(~(np.isfinite(values) & (values >= 0)), values, where, "expected a finite number >= 0", lists)
    return values[lists.offsets[:-1]] if lists.offsets is not None and name in lists.context else values


def relevance(lists: Lists, tasks: Iterable[Task]) -> np.ndarray:
    """``bool[N, T']``: which items are relevant (label > 0), for the binary and graded ones among the tasks."""
    columns = [label_values(lists, task) > 0 for task in tasks if task.kind != "regression"]
    return np.stack(columns, axis=1) if columns else np.zeros((lists.num_items, 0), bool)


class _Places:
    """Names the source of row i, where i counts lists for a context feature and items otherwise."""

    def __init__(self, lists: Lists, per_list: bool):
        self.lists = lists
        self.starts = lists.offsets if per_list else None

    def place(self, index: int) -> str:
        return self.lists.place(index if self.starts is None else int(self.starts[index]))


def _dense(values: np.ndarray, feature: Dense, lists: _Places) -> np.ndarray:
    where = f"feature {feature.name!r}"
    if values.shape[1:] != feature.shape:
        raise InputError(f"{where}: shape is {feature.shape}, but the column has {values.shape[1:]} numbers per item")
    values = _as_float32(_numeric(values, where, lists), where, lists)
    for transform, sign in (("log1p", -1), ("log", -1), ("log_negative", 1)):
        if transform in feature.transforms:
            wrong = (values * sign > 0) & np.reshape([t == transform for t in feature.transforms], feature.shape)
            what = f"{where} is {'negative' if sign < 0 else 'positive'} under {transform}"
            _refuse(wrong, values, what, "use transform='signed_log1p'", lists)
    return values


def _category(values: np.ndarray, feature: Category, lists: _Places) -> np.ndarray:
    where = f"feature {feature.name!r}"
    if values.ndim != 1:
        raise InputError(f"{where}: a category needs one value per item, but the column has {values.shape[1:]}")
    if feature.dtype == "string":
        if values.dtype.kind not in "OU":
            raise InputError(f"{where}: expected text, got {values.dtype} numbers; use Category(dtype='int64')")
        return values.astype(object)
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    values = _numeric(values, where, lists).astype(np.float64)
    known = ~np.isnan(values)
    # From 2**53 on a float64 no longer tells neighbouring integers apart.
    exact = (np.abs(values) < 2**53) & (values == np.floor(values))
    _refuse(known & ~exact, values, f"{where} is not an integer", "make it a Dense feature or text", lists)
    return np.where(known, values, UNKNOWN_INTEGER).astype(np.int64)


def _numeric(values: np.ndarray, where: str, lists: Lists | _Places) -> np.ndarray:
    if values.dtype.kind in "iufb":
        return values
    if values.dtype.kind not in "OU":
        raise InputError(f"{where}: expected numbers, got {values.dtype}; convert it to a number or leave it out")
    item = next((i for i, value in enumerate(values) if not _is_number(value)), 0)
    raise InputError(
        f"{where}: expected numbers, got text, such as {values[item]!r} in {lists.place(item)}; "
        "convert it (pandas.to_numeric) and mark missing values with an empty cell or NaN"
    )


def _is_number(text: object) -> bool:
    try:
        float(str(text))
    except ValueError:
        return False
    return True


def _as_float32(values: np.ndarray, where: str, lists: Lists | _Places) -> np.ndarray:
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    lost = np.isinf(narrow) & np.isfinite(values)
    _refuse(lost, values, f"{where} is too large for float32", "scale it down", lists)
    return narrow


def _refuse(wrong: np.ndarray, values: np.ndarray, what: str, advice: str, lists: Lists | _Places) -> None:
    """Raises for the first value that is wrong, saying where it stands, how many there are and what to do."""
    if wrong.any():
        rows = wrong.reshape(len(wrong), -1).any(axis=1)
        item = int(rows.argmax())
        value = values[wrong][0].item()
        raise InputError(f"{what}: {value!r} in {lists.place(item)} ({int(rows.sum())} in all); {advice}")
