"""MovieLens' statistics of other folds: no rating tells of itself, and the model is the one of the formula."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_public_sets import folder

from tfmtl2r import datasets
from tfmtl2r.datasets._taste import fit, standardised

SPLITS = ("train", "vali", "test")
STATISTICS = ("user_mean", "user_count", "item_mean", "item_count", "user_bias", "biases", "taste")
FOLDS = 4


def statistics(path, split, **options):
    """The statistics of a split, in the order of its file."""
    lists = datasets.get("movielens", path=path, folds=FOLDS, **options).lists(split)
    order = np.argsort(lists.source_rows)
    return {name: lists.columns[name][order] for name in STATISTICS}


@pytest.fixture
def path(tmp_path):
    return folder("movielens", tmp_path)["path"]


@pytest.mark.parametrize("row", [0, 17, 39])
def test_a_rating_changes_no_statistic_of_its_own_fold(path, row):
    train, test = statistics(path, "train"), statistics(path, "test")
    file = Path(path) / "train.csv"
    table = pd.read_csv(file)
    table.loc[row, "rating"] = 0.5 if table["rating"][row] > 2 else 5.0
    table.to_csv(file, index=False)
    after, later = statistics(path, "train"), statistics(path, "test")
    fold = np.random.default_rng(0).permutation(len(table)) % FOLDS
    own = fold == fold[row]
    for name in STATISTICS:
        np.testing.assert_array_equal(after[name][own], train[name][own], err_msg=name)
    # The others read it: their mean rating is another one.
    assert (after["biases"][~own] != train["biases"][~own]).all()
    assert (later["biases"] != test["biases"]).all()
    assert (later["taste"] != test["taste"]).any()


@pytest.mark.parametrize("split", ["vali", "test"])
def test_no_statistic_reads_a_later_rating(path, split):
    before = {name: statistics(path, name) for name in SPLITS}
    file = Path(path) / f"{split}.csv"
    table = pd.read_csv(file)
    table.assign(rating=5.5 - table["rating"]).to_csv(file, index=False)
    for name in SPLITS:
        for column, values in statistics(path, name).items():
            np.testing.assert_array_equal(values, before[name][column], err_msg=f"{name} {column}")


def test_random_protocol_reads_training_ratings_only(path):
    """Of the ratings drawn for the test, none enters: they are found by their time and given the opposite value."""
    for i, split in enumerate(SPLITS):
        table = pd.read_csv(Path(path) / f"{split}.csv")
        table.assign(timestamp=table["timestamp"] + 100 * i).to_csv(Path(path) / f"{split}.csv", index=False)
    before = datasets.get("movielens", path=path, folds=FOLDS, protocol="random")
    drawn = before._ratings("test")
    for split in SPLITS:
        file = Path(path) / f"{split}.csv"
        table = pd.read_csv(file)
        table.loc[table["timestamp"].isin(drawn["timestamp"]), "rating"] = 5.5 - table["rating"]
        table.to_csv(file, index=False)
    after = datasets.get("movielens", path=path, folds=FOLDS, protocol="random")
    assert (after.lists("test").columns["rating"] != before.lists("test").columns["rating"]).any()
    for name in STATISTICS:
        for split in ("train", "test"):
            np.testing.assert_array_equal(after.lists(split).columns[name], before.lists(split).columns[name])


def test_statistics_of_a_fold_are_those_of_the_rest_as_test_rows(path, tmp_path):
    """A training row gets what it would get as a test row of the other folds."""
    train = statistics(path, "train")
    table = pd.read_csv(Path(path) / "train.csv")
    fold = np.random.default_rng(0).permutation(len(table)) % FOLDS
    (Path(path) / "movies.csv.gz").rename(tmp_path / "movies.csv.gz")
    for k in range(FOLDS):
        table[fold != k].to_csv(tmp_path / "train.csv", index=False)
        table[fold == k].to_csv(tmp_path / "test.csv", index=False)
        for name, values in statistics(str(tmp_path), "test").items():
            np.testing.assert_allclose(values, train[name][fold == k], rtol=1e-9, atol=1e-12, err_msg=name)


def test_biases_and_slopes_against_one_dense_solve():
    rng = np.random.default_rng(1)
    users, items, n, prior, penalty = 6, 9, 40, 3.0, 2.0
    user, item = rng.integers(0, users - 1, n), rng.integers(0, items - 1, n)  # the last of each without ratings
    rating, x = rng.integers(1, 11, n) / 2, rng.normal(size=(items, 3))
    model = fit(user, item, rating, x, users, prior=prior, penalty=penalty)
    design = np.concatenate([np.eye(users)[user], np.eye(items)[item]], axis=1)
    normal = design.T @ design + prior * np.eye(users + items)
    expected = np.linalg.solve(normal, design.T @ (rating - rating.mean()))
    np.testing.assert_allclose(np.append(model.user_bias, model.item_bias), expected, atol=1e-6)
    left = rating - rating.mean() - model.user_bias[user] - model.item_bias[item]
    for u in range(users):
        own, y = x[item[user == u]], left[user == u]
        augmented = np.append(own, np.sqrt(penalty) * np.eye(3), axis=0)
        slopes = np.linalg.lstsq(augmented, np.append(y, np.zeros(3)))[0]
        np.testing.assert_allclose(model.slopes[u], slopes, atol=1e-9)
    assert not model.slopes[-1].any()
    assert model.user_bias[-1] == model.item_bias[-1] == 0


def test_columns_by_hand(tmp_path):
    """Two users, who know other films and genres: the arithmetic of one test row, without the code."""
    pd.DataFrame({"movieId": [1, 2, 3], "title": ["A (2000)", "B (2000)", "C (2000)"],
                  "genres": ["Drama", "War", "Drama"]}).to_csv(tmp_path / "movies.csv", index=False)  # fmt: skip
    rows = pd.DataFrame({"userId": [1, 1], "movieId": [1, 2], "rating": [5.0, 3.0], "timestamp": [1, 2]})
    rows.to_csv(tmp_path / "train.csv", index=False)
    pd.DataFrame({"userId": [1, 8], "movieId": [3, 3], "rating": [4.0, 4.0], "timestamp": [3, 3]}).to_csv(
        tmp_path / "test.csv", index=False)
    columns = datasets.get("movielens", path=str(tmp_path), folds=2).lists("test").columns
    # Mean 4, residuals +1 and -1, which cancel in the user's bias; the films' are +-1 / (1 + 5). What is left, +-5/6,
    # is shared by the slopes of the genres: 5/6 / (1 + 20). Years and counts are all the same and say nothing.
    assert columns["user_bias"].tolist() == [0, 0]
    assert columns["biases"].tolist() == [4, 4]
    np.testing.assert_allclose(columns["taste"], [5 / 6 / 21, 0])
    np.testing.assert_allclose(columns["user_mean"], [4, 4])


def test_standardised():
    values = np.array([2.0, np.nan, 4.0, 10.0])
    np.testing.assert_allclose(standardised(values, np.array([0, 0, 1, 2, 2])), [-1, 0, 1, 7])
    assert not standardised(values, np.array([1, 1])).any()
    assert not standardised(values, np.array([3, 3])).any()


def test_inputs_and_trivial_scores(path):
    data, without = (datasets.get("movielens", path=path, folds=folds) for folds in (FOLDS, 0))
    assert set(data.schema().names) - set(without.schema().names) == {"user_bias", "biases", "taste"}
    lists, trivial = data.lists("test"), data.trivial_scores()
    columns = lists.columns
    assert set(trivial) - set(without.trivial_scores()) == {"biases", "biases and taste"}
    np.testing.assert_array_equal(trivial["biases"]["rating"](lists), columns["biases"])
    np.testing.assert_array_equal(trivial["biases and taste"]["like"](lists), columns["biases"] + columns["taste"])
    np.testing.assert_array_equal(trivial["user mean"]["rating"](lists), columns["user_mean"])
    for split in ("vali", "test"):  # without folds, means and counts are the same
        for name in STATISTICS[:4]:
            np.testing.assert_array_equal(data.lists(split).columns[name], without.lists(split).columns[name])


@pytest.mark.parametrize("folds", [-1, 1])
def test_errors(folds):
    with pytest.raises(ValueError, match=re.escape(f"folds must be 0 or at least 2, not {folds}")):
        datasets.get("movielens", path="x", folds=folds)


def test_real_files():
    """The closed form alone is better than LightGBM's .880 on simpler features."""
    real = Path(__file__).resolve().parents[3] / "shared" / "data" / "movielens_latest_small"
    if not real.is_dir():
        pytest.skip(f"{real} is not there: the public data sets are not part of the project")
    data = datasets.get("movielens", path=str(real), folds=5)
    error = {}
    for split in ("train", "test"):
        columns = data.lists(split).columns
        for name, values in (("biases", columns["biases"]), ("taste", columns["biases"] + columns["taste"])):
            error[split, name] = np.sqrt(np.mean((values - columns["rating"]) ** 2))
    assert error["test", "biases"] == pytest.approx(0.9032, abs=5e-4)
    assert error["test", "taste"] == pytest.approx(0.8608, abs=5e-4)
    # A training row's error is that of a row which was not fitted: the validation split's is .8275.
    assert error["train", "taste"] == pytest.approx(0.828, abs=2e-3)
