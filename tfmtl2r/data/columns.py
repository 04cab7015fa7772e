"""Columns checked and converted: what a feature, a label or a weight reads from :class:`Lists`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

import numpy as np

from tfmtl2r.data.choose import chosen_rows
from tfmtl2r.data.lists import Lists, missing_column
from tfmtl2r.data.vectors import Vectors
from tfmtl2r.errors import InputError
from tfmtl2r.features.base import MISSING, Feature, Values
from tfmtl2r.task import Task
from tfmtl2r.transforms import Transform, of_task

log = logging.getLogger("tfmtl2r")
HIGHEST_GRADE = 30
"""Gains are ``2**grade - 1``: beyond this a float32 sum of gains says nothing about the lower grades."""


def feature_values(lists: Lists, feature: Feature) -> dict[str, np.ndarray]:
    """The raw inputs of a feature by name, as :class:`tfmtl2r.layers.features.Lookup` reads them.

    Returns:
        ``[N, ...]``, for a context feature ``[num_lists, ...]``; missing values as the feature declares them.

    Raises:
        ValueError: for a missing column, or values that the feature cannot read.

    >>> from tfmtl2r import Category
    >>> lists = Lists({"brand": np.array([7.0, np.nan])})
    >>> feature_values(lists, Category("brand", vocabulary=(7,), dtype="int64"))["brand"].tolist()
    [7, -1]
    """
    return feature.read(Columns(lists, feature.context))


def feature_parts(lists: Lists, feature: Feature) -> Iterator[dict[str, np.ndarray]]:
    """Like :func:`feature_values`, but of vectors in a file some rows after the other.

    Raises:
        ValueError: as for :func:`feature_values`, when all parts have been read.
    """
    wrong: WrongValueError | None = None
    for part in lists.parts_of(feature.columns):
        try:
            found = feature_values(part, feature)
        except WrongValueError as error:
            wrong = error if wrong is None else wrong.and_(error.count)
        else:
            if wrong is None:
                yield found
    if wrong is not None:
        raise wrong


class WrongValueError(InputError):
    """Some values of a column are wrong.

    Args:
        first: what is wrong with the first one, and where it is.
        count: the number of rows with such values.
        advice: what to do.
    """

    def __init__(self, first: str, count: int, advice: str):
        super().__init__(f"{first} ({count} in all); {advice}")
        self.first, self.count, self.advice = first, count, advice

    def and_(self, more: int) -> WrongValueError:
        """The error of more rows."""
        return WrongValueError(self.first, self.count + more, self.advice)


class Columns:
    """The columns of a table, checked and converted; see :class:`tfmtl2r.features.base.Columns`.

    Args:
        lists: the table.
        context: whether the columns are read per list rather than per item.
    """

    def __init__(self, lists: Lists, context: bool):
        self.lists = lists
        self.context = context

    def identities(self, name: str) -> np.ndarray:
        """A column as ids, which are exact."""
        return self._of_lists(name, self.lists.identities(name))

    def numbers(self, name: str) -> np.ndarray:
        """A column of numbers in the type that it has; text of a text file is parsed."""
        return self._of_lists(name, numbers_of(self.lists, name, f"feature {name!r}"))

    def components(self, name: str) -> Iterator[np.ndarray]:
        """The numbers of a column, one component after the other."""
        column = self.lists.stored.columns.get(name)
        if isinstance(column, Vectors):
            for values in column.components():
                yield self._of_lists(name, values)
            return
        numbers = self.numbers(name)
        yield from numbers.reshape(len(numbers), -1).T

    def check(self, feature: Feature) -> None:
        """Reads all values of a feature, which raises for wrong ones."""
        for _ in feature_parts(self.lists, feature):
            pass

    def values(self, name: str, wanted: Values) -> np.ndarray:
        """A column in the type and shape that is wanted."""
        where = f"feature {name!r}"
        values = self.numbers(name) if wanted.dtype == "float32" else self.identities(name)
        if values.dtype.kind == "f" and np.isnan(values).all():  # no cell has a value, and so the column has no type
            return np.full((len(values), *(size or 0 for size in wanted.shape)), wanted.missing, wanted.array_type)
        if values.shape[1:] != wanted.shape:
            raise InputError(f"{where}: shape is {wanted.shape}, but the column has {values.shape[1:]} values per item")
        if wanted.dtype == "string":
            return self._texts(values, where, self.lists.kept(name).is_category)
        if wanted.dtype == "int64":
            return self._integers(name, where, wanted.missing)
        values = _as_float32(values, where, self)
        advice = "mark a missing value with NaN or an empty cell"
        _refuse(np.isinf(values), values, f"{where} is infinite", advice, self)
        return values

    def separator(self, name: str) -> str:
        """What splits the texts of a column that is read as lists; empty if it has no such texts."""
        return self.lists.kept(name).elements().separator

    def elements(self, name: str, separator: str = "", gaps: bool = False) -> tuple[Columns, np.ndarray]:
        """A column of lists as a table with one row per element, and the lengths of the lists."""
        rows = np.arange(self.lists.num_items)
        if self.context and self.lists.offsets is not None:
            rows, cells = self.lists.offsets[:-1], self.lists.elements_of_lists(name, separator, gaps)
        else:
            cells = self.lists.kept(name).elements(separator, gaps)
        assert self.lists.source_rows is not None
        if not cells.sizes.any():  # a table needs a row
            return Columns(Lists({name: np.array([""], object)}), False), cells.sizes
        places = np.repeat(self.lists.source_rows[rows], cells.sizes)
        flat = Lists({name: cells.flat}, source_rows=places, source=self.lists.source)
        return Columns(flat, False), cells.sizes

    def _of_lists(self, name: str, values: np.ndarray) -> np.ndarray:
        return self.lists.first_of_lists(name, values) if self.context else values

    def refuse(self, wrong: np.ndarray, values: np.ndarray, what: str, advice: str) -> None:
        """Raises for the first wrong value."""
        _refuse(wrong, values, what, advice, self)

    def place(self, row: int) -> str:
        """Where a row of the columns came from."""
        per_list = self.context and self.lists.offsets is not None
        return self.lists.place(int(self.lists.offsets[row]) if per_list else row)  # type: ignore[index]

    def _texts(self, values: np.ndarray, where: str, is_category: bool) -> np.ndarray:
        if is_category and values.dtype.kind in "iu":  # a category may be text elsewhere, where it contains fractions
            return np.where(values == -1, "", values.astype(str)).astype(object)
        if values.dtype.kind in "Mm" or values.dtype == np.uint64:  # times, and ids that may not fit into int64
            texts = np.array([_shortest(text) for text in values.astype(str)], object)
            return np.where(values == values, texts, "")
        if values.dtype.kind not in "OU":
            raise InputError(f"{where}: expected text, got {values.dtype} numbers; make it text, or train with 'int64'")
        return values.astype(object)

    def _integers(self, name: str, where: str, missing: int) -> np.ndarray:
        values = self._of_lists(name, self.lists.kept(name).spelled.identities)
        if values.dtype.kind not in "iufb":  # decimals, and text that may spell numbers; dates raise
            values = self.numbers(name)
        if values.dtype.kind in "iu":
            _refuse(values > np.iinfo(np.int64).max, values, f"{where} is too large for int64", "make it text", self)
            return values.astype(np.int64)
        values = values.astype(np.float64)
        known = ~np.isnan(values)
        # From 2**53 on a float64 no longer tells neighbouring integers apart.
        exact = (np.abs(values) < 2**53) & (values == np.floor(values))
        _refuse(known & ~exact, values, f"{where} is not an integer", "declare it as a number or as text", self)
        return np.where(known, values, missing).astype(np.int64)


def raw_labels(lists: Lists, task: Task) -> np.ndarray:
    """The label column of a task as ``float64[N]``, before its transform; NaN where it is missing.

    A label is missing where a rule of the task does not hold. If the task has a transform and is no regression, a
    negative label is missing, too.

    Raises:
        ValueError: for a missing column, text, an infinite label, or a label that the transform cannot take.
    """
    where = f"task {task.name!r}: label column {task.label!r}"
    if task.label not in lists.columns:
        raise InputError(f"task {task.name!r}: {missing_column(task.label, lists.columns)}")
    values = _one_per_row(lists, task.label, where)
    _refuse(np.isinf(values), values, f"{where} is infinite", "mark a missing label with NaN", lists)
    values = _as_float32(values, where, lists).astype(np.float64)
    if task.only_where:
        values = np.where(chosen_rows(lists, task.only_where, f"task {task.name!r}"), values, np.nan)
    transform = of_task(task)
    if transform is not None:
        if task.kind != "regression":
            values = np.where(values < 0, np.nan, values)
        wrong, advice = transform.wrong(values)
        _refuse(wrong, values, where, advice, lists)
    return values


def label_values(lists: Lists, task: Task) -> np.ndarray:
    """The labels of a task as ``float32[N]``; a missing one is NaN.

    The labels of a regression with a reversible transform are not transformed, since the ranker does so; see
    :mod:`tfmtl2r.transforms`.

    Raises:
        ValueError: for a missing column, text, an infinite label, a binary label other than 0 and 1, binary labels with
            1 and negative values but no 0, a grade above 30, or a label that the task's transform cannot take; each
            names the row and the list.

    >>> label_values(Lists({"click": np.array([1, 0, -1])}), Task("click", kind="binary")).tolist()
    [1.0, 0.0, -1.0]
    """
    if (prepared := lists.ready(task.label)) is not None:
        return prepared.labels(task)
    where = f"task {task.name!r}: label column {task.label!r}"
    values, transform = raw_labels(lists, task), of_task(task)
    if transform is not None and not (task.kind == "regression" and transform.reversible):
        values = transform.apply(values, read_beside(lists, task, transform))
        if task.kind != "regression":
            advice = f"a negative label of a {task.kind} task means missing: use kind='regression'"
            _refuse(values < 0, values, f"{where}, transformed, is negative", advice, lists)
    values = _as_float32(values, f"{where}, transformed," if transform else where, lists)
    if task.kind == "binary":
        wrong = (values >= 0) & (values != 0) & (values != 1)
        _refuse(wrong, values, f"{where} must be 0 or 1", "use kind='graded' or kind='regression'", lists)
        if (values == 1).any() and not (values == 0).any() and not (lists.kept(task.label).whole == 0).any():
            advice = "a negative label means missing, so no negative example would be left: write 0 for a negative " \
                     f"example, such as ({task.label} > 0), and NaN for a missing label"
            _refuse(values < 0, values, f"{where} has negative values and no 0", advice, lists)
    if task.kind == "graded":
        wrong = values > HIGHEST_GRADE
        advice = f"grades go up to {HIGHEST_GRADE}, since gains are 2**grade - 1: grade counts first, " \
                 "for example with transform = \"grades\", or use kind='regression'"
        _refuse(wrong, values, f"{where} is too large", advice, lists)
    return values


def read_beside(lists: Lists, task: Task, transform: Transform) -> dict[str, np.ndarray]:
    """The columns that a task's transform reads beside the label, each ``float64[N]``."""
    found = {}
    for column in transform.columns:
        if column not in lists.columns:
            raise InputError(f"task {task.name!r}: transform reads a column that is missing: "
                             f"{missing_column(column, lists.columns)}")
        where = f"task {task.name!r}: column {column!r} of transform"
        found[column] = _one_per_row(lists, column, where).astype(np.float64)
        _refuse(np.isinf(found[column]), found[column], f"{where} is infinite", "mark a missing value with NaN", lists)
    return found


def warn_of_negative(values: np.ndarray, task: Task, where: str) -> None:
    """Logs how many labels are missing because they are negative.

    Args:
        values: labels, as from :func:`label_values`.
        task: the task.
        where: which labels, such as the split.
    """
    negative = int((values < 0).sum())
    if negative and task.kind != "regression":
        log.warning("task %r: %d of %d labels of %s are negative, which means missing", task.name, negative,
                    len(values), where)


def weight_values(lists: Lists, task: str, name: str) -> np.ndarray:
    """The weights of a task: ``float32[N]``, or ``[n_lists]`` if the column is a context column.

    Raises:
        ValueError: for a missing column, text, or a weight that is not a finite number >= 0.
    """
    if (prepared := lists.ready(name)) is not None:
        return prepared.weights(name)
    where = f"task {task!r}: weight column {name!r}"
    if name not in lists.columns:
        raise InputError(f"task {task!r}: {missing_column(name, lists.columns)}")
    values = _as_float32(_one_per_row(lists, name, where), where, lists)
    _refuse(~(np.isfinite(values) & (values >= 0)), values, where, "expected a finite number >= 0", lists)
    return values[lists.offsets[:-1]] if lists.offsets is not None and name in lists.context else values


def item_weights(lists: Lists, task: str, name: str | None) -> np.ndarray:
    """The weight of every item, ``float32[N]``; ones without a column of weights."""
    if name is None:
        return np.ones(lists.num_items, np.float32)
    values = weight_values(lists, task, name)
    return values if lists.is_rows or name not in lists.context else np.repeat(values, lists.sizes)


def bounded(weights: np.ndarray, tau: float | None) -> np.ndarray:
    """Inverse propensities of at most ``1 / tau``.

    Raises:
        ValueError: for a tau outside (0, 1].

    >>> bounded(np.array([0.0, 2.0, 10.0]), 0.2).tolist()
    [0.0, 2.0, 5.0]
    """
    if tau is not None and not 0.0 < tau <= 1.0:
        raise InputError(f"tau must lie in (0, 1], or be None, not {tau!r}")
    return weights if tau is None else np.minimum(weights, 1.0 / tau)


def warn_of_propensities(lists: Lists, task: Task, where: str) -> None:
    """Reads the inverse propensities of a task, and logs if they look like propensities.

    Args:
        lists: a split.
        task: the task.
        where: which rows, such as the split.
    """
    weights = item_weights(lists, task.name, task.propensity_column)
    if weights.max() <= 1 and weights.min() < 1:
        log.warning("task %r: no number of propensity_column %r in %s is above 1: the column takes inverse "
                    "propensities, 1 / p, as tfmtl2r.data.with_click_weights computes them", task.name,
                    task.propensity_column, where)


def relevance(lists: Lists, tasks: Iterable[Task]) -> np.ndarray:
    """``bool[N, T']``: which items are relevant (label > 0), for the binary and graded ones among the tasks."""
    columns = [label_values(lists, task) > 0 for task in tasks if task.kind != "regression"]
    return np.stack(columns, axis=1) if columns else np.zeros((lists.num_items, 0), bool)


def _shortest(time: str) -> str:
    """A time without zeros at its end, which depend on the unit of the column."""
    whole, _, fraction = time.partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole.removesuffix("T00:00:00")


def numbers_of(lists: Lists, name: str, where: str) -> np.ndarray:
    """A column of numbers. In a text file, text that spells numbers counts as numbers.

    Args:
        lists: the table.
        name: the column.
        where: what the column is, for error messages.

    Raises:
        ValueError: for a missing column, or one with other text, dates or lists.
    """
    values = lists.column(name)
    if values.dtype.kind in "iufb":
        return values
    if values.dtype.kind not in "OU":
        raise InputError(f"{where}: expected numbers, got {values.dtype}; convert it to a number or leave it out")
    missing = np.isin(values.astype(str), MISSING)
    wrong = ~missing & ~np.array([_is_number(value) for value in values])
    if lists.kept(name).spells_numbers and not wrong.any():
        return np.where(missing, "nan", values).astype(np.float64)
    item = int((wrong if wrong.any() else ~missing).argmax())
    raise InputError(
        f"{where}: expected numbers, got text, such as {values[item]!r} in {lists.place(item)}; "
        "convert it (pandas.to_numeric) and mark missing values with an empty cell or NaN"
    )


def _one_per_row(lists: Lists, name: str, where: str) -> np.ndarray:
    """A column with one number per row."""
    values = numbers_of(lists, name, where)
    if values.ndim != 1:
        raise InputError(f"{where}: expected one number per row, got lists of {values.shape[1]} numbers; make a column "
                         "of each number")
    return values


def _is_number(text: object) -> bool:
    try:
        float(str(text))
    except ValueError:
        return False
    return "_" not in str(text)


def _as_float32(values: np.ndarray, where: str, lists: Lists | Columns) -> np.ndarray:
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    lost = np.isinf(narrow) & np.isfinite(values)
    _refuse(lost, values, f"{where} is too large for float32", "scale it down", lists)
    return narrow


def _refuse(wrong: np.ndarray, values: np.ndarray, what: str, advice: str, lists: Lists | Columns) -> None:
    """Raises for the first value that is wrong, saying where it stands, how many there are and what to do."""
    if wrong.any():
        rows = wrong.reshape(len(wrong), -1).any(axis=1)
        item = int(rows.argmax())
        [value] = values[wrong][:1].tolist()
        raise WrongValueError(f"{what}: {value!r} in {lists.place(item)}", int(rows.sum()), advice)
