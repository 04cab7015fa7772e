from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_public_sets import NAMES as PUBLIC
from test_public_sets import folder

from tfmtl2r import data, datasets
from tfmtl2r.data import Lists, fit_schema, fit_tasks, label_values, splits
from tfmtl2r.data.synthetic import directions, latent_lists, mmoe_rows
from tfmtl2r.task import Task

SPLITS = ("train", "vali", "test")

CLICK = Task("click", "is_click", "binary")


@pytest.fixture(scope="module")
def kuairand():
    return datasets.get("kuairand_excerpt")


@pytest.fixture
def table_folder(tmp_path):
    frame = pd.DataFrame({"user": np.repeat(np.arange(60), 3), "price": np.arange(180.0), "is_click": [0, 1, 0] * 60})
    for split in SPLITS:
        frame.to_parquet(tmp_path / f"{split}.parquet")
    return tmp_path


def letor_folder(parent, features, grades):
    """Ten lists of four rows per split, dense, with the comments of MQ2008."""
    folder = parent / f"letor{features}"
    folder.mkdir()
    rng = np.random.default_rng(features)
    for split in SPLITS:
        rows = []
        for row in range(40):
            values = " ".join(f"{i}:{v}" for i, v in enumerate(rng.integers(0, 9, features), start=1))
            rows.append(f"{row % grades} qid:{row // 4} {values} #docid = D{row} inc = 1 prob = {rng.random():.3f}\n")
        (folder / f"{split}.txt").write_text("".join(rows))
    return {"path": str(folder)}


def test_listing_loads_neither_tensorflow_nor_pandas():
    code = ("import sys; from tfmtl2r import datasets; print(datasets.names(), datasets.card('table').title); "
            "assert not {'tensorflow', 'pandas', 'keras'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.product
@pytest.mark.parametrize("name", [name for name in datasets.names() if name != "store"])  # see test_store.py
def test_every_data_set(name, table_folder):
    options = {
        "synthetic_mslr": {"num_lists": 12, "max_length": 30},
        "synthetic_rows": {"rows": 40},
        "synthetic_conflict": {"rows": 40},
        "table": {"files": str(table_folder), "list_id": "user", "goals": [CLICK]},
        "mslr": letor_folder(table_folder, 136, 5),
        "mq2008": letor_folder(table_folder, 46, 3),
        "ohsumed": letor_folder(table_folder, 45, 3),
        "istella": letor_folder(table_folder, 220, 5),
        **{public: folder(public, table_folder) for public in PUBLIC},
    }
    data = datasets.get(name, **options.get(name, {}))
    assert set(data.default_tasks) <= {task.name for task in data.tasks()}
    schema = data.schema()
    assert schema is data.schema()
    assert not {task.label for task in data.tasks()} & set(schema.names)
    assert schema == fit_schema(data.lists("train"), data.tasks(), data.features(), data.exclude())
    for split in SPLITS:
        lists = data.lists(split)
        assert lists is data.lists(split)
        x, y = next(iter(data.load(split, batch_size=4, shuffle=False)))
        assert set(y) == set(data.default_tasks)
        assert ("list_size" in x) == (not lists.is_rows)
        one = data.default_tasks[:1]
        assert set(data.load(split, one).element_spec[1]) == set(one)
        for scores in data.trivial_scores().values():
            for task, score in scores.items():
                assert task in {t.name for t in data.tasks()}
                assert score(lists).shape == (lists.num_items,)
    if name in ("kuairand", "movielens"):  # statistics of the training labels are columns
        with pytest.raises(ValueError, match="would contain their own test labels"):
            data.pooled()
    else:
        whole = data.pooled()
        assert whole.num_items == sum(data.lists(split).num_items for split in SPLITS)
        train = whole.select(np.arange(0, whole.num_lists, 2))
        anew = data.with_splits({"train": train, "vali": whole, "test": whole})
        assert anew.schema() == fit_schema(train, data.tasks(), anew.features(), data.exclude())
        assert data.schema() is schema
    with pytest.raises(ValueError, match="no split 'validation'; its splits: train, vali, test"):
        data.lists("validation")
    with pytest.raises(ValueError, match=f"no task {one[0] + 's'!r}; did you mean {one[0]!r}"):
        data.load("train", [one[0] + "s"])


def test_kuairand_counts(kuairand):
    assert [kuairand.lists(split).num_lists for split in SPLITS] == [4408, 610, 1227]
    assert sum(kuairand.lists(split).num_items for split in SPLITS) == 79_998
    users = [set(kuairand.lists(split).ids.tolist()) for split in SPLITS]
    assert len(set.union(*users)) == 6245
    sizes = np.concatenate([kuairand.lists(split).sizes for split in SPLITS])
    assert (sizes.min(), sizes.max()) == (6, 40)


def test_kuairand_inputs(kuairand):
    schema = kuairand.schema()
    feedback = {"is_click", "long_view", "is_like", "is_profile_enter", "is_follow", "is_comment", "watch_ratio"}
    assert not {*feedback, "watch_grade", "user_id", "video_id", "author_id", "day"} & set(schema.names)
    assert len(schema.names) == 28
    assert sum(feature.context for feature in schema.features) == 16
    assert {f.name: f for f in schema.features}["duration_s"].transform == "log1p"


def test_kuairand_grades(kuairand):
    lists = kuairand.lists("vali")
    ratio, grade = lists.columns["watch_ratio"], lists.columns["watch_grade"]
    np.testing.assert_array_equal(grade, sum((ratio >= bound).astype(int) for bound in (0.1, 0.3, 0.6, 1.0)))
    assert set(grade.tolist()) == {0, 1, 2, 3, 4}


def test_kuairand_missing_file_and_shuffle(kuairand, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"vali.parquet: there is no such file.*https://kuairand.com"):
        datasets.get("kuairand_excerpt", path=str(tmp_path)).lists("vali")
    train = kuairand.load("train")
    first = next(iter(train))[0]["duration_s"][:, 0]
    assert np.array_equal(first, next(iter(train))[0]["duration_s"][:, 0])  # a second look is the same epoch
    second = kuairand.load("train", epoch=1)
    assert not np.array_equal(first, next(iter(second))[0]["duration_s"][:, 0])
    vali = kuairand.load("vali")
    np.testing.assert_array_equal(next(iter(vali))[0]["hour"], next(iter(vali))[0]["hour"])


def test_kuairand_is_fast(kuairand):
    dataset = kuairand.load("train", list_limit=30, buckets="auto")
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        batches = sum(1 for _ in dataset)
        best = min(best, time.perf_counter() - start)
    assert batches == dataset.cardinality().numpy()
    assert 4408 / best > 2000, f"{4408 / best:.0f} lists a second"


def test_kuairand_data_card_is_installed():
    folder = Path(data.__file__).parent / "bundled" / "kuairand_excerpt"
    assert "CC BY-SA 4.0" in (folder / "README.md").read_text()
    assert "Attribution-ShareAlike 4.0" in (folder / "LICENSE").read_text()


def test_own_tasks_take_their_label_out(kuairand):
    own = Task("short", label="duration_s", kind="regression")
    assert "duration_s" in kuairand.schema().names
    with pytest.raises(ValueError, match="'duration_s' is the label of task 'short'"):
        kuairand.schema(["click", own])


@pytest.mark.parametrize(("count", "cosine"), [(2, -1.0), (2, 0.5), (2, 1.0), (5, -0.25), (5, 0.3), (1, 0.0)])
def test_directions_have_exactly_the_cosine(count, cosine):
    w = directions(count, 100, cosine, np.random.default_rng(0))
    np.testing.assert_allclose(w @ w.T, np.where(np.eye(count), 1.0, cosine), atol=1e-12)


@pytest.mark.parametrize(("count", "dim", "cosine", "message"), [
    (3, 10, -0.6, "from -0.5 to 1, not -0.6"),
    (2, 10, 1.1, "from -1 to 1, not 1.1"),
    (5, 4, 0.0, "expected 1 to 4 directions"),
])  # fmt: skip
def test_directions_errors(count, dim, cosine, message):
    with pytest.raises(ValueError, match=message):
        directions(count, dim, cosine, np.random.default_rng(0))


def test_mmoe_rows_follow_the_recipe():
    options = {"num_tasks": 2, "correlation": 0.5, "dim": 100, "seed": 1}
    lists = mmoe_rows(20_000, split="train", **options)
    x = lists.columns["features"]
    np.testing.assert_allclose(x.mean(0), 0, atol=0.04)
    np.testing.assert_allclose(np.cov(x.T), np.eye(100), atol=0.06)
    parameters = np.random.default_rng([1, 0])
    w = directions(2, 100, 0.5, parameters)
    alpha, beta = parameters.standard_normal((2, 5))
    for t in range(2):
        linear = x @ w[t]
        noise = lists.columns[f"label_{t + 1}"] - linear - sum(np.sin(a * linear + b) for a, b in zip(alpha, beta))  # noqa: B905
        assert noise.mean() == pytest.approx(0, abs=0.003)
        assert noise.var() == pytest.approx(0.01, rel=0.05)
    same = mmoe_rows(20_000, split="train", **options)
    assert same.fingerprint() == lists.fingerprint()
    assert mmoe_rows(20_000, split="vali", **options).fingerprint() != lists.fingerprint()
    assert mmoe_rows(20_000, split="train", **{**options, "seed": 2}).fingerprint() != lists.fingerprint()


def test_label_correlation_grows_with_the_cosine():
    found = []
    for p in (0.0, 0.5, 0.9, 1.0):
        columns = mmoe_rows(5000, num_tasks=2, correlation=p, dim=20, seed=0, split="train").columns
        found.append(np.corrcoef(columns["label_1"], columns["label_2"])[0, 1])
    assert found == sorted(found)
    assert found[0] == pytest.approx(0, abs=0.05)
    assert found[-1] > 0.98


@pytest.mark.parametrize(
    ("tasks", "conflict", "cosine"), [(2, 0.0, 1), (2, 0.5, 0), (2, 1.0, -1), (5, 0.5, 0.375), (5, 1.0, -0.25)]
)
def test_latent_lists_conflict(tasks, conflict, cosine):
    lists, utility = latent_lists(
        150, num_tasks=tasks, features=20, conflict=conflict, max_length=337, seed=0, split="train")
    within = utility - np.add.reduceat(utility, lists.offsets[:-1]).repeat(lists.sizes, 0) / lists.sizes.repeat(
        lists.sizes)[:, None]
    correlation = np.corrcoef(within.T)[~np.eye(tasks, dtype=bool)]
    np.testing.assert_allclose(correlation, cosine / 1.09, atol=0.06)


def test_mslr_shape_and_moments():
    data = datasets.get("synthetic_mslr", num_lists=300, num_tasks=2, num_features=10)
    lists = data.lists("train")
    assert lists.sizes.min() >= 10
    assert lists.sizes.max() <= 337
    assert lists.sizes.mean() == pytest.approx(116, rel=0.08)
    for task in data.tasks():
        shares = np.bincount(lists.columns[task.label].astype(int)) / lists.num_items
        np.testing.assert_allclose(shares, [0.5425, 0.3013, 0.1352, 0.0167, 0.0043], atol=1e-3)
        shares = np.bincount(data.lists("test").columns[task.label].astype(int)) / data.lists("test").num_items
        np.testing.assert_allclose(shares[:3], [0.5425, 0.3013, 0.1352], atol=0.05)
    again = datasets.get("synthetic_mslr", num_lists=300, num_tasks=2, num_features=10)
    assert again.lists("vali").fingerprint() == data.lists("vali").fingerprint()
    assert not set(data.lists("vali").ids) & set(data.lists("test").ids)
    assert data.lists("vali").columns["features"][0, 0] != data.lists("test").columns["features"][0, 0]


@pytest.mark.parametrize(("name", "options", "message"), [
    ("synthetic_mslr", {"num_lists": 3}, "num_lists must be at least 4"),
    ("synthetic_mslr", {"num_tasks": 0}, "num_tasks must be at least 1"),
    ("synthetic_mslr", {"max_length": 0}, "max_length must be at least 1"),
    ("synthetic_mslr", {"conflict": 1.5}, "conflict must be from 0 to 1"),
    ("synthetic_mslr", {"num_features": 5}, "5 tasks need more than 5 features"),
    ("synthetic_rows", {"rows": 0}, "rows must be at least 4"),
    ("synthetic_rows", {"correlation": -2}, "any common cosine from -1 to 1"),
    ("synthetic_rows", {"seed": -1}, "seed must be 0 or more"),
    ("table", {"goals": [CLICK]}, "needs either files or all of train, vali and test; given: none"),
    ("table", {"goals": [CLICK], "train": "a.csv"}, "all of train, vali and test; given: train"),
    ("table", {"goals": [CLICK], "files": "a", "train": "a.csv"}, "all of train, vali and test; given: files, train"),
    ("table", {"files": "a.csv"}, "needs at least one task"),
    ("table", {"files": "a.csv", "goals": [{"name": "click", "kind": "bin"}]}, "kind must be .*'binary'.*not 'bin'"),
    ("table", {"files": "a.csv", "goals": ["a", "a"]}, "two tasks are called 'a'"),
])  # fmt: skip
def test_option_errors(name, options, message):
    with pytest.raises(ValueError, match=message):
        datasets.get(name, **options).lists("train")


def test_table_file_is_split_by_list(table_folder):
    options = {"list_id": "user", "goals": [CLICK]}
    data = datasets.get("table", files=str(table_folder / "train.parquet"), **options)
    ids = [data.lists(split).ids.tolist() for split in SPLITS]
    assert sorted(np.concatenate(ids).tolist()) == list(range(60))
    assert len(ids[0]) > len(ids[2]) > 0 < len(ids[1])
    again = datasets.get("table", files=str(table_folder / "vali.parquet"), **options)
    assert [again.lists(split).ids.tolist() for split in SPLITS] == ids
    rows = datasets.get("table", files=str(table_folder / "train.parquet"), goals=[CLICK])
    assert sum(rows.lists(split).num_items for split in SPLITS) == 180


@pytest.mark.parametrize(("vali", "test"), [(.025, .125), (.005, .005), (.1, .005), (.333, .333), (.0, .0005)])
def test_shares_are_those_that_were_wanted(vali, test):
    found = splits.by_list(Lists({"x": np.arange(20_000)}), vali, test)
    for split, share in (("vali", vali), ("test", test)):
        assert abs((found == split).sum() - 20_000 * share) <= 4 * (20_000 * share) ** 0.5


def test_loading_fits_the_transforms_of_labels_on_the_training_split(table_folder):
    frame = pd.read_parquet(table_folder / "train.parquet")
    frame.assign(seconds=frame["price"] % 7).to_csv(table_folder / "one.csv", index=False)
    goals = [CLICK, {"name": "seconds", "kind": "graded", "transform": {"name": "grades", "grades": 3}}]
    data = datasets.get("table", files=str(table_folder / "one.csv"), list_id="user", goals=goals)
    labels = {split: next(iter(data.load(split, batch_size=99)))[1]["seconds"].numpy() for split in SPLITS}
    assert set(np.unique(labels["train"])) - {-1} == {0, 1, 2}
    [_, fitted] = fit_tasks(data.lists("train"), data.tasks())
    wanted = label_values(data.lists("test"), fitted)
    assert sorted(labels["test"][labels["test"] >= 0]) == sorted(wanted)


def test_table_statistics_come_from_the_training_split(table_folder):
    data = datasets.get("table", files=str(table_folder / "train.parquet"), list_id="user", goals=[CLICK])
    price = data.lists("train").columns["price"]
    assert data.schema().features[0].mean == (price.mean(),)
    assert price.mean() != 89.5


def test_table_errors_name_the_file(table_folder):
    options = {"files": str(table_folder), "goals": [CLICK]}
    with pytest.raises(ValueError, match=r"train.parquet: the table has no column 'usr'; did you mean 'user'"):
        datasets.get("table", list_id="usr", **options).lists("train")
    (table_folder / "vali.csv").write_text("user\n1\n")
    with pytest.raises(FileNotFoundError, match=r"expected one file vali.*found vali.parquet, vali.csv"):
        datasets.get("table", list_id="user", **options).lists("vali")
    (table_folder / "vali.csv").unlink()
    (table_folder / "test.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected one file test.*found none"):
        datasets.get("table", list_id="user", **options).lists("test")
    small = table_folder / "small.csv"
    small.write_text("user,x,is_click\n1,1,1\n")
    data = datasets.get("table", files=str(small), list_id="user", goals=[CLICK])
    with pytest.raises(ValueError, match="the hash of the ids puts none of its"):
        [data.lists(split) for split in SPLITS]


def test_table_features_context_and_exclusions(table_folder):
    data = datasets.get("table", files=str(table_folder), list_id="user", goals=[CLICK],
                        columns=["user", "*"], context=["user"])
    assert data.schema().names == ("user", "price")
    assert data.schema().features[0].context
    assert datasets.get("table", files=str(table_folder), goals=[CLICK], leave_out=["user"]).schema().names == (
        "price",)


def test_table_takes_several_files_patterns_and_shares(table_folder):
    options = {"list_id": "user", "goals": [CLICK]}
    frame = pd.read_parquet(table_folder / "train.parquet")
    parts = table_folder / "parts"
    parts.mkdir()
    for number, part in enumerate((frame[:90], frame[90:])):
        part.to_csv(parts / f"{number}.csv", index=False)
    one = datasets.get("table", files=str(table_folder / "train.parquet"), **options).lists("test")
    for files in (str(parts), str(parts / "*.csv"), [str(parts / "0.csv"), str(parts / "1.csv")]):
        found = datasets.get("table", files=files, **options).lists("test")
        assert found.ids.tolist() == [str(name) for name in one.ids.tolist()]  # in a text file, an id is text
        assert found.fingerprint() == one.fingerprint()
    with pytest.raises(FileNotFoundError, match="no file matches this pattern"):
        datasets.get("table", files=str(parts / "*.parquet"), **options).lists("test")
    shares = {"vali": 0.5, "test": 0.0}
    halved = datasets.get("table", files=str(parts), split=shares, **options)
    assert 15 < halved.lists("vali").num_lists < 45
    with pytest.raises(ValueError, match=r"puts none of its .* lists into 'test'"):
        halved.lists("test")
    seeded = datasets.get("table", files=str(parts), split={"seed": 1}, **options)
    assert seeded.lists("test").ids.tolist() != one.ids.tolist()
    named = datasets.get("table", **{split: str(table_folder / f"{split}.parquet") for split in SPLITS}, **options)
    assert named.lists("test").num_lists == 60


def test_table_columns_are_described_by_entries(table_folder):
    entries = [{"name": "user", "kind": "category", "width": 3}, {"name": "*"}]
    data = datasets.get("table", files=str(table_folder), goals=[CLICK], columns=entries)
    user, price = data.schema().features
    assert (user.dim, user.dtype, len(user.vocabulary)) == (3, "int64", 60)
    assert price.shape == ()
    logged = datasets.get("table", files=str(table_folder), goals=[CLICK],
                          columns=[{"name": ["price", "user"], "transform": "log1p"}]).schema()
    assert [feature.transform for feature in logged.features] == ["log1p", "log1p"]
    with pytest.raises(ValueError, match="feature 'price': width is not for a feature of kind 'dense'"):
        datasets.get("table", files=str(table_folder), goals=[CLICK],
                     columns=[{"name": "price", "kind": "dense", "width": 2}]).schema()
