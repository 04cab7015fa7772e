"""Smoothed training rates: by hand, against a loop over rows, and that no label enters its own rate."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from tfmtl2r.data.rates import log_odds, out_of_fold_rates

LABELS = ["click", "like"]


def table(n, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"user": rng.integers(0, 8, n), "day": rng.integers(1, 5, n), "click": rng.integers(0, 2, n),
                         "like": rng.choice([0.0, 1.0, np.nan, -1.0], n, p=[0.6, 0.2, 0.1, 0.1])})


@pytest.fixture(scope="module")
def train():
    return table(60)


def rates(train, rows=None, **options):
    return out_of_fold_rates(train, train if rows is None else rows, "user", LABELS, fold="day", **options)


def brute(train, rows, prior):
    """The docstring, row by row."""
    out = []
    for row in rows.itertuples():
        others = train[train.day != row.day]
        cells = []
        for label in LABELS:
            known = others[others[label] >= 0]
            own = known[known.user == row.user][label]
            cells.append(((own.sum() + prior * known[label].mean()) / (len(own) + prior), len(own)))
        out.append(cells)
    return np.moveaxis(np.array(out, float), 2, 0)


def test_no_label_of_its_fold_enters_a_rate(train):
    before = rates(train)
    for row in range(0, len(train), 3):
        for column, label in enumerate(LABELS):
            changed = train.copy()
            changed.loc[row, label] = 1.0 - max(changed.loc[row, label], 0.0) if row % 2 else np.nan
            after = rates(changed)
            same_day = (train.day == train.day[row]).to_numpy()
            for old, new in zip(before, after, strict=True):
                np.testing.assert_array_equal(old[same_day], new[same_day])  # its own among them, to the last bit
                np.testing.assert_array_equal(old[:, 1 - column], new[:, 1 - column])
            if train[label][row] >= 0:
                user = (train.user == train.user[row]).to_numpy() & ~same_day
                assert user.any()
                assert (before[0] != after[0])[user, column].all()


def test_only_training_labels_are_read(train):
    later = table(40, seed=1).assign(day=9)
    with_labels, without = rates(train, later), rates(train, later[["user", "day"]])
    for one, other in zip(with_labels, without, strict=True):
        np.testing.assert_array_equal(one, other)


def test_by_hand():
    train = pd.DataFrame({"user": ["a", "a", "b", "a", "b"], "day": [1, 1, 1, 2, 3], "click": [1, 0, 1, 1, 0],
                          "like": [0, 1, 0, np.nan, 1]})
    got, counts = rates(train, prior=2.0)
    # Outside day 1: clicks 1, 0 (mean 1/2), likes ., 1 (mean 1); outside day 2: clicks 1, 0, 1, 0, likes 0, 1, 0, 1;
    # outside day 3: clicks 1, 0, 1, 1, likes 0, 1, 0.
    want = [[(1 + 1) / 3, 2 / 2], [(1 + 1) / 3, 2 / 2], [(0 + 1) / 3, (1 + 2) / 3],
            [(1 + 1) / 4, (1 + 1) / 4], [(1 + 1.5) / 3, (0 + 2 / 3) / 3]]
    np.testing.assert_allclose(got, want, rtol=1e-12)
    assert counts.tolist() == [[1, 0], [1, 0], [1, 1], [2, 2], [1, 1]]
    later = pd.DataFrame({"user": ["b", "?"], "day": 4})
    got, counts = rates(train, later, prior=2.0)
    np.testing.assert_allclose(got, [[(1 + 1.2) / 4, (1 + 1) / 4], [0.6, 0.5]], rtol=1e-12)
    assert counts.tolist() == [[2, 2], [0, 0]]


@pytest.mark.parametrize("prior", [0.5, 20.0])
def test_as_a_loop_over_rows(train, prior):
    for rows in (train, table(40, seed=2)):  # other rows of the same days: nothing of their day either
        for got, want in zip(rates(train, rows, prior=prior), brute(train, rows, prior), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12)


def test_a_large_table_takes_no_time():
    rng = np.random.default_rng(0)
    n = 300_000
    train = pd.DataFrame({"user": rng.integers(0, 30_000, n), "day": rng.integers(0, 7, n)})
    train = train.assign(**{label: rng.integers(0, 2, n) for label in LABELS})
    start = time.perf_counter()
    got, _ = rates(train)
    assert time.perf_counter() - start < 3
    # A rate out of the fold knows nothing of a random label.
    assert abs(np.corrcoef(got[:, 0], train.click)[0, 1]) < 0.05


def test_missing_keys_are_one_key(train):
    holes = train.astype({"user": float}).assign(user=lambda t: t.user.where(t.user != 3))
    for got, want in zip(rates(holes), rates(train), strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_key_of_several_columns(train):
    train = train.assign(place=np.where(np.arange(len(train)) % 3, "tab", "feed"))
    both = train.assign(user=train.user.astype(str) + "|" + train.place)
    found = out_of_fold_rates(train, train, ["user", "place"], LABELS, fold="day")
    for got, want in zip(found, rates(both), strict=True):
        np.testing.assert_array_equal(got, want)
    with pytest.raises(ValueError, match="the table of rows has no column 'place'"):
        out_of_fold_rates(train, train[["user", "day"]], ["user", "place"], LABELS, fold="day")
    with pytest.raises(ValueError, match="key is empty"):
        out_of_fold_rates(train, train, [], LABELS, fold="day")


def test_log_odds():
    p = np.array([1e-5, 0.2, 0.5, 0.9])
    np.testing.assert_allclose(1 / (1 + np.exp(-log_odds(p))), p, rtol=1e-9)
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()


@pytest.mark.parametrize(("change", "options", "message"), [
    (lambda t: t, {"prior": 0}, "prior must be above 0, not 0"),
    (lambda t: t.drop(columns="like"), {}, "the training table has no column 'like'; did you mean"),
    (lambda t: t.assign(day=1), {}, r"'click' is not known in any training row outside day .*at least two values of"),
    (lambda t: t.assign(like=t.like.where(t.day == 1)), {}, r"'like' is not known in any training row outside day .*1"),
    (lambda t: t.assign(user=t.user.astype(str)), {}, r"'user' holds \w+ in the training rows and int64 in the rows"),
])  # fmt: skip
def test_errors(train, change, options, message):
    with pytest.raises(ValueError, match=message):
        rates(change(train), train[["user", "day"]], **options)


def test_errors_of_rows(train):
    with pytest.raises(ValueError, match="the table of rows has no column 'day'"):
        rates(train, train[["user"]])
