"""Smoothed training rates (target encoding): the rate of positive labels of a user, an item or any other key.

Such a rate is more informative than an embedding of a rare id, especially for rare labels. The rate of a row must not
contain the row's own label, because a model would learn to read this label and fail on new rows.
:func:`out_of_fold_rates` leaves out the whole fold of a row, for example its day, so that rates cannot leak.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from tfmtl2r.data.cells import Cells
from tfmtl2r.data.lists import missing_column
from tfmtl2r.data.stored import NO_FILE
from tfmtl2r.errors import InputError

LEAST = 1e-6


def out_of_fold_rates(
    train: pd.DataFrame, rows: pd.DataFrame, key: str | Sequence[str], labels: Sequence[str], *, fold: str,
    prior: float = 20.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Smoothed mean label of the training rows of the same key and **another fold**, for each row.

    ``rate = (sum of labels + prior * mean) / (count + prior)``. Sum and count are over the training rows with the same
    key in other folds; ``mean`` is the mean label of all training rows in other folds. If ``rows`` is ``train``, the
    rate of a row contains neither its own label nor other labels of its fold. Rows whose fold is not in the training
    rows, for example later days, get the rate over all training rows. Only training labels are read. A missing label
    (NaN or negative) does not count. A key that is unknown outside the fold has the count 0 and the rate ``mean``.
    Missing keys are treated as one key.

    A fold should contain rows that are known at the same time or belong together, for example the rows of a day. With
    folds of single rows (leave one out), a rate within a key would be higher if the row's label is lower, and a model
    would learn this relation.

    Args:
        train: the training rows, with key, labels and fold.
        rows: N rows of any split for which rates are computed, with key and fold.
        key: column of ids, for example ``"video_id"``, or several, for example ``("user_id", "tag")``: rows have the
            same key if they agree in all of them.
        labels: T columns of labels in ``train``, either 0 and 1 or other numbers >= 0.
        fold: column of the folds, for example the day.
        prior: number of rows with the mean label that are added to each key, so that rare keys have no extreme rates.

    Returns:
        Rates and counts of known labels, each ``float64[N, T]``.

    Raises:
        ValueError: for no key, a missing column, a prior that is not above 0, a column that has text in one table and
            numbers in the other, or a label without any known value outside a fold.

    Source: Micci-Barreca, A Preprocessing Scheme for High-Cardinality Categorical Attributes, SIGKDD Explorations 3(1),
    2001, https://doi.org/10.1145/507533.507538.

    >>> train = pd.DataFrame({"user": [7, 7, 7, 8], "day": [1, 1, 2, 2], "click": [1, 1, 0, 1]})
    >>> rates, counts = out_of_fold_rates(train, train, "user", ["click"], fold="day", prior=1.0)
    >>> rates[:, 0].tolist(), counts[:, 0].tolist()  # user 7 on day 1: (0 + 1/2) / (1 + 1); user 8: as all of day 1
    ([0.25, 0.25, 1.0, 1.0], [1.0, 1.0, 2.0, 0.0])
    """
    if not prior > 0:
        raise InputError(f"prior must be above 0, not {prior!r}: without it a key that is not known has no rate")
    columns = (key,) if isinstance(key, str) else tuple(key)
    if not columns:
        raise InputError("key is empty: name at least one column of ids")
    for table, where, names in ((train, "the training table", (*columns, fold, *labels)),
                                (rows, "the table of rows", (*columns, fold))):
        for name in names:
            if name not in table.columns:
                raise InputError(missing_column(name, table.columns, where))
    values = train[list(labels)].to_numpy(np.float64)
    known = values >= 0  # False for NaN
    numbers = np.concatenate([np.where(known, values, 0.0), known], axis=1)  # [n, 2T]: what is summed

    keys, folds = _codes_of_all(train, rows, columns), _codes(train, rows, fold)
    pairs = _both(keys, folds)
    sums, counts = np.split(_sums(numbers, keys) - _sums(numbers, pairs), 2, axis=1)
    all_sums, all_counts = np.split(numbers.sum(0) - _sums(numbers, folds), 2, axis=1)
    if (all_counts == 0).any():
        row, label = np.argwhere(all_counts == 0)[0]
        raise InputError(f"label {labels[label]!r} is not known in any training row outside {fold} "
                         f"{rows[fold].iloc[row]!r}: give training rows of at least two values of {fold!r}")
    return (sums + prior * (all_sums / all_counts)) / (counts + prior), counts


def log_odds(rates: np.ndarray) -> np.ndarray:
    """``log(p / (1 - p))`` of rates clipped to [1e-6, 1 - 1e-6]. As features, log-odds spread out small rates, too.

    >>> log_odds(np.array([0.5, 0.0])).round(2).tolist()
    [0.0, -13.82]
    """
    kept = np.clip(rates, LEAST, 1.0 - LEAST)
    return np.log(kept) - np.log1p(-kept)


def _codes_of_all(train: pd.DataFrame, rows: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Integer codes for the values of several columns together."""
    return functools.reduce(_both, (_codes(train, rows, name) for name in names))


def _both(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """One integer code for each pair of codes."""
    return pd.factorize(first * (second.max() + 1) + second)[0]


def _codes(train: pd.DataFrame, rows: pd.DataFrame, name: str) -> np.ndarray:
    """Integer codes for the values of a column, for the training rows followed by the rows."""
    parts = train[name], rows[name]
    if len({pd.api.types.is_numeric_dtype(part) for part in parts}) > 1:
        raise InputError(f"column {name!r} holds {parts[0].dtype} in the training rows and {parts[1].dtype} in the "
                         "rows: numbers and text are never equal; convert one")
    cells = [Cells(name, part, NO_FILE) for part in parts]
    ids = [part.identities for part in cells]
    if {part.dtype.kind for part in ids} <= {"M"}:
        ids = [part.astype(np.result_type(*ids)) for part in ids]  # the same dates in another unit
    if ids[0].dtype != ids[1].dtype:  # a common type, such as float64, would make different integers equal
        ids = [part.astype(object) for part in ids]
    missing = np.concatenate([part.missing for part in cells])
    codes = pd.factorize(np.concatenate(ids), use_na_sentinel=False)[0]
    return np.where(missing, codes.max() + 1, codes)  # one key, however each table marks what is missing


def _sums(numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """For each row, the sums ``[N, ...]`` over the training rows with the same code; ``codes`` are those of both."""
    n, groups = len(numbers), int(codes.max()) + 1
    columns = [np.bincount(codes[:n], weights=column, minlength=groups)[codes[n:]] for column in numbers.T]
    return np.stack(columns, axis=1)
