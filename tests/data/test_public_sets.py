"""KuaiRand-Pure, Census-Income and MovieLens: on small folders in their formats, and on the real files where they are.

``folder(name, parent)`` makes the small one; ``test_data_sets.py`` uses it too.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tfmtl2r import datasets
from tfmtl2r.datasets import census_income, kuairand

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SPLITS = ("train", "vali", "test")
NAMES = ("kuairand", "census_income", "movielens")


def public(name, folder, **options):
    if not (SHARED / folder).is_dir():
        pytest.skip(f"{SHARED / folder} is not there: the public data sets are not part of the project")
    return datasets.get(name, path=str(SHARED / folder), **options)


def kuairand_folder(folder):
    rng = np.random.default_rng(0)
    for day, stem in enumerate(kuairand.LOGS.values()):
        log = pd.DataFrame({name: rng.integers(0, 2, 60) for name in kuairand.LOG_COLUMNS})
        log = log.assign(user_id=rng.integers(0, 6, 60), video_id=rng.integers(0, 9, 60), date=20220430 + 101 * day,
                         hourmin=2300, time_ms=np.arange(60), duration_ms=10_000, tab=rng.integers(0, 3, 60),
                         play_time_ms=rng.integers(0, 15_000, 60))
        log["date"] = [20220430, 20220502, 20220504][day] - rng.integers(0, 2, 60)
        pd.concat([log, log[:7]]).to_csv(folder / f"{stem}.csv.gz", index=False)
    users = pd.DataFrame({name: rng.integers(0, 5, 6) for name in (*kuairand.USER_COUNTS, *kuairand.USER_CODES)})
    users.assign(user_id=range(6), user_active_degree=["full", "high"] * 3, follow_user_num_range="x").to_csv(
        folder / "user_features_pure.csv", index=False)
    videos = pd.DataFrame({name: rng.integers(1, 900, 9) for name in kuairand.VIDEO_COLUMNS})
    videos.assign(video_id=range(9), video_type=["NORMAL", "AD", "AD"] * 3, upload_type=["Web", "Kmovie", "Web"] * 3,
                  upload_dt="2022-04-10", tag=["39,2", "12", None] * 3).to_csv(
        folder / "video_features_basic_pure.csv.gz", index=False)
    pd.DataFrame({"user_id": [0, 1, 2], "history_len": [4, 1, 0], "last_time_ms": 1, "watch_seq": ["3 3 1 8", "3", ""],
                  "like_seq": ["3", "", ""], "long_watch_seq": ["3 8", "3", ""]}).to_csv(
        folder / "user_history_until_0424.csv.gz", index=False)


def census_folder(folder):
    rng = np.random.default_rng(0)
    for name, rows in (("census-income.data.gz", 80), ("census-income.test.gz", 40)):
        frame = pd.DataFrame({column: rng.integers(0, 4, rows).astype(str) for column in census_income.COLUMNS})
        frame["marital"] = rng.choice(["Never married", "Divorced"], rows)
        frame["education"] = rng.choice([*census_income.COLLEGE[:2], "Children"], rows)
        frame["sex"] = rng.choice(["Male", "?"], rows)
        frame["income_band"] = rng.choice(["- 50000.", "50000+."], rows)
        text = "".join(", ".join(row) + "\n" for row in frame.to_numpy())
        (folder / name).write_bytes(gzip.compress(text.encode()))


def movielens_folder(folder):
    rng = np.random.default_rng(0)
    pd.DataFrame({
        "movieId": [1, 2, 3, 4], "title": ["Toy Story (1995)", "Ran (1985) ", "Sense8", "Nosferatu (1922)"],
        "genres": ["Comedy|Children", "War", "(no genres listed)", "Horror"],
    }).to_csv(folder / "movies.csv.gz", index=False)  # fmt: skip
    for split in SPLITS:
        pd.DataFrame({"userId": np.repeat(np.arange(5), 8), "movieId": rng.integers(1, 5, 40),
                      "rating": rng.integers(1, 11, 40) / 2, "timestamp": rng.permutation(40)}).to_csv(
            folder / f"{split}.csv", index=False)


def folder(name, parent):
    path = parent / name
    path.mkdir()
    {"kuairand": kuairand_folder, "census_income": census_folder, "movielens": movielens_folder}[name](path)
    return {"path": str(path)}


@pytest.mark.parametrize("name", NAMES)
def test_cards_and_missing_files(name, tmp_path):
    with pytest.raises(ValueError, match=r"path is empty.*https://"):
        datasets.get(name)
    with pytest.raises(FileNotFoundError, match=r"https://"):
        datasets.get(name, path=str(tmp_path)).lists("train")
    card = datasets.card(name)
    assert "Pitfalls" in card.note
    assert "Good for" in card.note
    assert "https://" in card.paper


@pytest.mark.parametrize(("name", "options"), [
    ("kuairand", {}), ("kuairand", {"ids": True}), ("movielens", {}), ("movielens", {"ids": True}),
    ("census_income", {}), ("census_income", {"group": "education_married"}),
])  # fmt: skip
def test_no_label_or_feedback_among_the_inputs(name, options, tmp_path):
    data = datasets.get(name, **folder(name, tmp_path), **options)
    inputs = set(data.schema().names)
    feedback = {*kuairand.FEEDBACK, "play_time_ms", "instance_weight", "timestamp", "rating", "like"}
    assert not inputs & {*feedback, *data.exclude(), *(task.label for task in data.tasks())}
    ids = {"user_id", "video_id", "author_id", "userId", "movieId"}
    assert bool(inputs & ids) == options.get("ids", False)
    x, y = next(iter(data.load("vali", batch_size=3)))
    assert set(x) - {"list_size"} == inputs
    assert set(y) == set(data.default_tasks)


def test_kuairand_rows(tmp_path):
    data = datasets.get("kuairand", **folder("kuairand", tmp_path))
    lists = data.lists("train")
    assert lists.num_items == 60  # seven duplicates are gone
    assert lists.num_lists == len(set(lists.ids.tolist())) == 6
    assert set(lists.context) >= {"hist_len", "onehot_feat17", "register_days"}
    columns = lists.columns
    row = np.flatnonzero((columns["user_id"] == 0) & (columns["video_id"] == 3))[0]
    assert [columns[name][row] for name in ("hist_len", "video_hist_count", "seen_before")] == [4, 3, 2]
    assert columns["hist_long_rate"][row] == pytest.approx((2 + 20 * 3 / 5) / (4 + 20))
    assert columns["video_hist_like_rate"][row] == pytest.approx((1 + 20 * 1 / 5) / (3 + 20))
    assert set(columns["tag"].tolist()) == {"39", "12", ""}
    assert set(columns["hour"].tolist()) == {23}
    assert set(columns["video_age_days"].tolist()) == {19, 20}
    np.testing.assert_array_equal(columns["watch_grade"], np.digitize(columns["watch_ratio"], [0.1, 0.3, 0.6, 1.0]))


def test_kuairand_histories(tmp_path):
    """The sequences of the history file, with the table of the video that is scored; empty for other users."""
    data = datasets.get("kuairand", **folder("kuairand", tmp_path), histories=True)
    schema = data.schema(())
    assert {"watch_seq", "like_seq", "long_watch_seq", "video_id"} <= set(schema.names)
    assert not {"user_id", "author_id"} & set(schema.names)
    x, _ = next(iter(data.load("train", batch_size=6, schema=schema)))
    assert sorted(x["watch_seq_size"].numpy().tolist()) == [0, 0, 0, 0, 1, 4]
    assert sorted(x["like_seq_size"].numpy().tolist()) == [0, 0, 0, 0, 0, 1]
    user = int(np.argmax(x["watch_seq_size"]))
    ids = schema.features[schema.names.index("video_id")].vocabulary
    known = [0 if video not in ids else 1 + ids.index(video) for video in (3, 3, 1, 8)]
    assert x["watch_seq"].numpy()[user].tolist() == known


def test_kuairand_popularity_is_of_training_rows(tmp_path):
    data = datasets.get("kuairand", **folder("kuairand", tmp_path))
    train, test = data.lists("train").columns, data.lists("test")
    scores = data.trivial_scores()["popularity"]["click"](test)
    video = int(test.columns["video_id"][5])
    clicks = train["is_click"][train["video_id"] == video]
    want = (clicks.sum() + 20 * train["is_click"].mean()) / (len(clicks) + 20)
    assert scores[5] == pytest.approx(want)


def rates_of(path, split):
    """Labels and rates of a split in the order of the log, the duplicates gone."""
    lists = datasets.get("kuairand", path=str(path)).lists(split)
    order = np.argsort(lists.source_rows)
    return {name: values[order] for name, values in lists.columns.items() if name.endswith(("_log_odds", "_count"))}


def test_kuairand_rates_leave_out_the_own_day(tmp_path):
    path = Path(folder("kuairand", tmp_path)["path"])
    log = path / f"{kuairand.LOGS['train']}.csv.gz"
    before = pd.read_csv(log).drop_duplicates(ignore_index=True)
    train, test = rates_of(path, "train"), rates_of(path, "test")
    changed = before.copy()
    changed.loc[11, ["is_click", "is_like"]] = 1 - before.loc[11, ["is_click", "is_like"]]
    changed.to_csv(log, index=False)
    own_day = (before["date"] == before["date"][11]).to_numpy()
    assert 0 < own_day.sum() < 60
    for name, values in rates_of(path, "train").items():
        np.testing.assert_array_equal(values[own_day], train[name][own_day], err_msg=name)
        assert (values[~own_day] != train[name][~own_day]).all() == any(f"_{t}_" in name for t in ("click", "like"))
    after = rates_of(path, "test")
    assert (after["user_click_log_odds"] != test["user_click_log_odds"]).all()
    np.testing.assert_array_equal(after["user_follow_log_odds"], test["user_follow_log_odds"])


def test_kuairand_rates_never_read_labels_of_other_splits(tmp_path):
    path = Path(folder("kuairand", tmp_path)["path"])
    before = {split: rates_of(path, split) for split in SPLITS}
    for split in ("vali", "test"):
        log = path / f"{kuairand.LOGS[split]}.csv.gz"
        rows = pd.read_csv(log)
        labels = ["is_click", "long_view", "is_like", "is_follow", "is_comment"]
        rows.assign(**{label: 1 - rows[label] for label in labels}).to_csv(log, index=False)
    for split in SPLITS:
        for name, values in rates_of(path, split).items():
            np.testing.assert_array_equal(values, before[split][name], err_msg=f"{split} {name}")


def test_kuairand_rates_by_hand(tmp_path):
    data = datasets.get("kuairand", **folder("kuairand", tmp_path), prior=5.0)
    train, test = data.lists("train").columns, data.lists("test").columns
    author = test["author_id"][7]
    likes = train["is_like"][train["author_id"] == author]
    p = (likes.sum() + 5 * train["is_like"].mean()) / (len(likes) + 5)
    assert test["author_like_log_odds"][7] == pytest.approx(np.log(p / (1 - p)))
    assert test["author_train_count"][7] == len(likes)
    without = datasets.get("kuairand", path=data.path, rates=False)
    assert set(data.schema().names) - set(without.schema().names) == {
        *(f"{key}_{task}_log_odds" for key in ("user", "video", "author")
          for task in ("click", "long_view", "like", "follow", "comment")),
        *(f"{key}_train_count" for key in ("user", "video", "author")),
    }  # fmt: skip
    with pytest.raises(ValueError, match="prior must be above 0, not 0"):
        datasets.get("kuairand", path=data.path, prior=0)


def test_kuairand_errors(tmp_path):
    options = folder("kuairand", tmp_path)
    path = Path(options["path"])
    pd.DataFrame({"video_id": [0]}).to_csv(path / "video_features_basic_pure.csv.gz", index=False)
    with pytest.raises(ValueError, match=r"video_features_basic_pure.csv.gz has no column 'author_id'"):
        datasets.get("kuairand", **options).lists("train")
    kuairand_folder(path)
    users = pd.read_csv(path / "user_features_pure.csv")
    users[:2].to_csv(path / "user_features_pure.csv", index=False)
    with pytest.raises(ValueError, match=r"log_vali_0502_0503.csv.gz: user_id \d is not in user_features_pure"):
        datasets.get("kuairand", **options).lists("vali")


@pytest.mark.slow
def test_kuairand_on_the_real_files():
    data = public("kuairand", "kuairand_pure")
    parts = [data.lists(split) for split in SPLITS]
    assert [part.num_items for part in parts] == [112_304, 37_751, 30_329]
    assert [part.num_lists for part in parts] == [22_288, 14_087, 12_970]
    clicks = np.add.reduceat(parts[2].columns["is_click"], parts[2].offsets[:-1])
    assert ((clicks > 0) & (clicks < parts[2].sizes)).sum() == 4083


def test_census_labels_and_split(tmp_path):
    options = folder("census_income", tmp_path)
    data = datasets.get("census_income", group="education_married", **options)
    train, vali, test = (data.lists(split) for split in SPLITS)
    assert train.num_items + vali.num_items == 80
    assert 0 < vali.num_items < 30
    assert test.num_items == 40
    assert train.is_rows
    assert not set(train.source_rows) & set(vali.source_rows)
    np.testing.assert_array_equal(train.columns["college"], train.columns["education"] != "Children")
    assert set(train.columns["sex"].tolist()) == {"Male", ""}
    assert set(data.schema().names) & {"income_band", "education", "marital"} == {"income_band"}
    other = datasets.get("census_income", seed=1, **options)
    assert other.lists("vali").source_rows.tolist() != vali.source_rows.tolist()
    assert [task.name for task in other.tasks()] == ["income", "never_married"]
    features = {feature.name: feature for feature in other.schema().features}
    assert features["dividends"].transform == "log1p"
    assert features["age"].mean == pytest.approx((other.lists("train").columns["age"].mean(),))


def test_census_errors(tmp_path):
    for options, message in (({"group": "all"}, "group must be one of"), ({"vali_share": 1.0}, "vali_share must be"),
                             ({"seed": -1}, "seed must be 0 or more")):
        with pytest.raises(ValueError, match=message):
            datasets.get("census_income", path="x", **options)
    file = tmp_path / "census-income.data"
    row = ["1"] * 41
    for cells, message in (
        ([*row, "50K"], r"row 0 \(counted from 0\): expected '- 50000.'.*got '50K'"),
        (row, r"census-income.data: cannot be read.*Expected 42 columns, got 41"),
        (["old", *row[1:], "50000+."], r"column 'age' must contain numbers"),
    ):
        file.write_text(", ".join(cells) + "\n")
        with pytest.raises(ValueError, match=message):
            datasets.get("census_income", path=str(tmp_path)).lists("train")


def test_census_on_the_real_files():
    data = public("census_income", "census_income_kdd")
    train, vali, test = (data.lists(split) for split in SPLITS)
    assert train.num_items + vali.num_items == 199_523
    assert test.num_items == 49_821
    assert 0.06 < train.columns["income"].mean() < 0.065
    assert 0.43 < test.columns["never_married"].mean() < 0.44


def test_movielens_statistics_are_of_earlier_training_ratings(tmp_path):
    data = datasets.get("movielens", **folder("movielens", tmp_path))
    train = data.lists("train").columns
    for row in range(0, 40, 7):
        earlier = train["timestamp"] < train["timestamp"][row]
        known = train["rating"][earlier]
        overall = (known.sum() + 15) / (len(known) + 5)
        for prefix, key in (("user", "userId"), ("item", "movieId")):
            own = train["rating"][earlier & (train[key] == train[key][row])]
            assert train[f"{prefix}_count"][row] == len(own)
            assert train[f"{prefix}_mean"][row] == pytest.approx((own.sum() + 5 * overall) / (len(own) + 5))
    test = data.lists("test").columns
    own = train["rating"][train["movieId"] == test["movieId"][3]]
    assert test["item_count"][3] == len(own)
    assert test["item_mean"][3] == pytest.approx((own.sum() + 5 * train["rating"].mean()) / (len(own) + 5))


def test_movielens_films(tmp_path):
    options = folder("movielens", tmp_path)
    columns = datasets.get("movielens", **options).lists("train").columns
    film = columns["movieId"]
    assert columns["genres"][film == 1][0].tolist() == [1, 1, 0, 0]
    assert columns["genres"][film == 3][0].tolist() == [0, 0, 0, 0]
    assert {int(y) for y in columns["year"][film == 2]} == {1985}
    assert np.isnan(columns["year"][film == 3]).all()
    np.testing.assert_array_equal(columns["like"], columns["rating"] >= 4)
    path = Path(options["path"])
    (path / "vali.csv").write_text("userId,movieId,rating,timestamp\n1,1,7,0\n")
    with pytest.raises(ValueError, match=r"vali.csv: row 0 \(counted from 0\): expected a rating from .5 to 5, got 7"):
        datasets.get("movielens", **options).lists("vali")
    (path / "vali.csv").write_text("userId,movieId,rating,timestamp\n1,99,3,0\n")
    with pytest.raises(ValueError, match=r"vali.csv: film 99 is not in movies.csv.gz"):
        datasets.get("movielens", **options).lists("vali")


def test_movielens_on_the_real_files():
    data = public("movielens", "movielens_latest_small", ids=True)
    parts = [data.lists(split) for split in SPLITS]
    assert [part.num_lists for part in parts] == [610, 610, 610]
    assert sum(part.num_items for part in parts) == 90_478
    assert {f.name: f for f in data.schema().features}["userId"].context
    assert parts[0].columns["genres"].shape == (70_316, 19)


def test_movielens_random_protocol(tmp_path):
    options = folder("movielens", tmp_path)
    data = datasets.get("movielens", **options, protocol="random", seed=3)
    parts = [data.lists(split) for split in SPLITS]
    assert [part.num_items for part in parts] == [96, 12, 12]

    def rows(lists):
        names = ("userId", "movieId", "rating", "timestamp")
        return sorted(zip(*(lists.columns[name].tolist() for name in names), strict=True))

    stored = [datasets.get("movielens", **options).lists(split) for split in SPLITS]
    assert sorted(row for part in parts for row in rows(part)) == sorted(row for part in stored for row in rows(part))
    again = datasets.get("movielens", **options, protocol="random", seed=3)
    assert again.lists("test").fingerprint() == parts[2].fingerprint()
    with pytest.raises(ValueError, match="protocol must be one of time, random"):
        datasets.get("movielens", **options, protocol="user")


def test_movielens_sampled_lists(tmp_path):
    options = folder("movielens", tmp_path)
    whole = datasets.get("movielens", **options).lists("train")
    data = datasets.get("movielens", **options, sampled_lists=3, list_length=5)
    lists = data.lists("train")
    assert lists.sizes.tolist() == [5] * 15
    assert lists.ids[:4].tolist() == ["0#0", "0#1", "0#2", "1#0"]
    for i, name in enumerate(lists.ids):
        items = lists.source_rows[5 * i:5 * i + 5]
        assert len(set(items.tolist())) == 5
        assert set(lists.columns["userId"][5 * i:5 * i + 5].tolist()) == {int(name.split("#")[0])}
    assert data.lists("test").num_lists == 5
    with pytest.raises(ValueError, match="no list has 9 items; the longest has 8"):
        datasets.get("movielens", **options, sampled_lists=1, list_length=9).lists("train")
    np.testing.assert_array_equal(whole.sizes, 8)
