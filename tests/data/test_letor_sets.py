"""The LETOR data sets, on the public files where they are there."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest

from tfmtl2r import datasets
from tfmtl2r.evaluation.trivial import trivial_results

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SPLITS = ("train", "vali", "test")


def public(name, folder, **options):
    if not (SHARED / folder).is_dir():
        pytest.skip(f"{SHARED / folder} is not there: the public data sets are not part of the project")
    return datasets.get(name, path=str(SHARED / folder), **options)


@pytest.mark.parametrize(("name", "folder", "lists", "items", "width"), [
    ("mslr", "mslr", [93, 22, 27], 15_354, 131),
    ("mq2008", "letor_mq2008", None, 12_337, 45),
    ("ohsumed", "letor_ohsumed", None, 12_602, 45),
])  # fmt: skip
def test_sizes_and_inputs(name, folder, lists, items, width):
    data = public(name, folder)
    parts = [data.lists(split) for split in SPLITS]
    assert sum(part.num_items for part in parts) == items
    assert lists is None or [part.num_lists for part in parts] == lists
    schema = data.schema()
    assert schema.names == ("features",)
    assert schema.features[0].shape == (width,)
    raw = parts[0].columns["features"].astype(np.float64)
    feature = schema.features[0]
    assert (feature.transform, feature.copies) == ("signed_log1p", ("rank_gauss",))
    np.testing.assert_allclose(feature.mean[:width], (np.sign(raw) * np.log1p(np.abs(raw))).mean(0), atol=1e-6)
    x, y = next(iter(data.load("vali", batch_size=3)))
    assert x["features"].shape[2] == width
    assert set(y) == {task.name for task in data.tasks()}


def test_mslr_labels():
    data = public("mslr", "mslr")
    raw = public("mslr", "mslr", labels="raw").lists("train")
    lists = data.lists("train")
    assert np.bincount(lists.columns["label"].astype(int)).tolist() == [5474, 3040, 1364, 169, 43]
    want = {
        "quality": np.digitize(raw.columns["quality"], [3, 10, 50, 100]),
        "quality2": np.digitize(raw.columns["quality2"], [3, 10, 50, 100]),
        "clicks": np.minimum(4, np.ceil(np.log1p(raw.columns["clicks"].astype(float)))),
        "dwell": np.minimum(4, np.ceil(np.log1p(raw.columns["dwell"].astype(float)) / 1.2)),
    }
    for name, values in want.items():
        np.testing.assert_array_equal(lists.columns[name], values)
    deep = public("mslr", "mslr", labels="deepmtl2r").lists("train")
    np.testing.assert_array_equal(deep.columns["quality"], 255 - raw.columns["quality"])
    np.testing.assert_array_equal(deep.columns["clicks"], raw.columns["clicks"])


@pytest.mark.parametrize(("targets", "width"), [
    (("relevance",), 136), (("relevance", "quality"), 135), (("quality", "quality2"), 134), (("clicks",), 133),
    (("relevance", "dwell"), 133), (("relevance", "quality", "quality2", "clicks", "dwell"), 131),
])  # fmt: skip
def test_mslr_targets_leave_the_inputs(targets, width):
    data = public("mslr", "mslr", targets=targets, normalise="zscore")
    assert [task.name for task in data.tasks()] == list(targets)
    assert data.lists("vali").columns["features"].shape == (2278, width)


def test_bm25_is_the_published_baseline():
    results = trivial_results(public("mslr", "mslr"), "test", ["relevance"])
    assert results["BM25"]["relevance"]["ndcg@10"]["value"] == pytest.approx(0.346, abs=0.001)


def test_mq2008_and_ohsumed_labels():
    lists = public("mq2008", "letor_mq2008").lists("train")
    assert 0 < lists.columns["prob"].min() < lists.columns["prob"].max() < 1
    assert lists.columns["authority"].max() == 1
    assert sorted(set(lists.columns["label"].tolist())) == [0, 1, 2]
    lists = public("ohsumed", "letor_ohsumed").lists("train")
    relevant, definite = lists.columns["relevant"], lists.columns["definitely_relevant"]
    assert relevant.sum() > definite.sum() > 0
    assert (definite <= relevant).all()


def test_cache_and_folds(tmp_path):
    for fold in (1, 2):
        folder = tmp_path / f"Fold{fold}"
        folder.mkdir()
        (folder / "train.txt").write_text(f"1 qid:{fold} " + " ".join(f"{i}:{i}" for i in range(1, 46)) + "\n")
    data = datasets.get("ohsumed", path=str(tmp_path), fold=2, cache_dir=str(tmp_path / "c"))
    assert data.lists("train").ids.tolist() == [2]
    assert len(list((tmp_path / "c").glob("*.parquet"))) == 1
    with pytest.raises(FileNotFoundError, match=r"no folder Fold3"):
        datasets.get("ohsumed", path=str(tmp_path), fold=3).lists("train")


@pytest.mark.parametrize(("name", "site"), [
    ("mslr", "https://www.microsoft.com/en-us/research/project/mslr/"),
    ("mq2008", "https://www.microsoft.com/en-us/research/project/letor-"),
    ("ohsumed", "https://www.microsoft.com/en-us/research/project/letor-"),
    ("istella", "https://istella.ai/data/"),
])  # fmt: skip
def test_missing_files_name_where_to_get_them(name, site, tmp_path):
    with pytest.raises(ValueError, match=f"path is empty.*{site}"):
        datasets.get(name)
    with pytest.raises(FileNotFoundError, match=rf"expected one file .*found none; .*{site}"):
        datasets.get(name, path=str(tmp_path)).lists("vali")
    card = datasets.card(name)
    assert "research" in card.note
    assert "Pitfalls" in card.note


@pytest.mark.parametrize(("options", "message"), [
    ({"targets": ("relevance", "click")}, "targets must be one or more different names of relevance, quality"),
    ({"targets": ()}, "targets must be"),
    ({"targets": ("clicks", "clicks")}, "targets must be one or more different"),
    ({"labels": "grades"}, "labels must be one of graded, raw, deepmtl2r, not 'grades'"),
    ({"normalise": "minmax"}, "normalise must be one of"),
    ({"fold": 6}, "fold must be 1 to 5"),
    ({"tfds": "10k_fold1"}, "set either path or tfds"),
])  # fmt: skip
def test_option_errors(options, message):
    with pytest.raises(ValueError, match=message):
        datasets.get("mslr", path="x", **options)


def test_mq2008_needs_its_comments(tmp_path):
    (tmp_path / "train.txt").write_text("1 qid:1 1:1\n")
    with pytest.raises(ValueError, match="expected comments such as #docid"):
        datasets.get("mq2008", path=str(tmp_path)).lists("train")


class FakeDatasets(types.SimpleNamespace):
    """Stands for tensorflow-datasets: prepared sets by name and split."""

    def __init__(self, **prepared):
        super().__init__(builder=self.Builder, as_numpy=lambda dataset: dataset)
        self.Builder.prepared = prepared

    class Builder:
        def __init__(self, name):
            self.name = name

        def as_dataset(self, split):
            if split not in self.prepared:
                raise AssertionError(f"could not find {self.name}")
            return self.prepared[split]


def list_example(query, sizes, width):
    features = np.arange(sizes * width, dtype=np.float64).reshape(sizes, width)
    return {"float_features": features, "label": np.ones(sizes), "query_id": query}


def test_tensorflow_datasets(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r"mslr_web/10k_fold1 .*pip install 'tfmtl2r\[datasets\]'"):
        datasets.get("mslr", tfds="10k_fold1").lists("train")
    prepared = FakeDatasets(train=[list_example(np.full(n, 7 + n), n, 136) for n in (2, 3)])
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", prepared)
    data = datasets.get("mslr", tfds="10k_fold1", targets=("relevance", "quality"))
    lists = data.lists("train")
    assert lists.ids.tolist() == [9, 10]
    assert lists.sizes.tolist() == [2, 3]
    assert lists.columns["features"].shape == (5, 135)
    with pytest.raises(FileNotFoundError, match=r"not been prepared .*run `tfds build mslr_web/10k_fold1`"):
        data.lists("test")


def test_istella_from_tensorflow_datasets(monkeypatch):
    train = [list_example(str(query).encode(), 2, 220) for query in range(25)]
    train[3]["float_features"][1, 49] = np.finfo(np.float64).max
    prepared = FakeDatasets(train=train, vali=train[:4], test=train[:2])
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", prepared)
    small = datasets.get("istella", tfds="s")
    assert [small.lists(split).num_lists for split in SPLITS] == [25, 4, 2]
    assert small.lists("train").columns["features"][7, 49] == 1e6
    whole = datasets.get("istella", tfds="main")
    assert whole.lists("vali").ids.tolist() == [9, 19]
    assert whole.lists("train").num_lists == 23
    assert not set(whole.lists("train").ids) & set(whole.lists("vali").ids)


def test_istella_files(tmp_path):
    rows = [f"{i % 5} qid:{i} 1:{i} 50:{1.7976931348623157e308!r} 220:-4\n" for i in range(20)]
    for split in ("train", "test"):
        (tmp_path / f"{split}.txt").write_text("".join(rows))
    data = datasets.get("istella", path=str(tmp_path))
    assert [data.lists(split).num_lists for split in SPLITS] == [18, 2, 20]
    assert data.lists("test").columns["features"][:, 49].tolist() == [1e6] * 20
    (tmp_path / "vali.txt").write_text(rows[0])
    assert [datasets.get("istella", path=str(tmp_path)).lists(split).num_lists for split in SPLITS] == [20, 1, 20]


def test_movielens_from_tensorflow_datasets(monkeypatch):
    rng = np.random.default_rng(0)
    rows = [
        {"user_id": str(user).encode(), "movie_id": str(film).encode(), "movie_title": b"Film (1991)",
         "movie_genres": np.array([film % 3, 17]), "user_rating": np.float32(1 + film % 5), "timestamp": time}
        for user, size in ((4, 20), (9, 11)) for film, time in enumerate(rng.permutation(size))
    ]  # fmt: skip
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", FakeDatasets(train=rows))
    data = datasets.get("movielens", tfds="100k-ratings")
    parts = [data.lists(split) for split in SPLITS]
    assert [part.sizes.tolist() for part in parts] == [[16, 8], [2, 1], [2, 2]]
    assert parts[0].columns["genres"].shape == (24, 4)
    for user in (0, 1):
        times = [part.columns["timestamp"][part.offsets[user]:part.offsets[user + 1]] for part in parts]
        assert times[0].max() < times[1].min()
        assert times[1].max() < times[2].min()
    with pytest.raises(ValueError, match="not both"):
        datasets.get("movielens", path="x", tfds="100k-ratings")
