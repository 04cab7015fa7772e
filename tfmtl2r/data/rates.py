"""Smoothed training rates (target encoding): how often a user, an item or any other key had a positive label before.

Such a rate says more than an embedding of a rare id, and helps most where a label is rare. It must never hold the row's
own label: a model would read it there and fail on new rows. :func:`out_of_fold_rates` leaves out the whole fold of a
row, such as its day, so that there is no way to ask for a rate that leaks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tfmtl2r.data.lists import missing_column
from tfmtl2r.errors import InputError

LEAST = 1e-6


def out_of_fold_rates(
    train: pd.DataFrame, rows: pd.DataFrame, key: str, labels: Sequence[str], *, fold: str, prior: float = 20.0
) -> tuple[np.ndarray, np.ndarray]:
    """Smoothed mean label of the training rows of the same key and **another fold**, for each row.

    ``rate = (sum of labels + prior * mean) / (count + prior)``, where sum and count are over the training rows that
    have the row's key and not its fold, and ``mean`` is the mean label of all training rows that have not its fold.
    So for ``rows = train`` neither a row's own label nor another one of its fold enters its rate; rows whose fold does
    not occur in training, such as later days, get the rate of all training rows. Only training labels are read.
    A missing label (NaN or negative) does not count. A key unknown outside the fold has the count 0 and the rate
    ``mean``; missing keys are one key.

    Take folds that hold what is known at one time or belongs together, such as days. With folds of single rows
    (leave one out), the rate within a key is the higher the lower the label is: a model would learn that.

    Args:
        train: the training rows, with key, labels and fold.
        rows: N rows to give rates to, with key and fold; any split.
        key: column of ids, such as ``"video_id"``.
        labels: T columns of labels in ``train``: 0 or 1, or other numbers of 0 or more, of which it is a smoothed mean.
        fold: column, such as the day.
        prior: how many rows of the mean label are added to each key, so that a rare one is no extreme.

    Returns:
        Rates and counts of known labels, each ``float64[N, T]``.

    Raises:
        ValueError: for a missing column (with the nearest names), a prior that is not above 0, a column that is text in
            one table and numbers in the other, or a fold outside which a label is never known.

    Source: Micci-Barreca, A Preprocessing Scheme for High-Cardinality Categorical Attributes, SIGKDD Explorations 3(1),
    2001, https://doi.org/10.1145/507533.507538.

    >>> train = pd.DataFrame({"user": [7, 7, 7, 8], "day": [1, 1, 2, 2], "click": [1, 1, 0, 1]})
    >>> rates, counts = out_of_fold_rates(train, train, "user", ["click"], fold="day", prior=1.0)
    >>> rates[:, 0].tolist(), counts[:, 0].tolist()  # user 7 on day 1: (0 + 1/2) / (1 + 1); user 8: as all of day 1
    ([0.25, 0.25, 1.0, 1.0], [1.0, 1.0, 2.0, 0.0])
    """
    if not prior > 0:
        raise InputError(f"prior must be above 0, not {prior!r}: without it a key that is not known has no rate")
    for table, where, names in ((train, "the training table", (key, fold, *labels)),
                                (rows, "the table of rows", (key, fold))):
        for name in names:
            if name not in table.columns:
                raise InputError(missing_column(name, table.columns, where))
    values = train[list(labels)].to_numpy(np.float64)
    known = values >= 0  # False for NaN
    numbers = np.concatenate([np.where(known, values, 0.0), known], axis=1)  # [n, 2T]: what is summed

    keys, folds = (_codes(train, rows, name) for name in (key, fold))
    pairs = pd.factorize(keys * (folds.max() + 1) + folds)[0]
    sums, counts = np.split(_sums(numbers, keys) - _sums(numbers, pairs), 2, axis=1)
    all_sums, all_counts = np.split(numbers.sum(0) - _sums(numbers, folds), 2, axis=1)
    if (all_counts == 0).any():
        row, label = np.argwhere(all_counts == 0)[0]
        raise InputError(f"label {labels[label]!r} is not known in any training row outside {fold} "
                         f"{rows[fold].iloc[row]!r}: give training rows of at least two values of {fold!r}")
    return (sums + prior * (all_sums / all_counts)) / (counts + prior), counts


def log_odds(rates: np.ndarray) -> np.ndarray:
    """``log(p / (1 - p))`` of rates, kept within 1e-6 and 1 - 1e-6: as a feature, rare labels spread as frequent ones.

    >>> log_odds(np.array([0.5, 0.0])).round(2).tolist()
    [0.0, -13.82]
    """
    kept = np.clip(rates, LEAST, 1.0 - LEAST)
    return np.log(kept) - np.log1p(-kept)


def _codes(train: pd.DataFrame, rows: pd.DataFrame, name: str) -> np.ndarray:
    """Training rows and then rows, numbered by the value of a column."""
    parts = train[name], rows[name]
    if len({pd.api.types.is_numeric_dtype(part) for part in parts}) > 1:
        raise InputError(f"column {name!r} holds {parts[0].dtype} in the training rows and {parts[1].dtype} in the "
                         "rows: numbers and text are never equal; convert one")
    return pd.factorize(pd.concat(parts, ignore_index=True), use_na_sentinel=False)[0]


def _sums(numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Sums ``[N, ...]`` over the training rows of the same code, for each row; the codes are of both."""
    n, groups = len(numbers), int(codes.max()) + 1
    columns = [np.bincount(codes[:n], weights=column, minlength=groups)[codes[n:]] for column in numbers.T]
    return np.stack(columns, axis=1)
