"""Folds of all lists: each list is tested once, no label of a test list is seen, and no two tables are mixed up."""

import numpy as np
import pandas as pd
import pytest

from tfmtl2r import datasets
from tfmtl2r.data import Lists, from_frame
from tfmtl2r.data.pooling import pooled
from tfmtl2r.data.splits import by_fold
from tfmtl2r.experiment import Experiment


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three files of lists; each list has a brand of its own, and prices of its own size."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    for split, lists in (("train", range(12)), ("vali", range(12, 18)), ("test", range(18, 24))):
        rows = [{"q": f"q{i}", "brand": f"b{i}", "price": 10.0 ** (i % 5) + rng.random(), "y": int(rng.integers(2))}
                for i in lists for _ in range(3)]
        pd.DataFrame(rows).to_csv(folder / f"{split}.csv", index=False)
    return folder


def table(folder, **options):
    return datasets.get("table", files=str(folder), list_id="q", goals=[{"name": "y", "kind": "binary"}], **options)


@pytest.mark.parametrize("seed", [0, 1])
def test_every_list_is_tested_once_and_depends_on_its_id_alone(seed, rng):
    ids = np.array([f"q{i}" for i in range(200)], object)
    lists = Lists({"x": np.arange(200.0)}, np.arange(201), ids)
    parts = np.array([by_fold(lists, number, 5, seed, 0.2) for number in range(5)])
    assert ((parts == "test").sum(axis=0) == 1).all()
    assert 0.1 < (parts == "vali").mean() / 0.8 < 0.3
    order = rng.permutation(200)
    assert (by_fold(lists.select(order), 2, 5, seed, 0.2) == parts[2][order]).all()
    assert (by_fold(lists, 2, 5, seed + 1, 0.2) != parts[2]).any()
    twice = pooled([lists, lists])  # the same user in two splits
    assert (by_fold(twice, 2, 5, seed, 0.2).reshape(2, -1) == parts[2]).all()


def test_statistics_and_vocabularies_are_those_of_the_training_lists_of_the_fold(files):
    whole = table(files)
    assert whole.pooled().num_lists == 24
    seen = []
    for number in range(3):
        fold = whole.cross_fold(number, 3, seed=1, vali=0.25)
        train, schema = fold.lists("train"), fold.schema()
        features = {feature.name: feature for feature in schema.features}
        assert set(features["brand"].vocabulary) == set(train.columns["brand"])
        assert features["price"].mean == pytest.approx(train.columns["price"].mean(), rel=1e-4)
        seen += fold.lists("test").ids.tolist()
        ids = [set(fold.lists(split).ids) for split in fold.splits]
        assert not ids[0] & ids[2]
        assert len(set.union(*ids)) == 24
    assert sorted(seen) == sorted(whole.pooled().ids)
    assert "vali" in whole.lists("vali").place(0)
    assert whole.lists("train").num_lists == 12  # the data set itself has not changed
    assert whole.pooled().place(36) == f"row 0 (counted from 0) of {files}/vali.csv, list 'q12'"


def test_one_file_whose_own_split_would_be_empty_can_be_folded(files, tmp_path):
    rows = pd.concat([pd.read_csv(files / f"{split}.csv") for split in ("train", "vali")])
    rows.to_csv(tmp_path / "all.csv", index=False)
    alone = table(tmp_path / "all.csv", split={"vali": 0.0, "test": 0.0})
    assert alone.cross_fold(0, 2).lists("test").num_lists + alone.cross_fold(1, 2).lists("test").num_lists == 18


def test_tables_are_put_together_column_by_column():
    first = from_frame(pd.DataFrame({"q": [1, 1, 2], "n": [1, 2, 3], "t": ["a", None, "b"], "h": [[1], [2, 3], []]}),
                       "q")
    second = from_frame(pd.DataFrame({"q": [2, 3], "n": [0.5, None], "t": [None, None], "h": [[4], [5]]}), "q")
    both = pooled([first, second])
    assert both.ids.tolist() == [1, 2, 2, 3]
    assert both.sizes.tolist() == [2, 1, 1, 1]
    assert both.columns["n"].tolist()[:4] == [1, 2, 3, 0.5]
    assert both.columns["t"].tolist() == ["a", "", "b", "", ""]
    assert both.kept("h").elements().sizes.tolist() == [1, 2, 0, 1, 1]
    assert both.select([2]).columns["n"].tolist() == [0.5]
    assert both.fingerprint() == pooled([first, second]).fingerprint()
    with pytest.raises(ValueError, match=r"column 't' holds text in one split and number in another"):
        _ = pooled([first, second.with_column("t", np.array([1.0, 2.0]))]).columns["t"]
    with pytest.raises(ValueError, match="a split has no column 'h'"):
        pooled([first, Lists({"q": np.array([1]), "n": np.array([1]), "t": np.array([1])}, np.array([0, 1]))])


@pytest.mark.parametrize(("name", "message"), [
    ("kuairand", r"rates of KuaiRand .* set rates = false"), ("movielens", "statistics of MovieLens .* own splits"),
])  # fmt: skip
def test_columns_with_statistics_of_the_training_labels_cannot_be_folded(name, message):
    with pytest.raises(ValueError, match=message):
        datasets.get(name, path="nowhere").cross_fold(0, 5)


def test_a_fold_is_a_key_of_an_experiment(files):
    settings = {"tasks": [{"name": "y", "kind": "binary"}], "data": {"files": str(files), "list_id": "q"}}
    experiment = Experiment.of(settings).but(data={"cross_validation": {"number": 1, "folds": 3}})
    assert Experiment.of(experiment.config()) == experiment
    assert experiment.dataset().lists("test").ids.tolist() == table(files).cross_fold(1, 3).lists("test").ids.tolist()
    with pytest.raises(ValueError, match=r"cross_validation\.number must be below the number of folds, 3, not 3"):
        experiment.but(data={"cross_validation": {"number": 3, "folds": 3}})
    with pytest.raises(ValueError, match=r"fold 0 of 500 has no lists in its test split: .* take fewer folds"):
        experiment.but(data={"cross_validation": {"folds": 500}}).dataset()
