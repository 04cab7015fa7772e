"""The LETOR data sets, on the public files where they are there."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest

from tfmtl2r.data import datasets
from tfmtl2r.report.trivial import trivial_results

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
    np.testing.assert_allclose(schema.features[0].mean, (np.sign(raw) * np.log1p(np.abs(raw))).mean(0), atol=1e-6)
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
])  # fmt: skip
def test_missing_files_name_where_to_get_them(name, site, tmp_path):
    with pytest.raises(ValueError, match=f"path is empty.*{site}"):
        datasets.get(name)
    with pytest.raises(FileNotFoundError, match=rf"expected one file vali.*found none; .*{site}"):
        datasets.get(name, path=str(tmp_path)).lists("vali")
    card = datasets.card(name)
    assert "research" in card.note
    assert "Pitfalls" in card.note


@pytest.mark.parametrize(("options", "message"), [
    ({"targets": ("relevance", "click")}, "targets must be different ones of relevance, quality"),
    ({"targets": ()}, "targets must be"),
    ({"targets": ("clicks", "clicks")}, "targets must be different"),
    ({"labels": "grades"}, "labels must be one of graded, raw, deepmtl2r, not 'grades'"),
    ({"normalise": "minmax"}, "normalise must be one of"),
    ({"fold": 6}, "fold must be 1 to 5"),
    ({"tfds": "10k_fold1"}, "give either a path or a configuration"),
])  # fmt: skip
def test_option_errors(options, message):
    with pytest.raises(ValueError, match=message):
        datasets.get("mslr", path="x", **options)


def test_mq2008_needs_its_comments(tmp_path):
    (tmp_path / "train.txt").write_text("1 qid:1 1:1\n")
    with pytest.raises(ValueError, match="expected comments such as #docid"):
        datasets.get("mq2008", path=str(tmp_path)).lists("train")


def test_tensorflow_datasets(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r"mslr_web/10k_fold1 .*pip install 'tfmtl2r\[datasets\]'"):
        datasets.get("mslr", tfds="10k_fold1").lists("train")

    class Builder:
        def __init__(self, name):
            assert name == "mslr_web/10k_fold1"

        def as_dataset(self, split):
            if split == "test":
                raise AssertionError("could not find data")
            features = np.arange(3 * 136, dtype=np.float64).reshape(3, 136)
            return [
                {"float_features": features[:n], "label": np.ones(n), "query_id": np.full(n, 7 + n)} for n in (2, 3)
            ]

    fake = types.SimpleNamespace(builder=Builder, as_numpy=lambda dataset: dataset)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", fake)
    data = datasets.get("mslr", tfds="10k_fold1", targets=("relevance", "quality"))
    lists = data.lists("train")
    assert lists.ids.tolist() == [9, 10]
    assert lists.sizes.tolist() == [2, 3]
    assert lists.columns["features"].shape == (5, 135)
    with pytest.raises(FileNotFoundError, match=r"has not been prepared here.*run `tfds build mslr_web/10k_fold1`"):
        data.lists("test")
