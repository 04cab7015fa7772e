"""A user's own files of every kind as data sets: which files count, what becomes of their columns, how they split."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tensorflow_serving.apis import input_pb2

from tfmtl2r import Category, Schema, Task, datasets
from tfmtl2r._backend import tf
from tfmtl2r.data.columns import feature_values
from tfmtl2r.data.elwc import read_elwc, write_elwc
from tfmtl2r.data.fit import fit_schema
from tfmtl2r.data.frame import from_frame, read_lists
from tfmtl2r.data.own_files import Reading, expanded
from tfmtl2r.data.splits import shown_time, times_of_lists
from tfmtl2r.errors import InputError, MissingFileError, UserError
from tfmtl2r.experiment import Experiment
from tfmtl2r.features import Bag, Sequence
from tfmtl2r.settings import Data, SettingError

GOALS = [{"name": "relevance", "label": "label"}, {"name": "clicks", "kind": "binary"},
         {"name": "quality", "label": "features[3]", "kind": "regression"}]


def letor(queries, start=0, width=3, missing=()):
    """Rows of three items a query; the third feature is ten times the query plus the place."""
    rows = []
    for query in queries:
        for place in range(3):
            values = [place, query, 10 * query + place, *[1] * (width - 3)]
            comment = "" if (query, place) in missing else f" clicks = {place % 2}"
            rows.append(f"{place} qid:{query} " + " ".join(f"{i + 1}:{v}" for i, v in enumerate(values))
                        + f" # docid = d{start + place}{comment}")
    return "\n".join(rows) + "\n"


def test_letor_files_of_any_names_have_labels_of_comments_and_features(tmp_path):
    folder = tmp_path / "judgements"
    folder.mkdir()
    (folder / "part-a").write_text(letor(range(1, 21), missing={(1, 1)}))
    (folder / "part-b").write_text(letor(range(21, 41), width=4))
    (folder / "_SUCCESS").write_text("")
    data = datasets.get("table", files=str(folder), kind="letor", goals=GOALS, leave_out=["features[2]"],
                        item_id="docid")
    parts = {split: data.lists(split) for split in data.splits}
    assert sum(lists.num_lists for lists in parts.values()) == 40
    whole = pd.concat([pd.DataFrame({name: list(lists.column(name)) for name in lists.columns}).assign(
        row=lists.source_rows) for lists in parts.values()]).sort_values("row")
    assert whole["row"].tolist() == list(range(120))
    assert whole["qid"].tolist() == np.repeat(np.arange(1, 41), 3).tolist()
    assert whole["features[3]"].tolist() == [10 * query + place for query in range(1, 41) for place in range(3)]
    # The features are those that are no label and are not left out; a file without feature 4 has the value 0 there.
    assert np.stack(whole["features"])[:, 0].tolist() == [0, 1, 2] * 40
    assert np.stack(whole["features"])[:, 1].tolist() == [0] * 60 + [1] * 60
    assert whole["clicks"].tolist()[:6] == pytest.approx([0, np.nan, 0, 0, 1, 0], nan_ok=True)
    assert data.schema().names == ("features",)  # neither label nor comments
    assert parts["test"].place(0).startswith("row ")
    assert str(folder / "part-") in parts["test"].place(0)
    named = datasets.get("table", files=str(folder), kind="letor", goals=GOALS, item_id="docid", context=["query"],
                         columns=["*", {"name": "docid", "kind": "category"}])
    with pytest.raises(InputError, match="no column 'query'"):
        named.lists("train")
    named = datasets.get("table", files=str(folder), kind="letor", goals=GOALS, item_id="docid",
                         columns=["*", {"name": "docid", "kind": "category"}])
    assert named.schema().names == ("features", "docid")


@pytest.mark.parametrize(("second", "options", "message"), [
    (letor([7]), {}, "a.txt and .*b.txt: both have the query 7"),
    (letor([9]), {"goals": [{"name": "x", "label": "features[9]"}]}, r"no 'features\[9\]': .* has 3 components"),
    (letor([9]), {"list_id": "docid"}, "the list id of a LETOR file is 'qid', not 'docid'"),
    ("1 qid:8 1:x\n", {}, "b.txt:1: expected the value of feature 1"),
])  # fmt: skip
def test_letor_files_that_do_not_fit_are_refused(tmp_path, second, options, message):
    (tmp_path / "a.txt").write_text(letor([7, 8]))
    (tmp_path / "b.txt").write_text(second)
    with pytest.raises(UserError, match=message):
        datasets.get("table", files=str(tmp_path / "*.txt"), **{"goals": GOALS, **options}).lists("train")


def test_feature_ids_count_from_0_in_all_files_if_they_do_in_one(tmp_path):
    """Otherwise the features of one split would be shifted."""
    (tmp_path / "train.txt").write_text("1 qid:1 1:5 2:6\n0 qid:1 2:7\n")
    for split in ("vali", "test"):
        (tmp_path / f"{split}.txt").write_text("1 qid:2 0:4 1:5 3:8\n0 qid:2 2:7\n")
    data = datasets.get("table", files=str(tmp_path), goals=[{"name": "label"}])
    assert data.lists("train").column("features").tolist() == [[0, 5, 6, 0], [0, 0, 7, 0]]
    assert data.lists("test").column("features").tolist() == [[4, 5, 0, 8], [0, 0, 7, 0]]
    assert data.about("train") == {"zero_based": True}
    for split in ("vali", "test"):
        (tmp_path / f"{split}.txt").write_text("1 qid:2 1:5 3:8\n0 qid:2 2:7\n")
    data = datasets.get("table", files=str(tmp_path), goals=[{"name": "label"}])
    assert data.lists("train").column("features").tolist() == [[5, 6, 0], [0, 7, 0]]
    assert data.about("train") == {}


def test_a_separator_holds_for_texts_of_every_kind_of_file(tmp_path):
    (tmp_path / "a.txt").write_text("1 qid:1 1:5 # tags = new;york|b\n0 qid:1 2:7\n")
    (tmp_path / "b.txt").write_text("1 qid:2 1:5 # tags = c;d\n")
    write_elwc(from_frame(pd.DataFrame({"qid": [1, 1, 2], "tags": ["new;york|b", "", "c;d"]}), "qid"),
               tmp_path / "a.tfrecord", list_id="qid")
    for names in (["a.txt"], ["a.txt", "b.txt"], ["a.tfrecord"]):
        kind = "elwc" if "tfrecord" in names[0] else "letor"
        lists = Reading(kind, "qid", separator="|").lists([tmp_path / name for name in names])
        found = lists.kept("tags").elements()
        assert found.flat.identities.tolist() == ["new;york", "b", "c;d"][: 2 if names == ["a.txt"] else 3]
        assert lists.column("tags").tolist()[0] == "new;york|b"


def test_a_label_may_be_a_feature_that_one_split_does_not_name(tmp_path):
    for split, row in (("train", "1:1 5:9"), ("vali", "4:1"), ("test", "2:3")):
        (tmp_path / f"{split}.txt").write_text(f"1 qid:1 {row}\n0 qid:1 1:1\n")
    goals = [{"name": "quality", "label": "features[5]", "kind": "regression"}]
    data = datasets.get("table", files=str(tmp_path), goals=goals)
    assert [data.lists(split).column("features[5]").tolist() for split in data.splits] == [[9, 0], [0, 0], [0, 0]]
    assert [data.lists(split).column("features").shape for split in data.splits] == [(2, 4)] * 3
    places = {split: str(tmp_path / f"{split}.txt") for split in data.splits}
    with pytest.raises(InputError, match="split divides files, but the files of train, vali and test are given"):
        datasets.get("table", **places, goals=goals, split={"vali": 0.5})


@pytest.mark.parametrize("missing", [False, True])
def test_times_may_be_categories_of_integers(missing):
    times = [2**60 + 1, 2**60, None if missing else 2**60 + 2]
    lists = from_frame(pd.DataFrame({"t": pd.Series(pd.array(times, "Int64")).astype("category")}))
    if missing:
        with pytest.raises(InputError, match="the time 't' is missing"):
            times_of_lists(lists, "t")
        return
    found = times_of_lists(lists, "t")
    assert (found.tolist(), shown_time(found.min())) == (times, 2**60)


def test_three_letor_files_are_equally_wide(tmp_path):
    for split, width in (("trainingset", 3), ("vali", 5), ("test", 4)):
        (tmp_path / f"{split}.txt").write_text(letor([1, 2], width=width))
    data = datasets.get("table", files=[str(tmp_path)], goals=GOALS)
    assert [data.lists(split).column("features").shape for split in data.splits] == [(6, 4)] * 3
    with pytest.raises(InputError, match="leave split out"):
        datasets.get("table", files=str(tmp_path), goals=GOALS, split={"vali": 0.5}).lists("train")


def log(lists=30, seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, lists)
    rows = int(sizes.sum())
    return pd.DataFrame({
        "session": np.repeat([f"s{i}" for i in range(lists)], sizes), "video": rng.integers(0, 9, rows),
        "price": rng.normal(size=rows).astype(np.float32), "click": rng.integers(0, 2, rows),
        "when": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 10**6, rows), "s"),
    })


CLICK = {"list_id": "session", "goals": [{"name": "click", "kind": "binary"}]}


def plain_examples(frame, path):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in frame.to_dict("records"):
            example = tf.train.Example()
            example.features.feature["session"].bytes_list.value.append(row["session"].encode())
            for name, kind in (("video", "int64_list"), ("price", "float_list"), ("click", "int64_list")):
                getattr(example.features.feature[name], kind).value.append(row[name])
            writer.write(example.SerializeToString())


def test_records_of_lists_and_of_items_are_the_same_data_as_the_table(tmp_path):
    frame = log().drop(columns="when").sample(frac=1, random_state=1)
    lists = from_frame(frame, "session")
    write_elwc(lists, tmp_path / "lists.tfrecord", list_id="session")
    plain_examples(frame, tmp_path / "items.tfrecord")
    frame.to_parquet(tmp_path / "table.parquet")
    read = {name: datasets.get("table", files=str(tmp_path / name), **CLICK)
            for name in ("table.parquet", "lists.tfrecord", "items.tfrecord")}
    for split in ("train", "vali", "test"):
        tables = [data.lists(split) for data in read.values()]
        for other in tables[1:]:
            assert other.ids.tolist() == tables[0].ids.tolist()
            for name in ("video", "price", "click"):
                assert other.column(name).tolist() == tables[0].column(name).tolist(), name
    assert next(iter(read.values())).schema().names == ("video", "price")
    rows = read_elwc(tmp_path / "items.tfrecord")
    assert rows.is_rows
    assert rows.column("price").tolist() == frame["price"].tolist()


def test_integers_of_64_bits_stay_exact_in_records(tmp_path):
    """Nullable integers of every type, with and without missing cells; what does not fit is refused, never rounded."""
    for kind in ("UInt64", "Int64", "uint64"):
        cells = [2**53 + 1, 7, *([None] if kind[0] in "UI" else [])]
        frame = pd.DataFrame({"q": [1, 1, 2][: len(cells)], "id": pd.array(cells, kind)})
        write_elwc(from_frame(frame, "q"), tmp_path / "a.tfrecord")
        record = next(iter(tf.data.TFRecordDataset(str(tmp_path / "a.tfrecord")))).numpy()
        items = input_pb2.ExampleListWithContext.FromString(record).examples
        assert [list(item.features.feature["id"].int64_list.value) for item in items] == [[2**53 + 1], [7]], kind
        if kind != "Int64":
            frame.loc[0, "id"] = 2**63
            with pytest.raises(InputError, match="column 'id' holds 9223372036854775808, which is too large"):
                write_elwc(from_frame(frame, "q"), tmp_path / "b.tfrecord")


def test_the_ending_decides_about_the_kind_where_it_is_clear(tmp_path):
    for name in ("a.csv", "readme.txt", "c.bin"):
        (tmp_path / name).write_text("x\n1\n")
    assert expanded(str(tmp_path))[0] == "table"
    assert [path.name for path in expanded(str(tmp_path), "letor")[1]] == ["readme.txt"]
    with pytest.raises(InputError, match=r"c.bin: its ending does not show its kind; set kind \(--data.kind\)"):
        expanded(str(tmp_path / "c.bin"))
    with pytest.raises(InputError, match="are of several kinds: letor, table"):
        expanded([str(tmp_path / "a.csv"), str(tmp_path / "readme.txt")])
    with pytest.raises(MissingFileError, match="no file matches"):
        expanded(str(tmp_path / "*.parquet"))
    assert expanded([str(tmp_path / "c.bin")], "elwc")[0] == "elwc"


def test_a_file_that_several_places_stand_for_is_read_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.txt").write_text("1 qid:1 1:5\n0 qid:1 1:7\n")
    (tmp_path / "a.txt").symlink_to(tmp_path / "b.txt")
    for places in (["b.txt", "b.txt"], ["./b.txt", "*.txt"], [str(tmp_path), "b.txt"]):
        assert len(expanded(places)[1]) == 1, places
    lists = datasets.get("table", train="b.txt", vali=["*.txt", "b.txt"], test="b.txt", goals=GOALS[:1]).lists("vali")
    assert (lists.num_lists, lists.num_items) == (1, 2)


@pytest.mark.parametrize("spelled", ["times", "dates", "numbers", "text", "nullable", "nanoseconds"])
def test_the_latest_lists_are_the_test_split(tmp_path, spelled):
    frame = log(200).sample(frac=1, random_state=2)
    seconds = frame["when"].astype("int64") // 10**9
    frame["when"] = {
        "times": frame["when"].dt.tz_localize("Europe/Berlin"), "dates": frame["when"].dt.date, "numbers": seconds,
        "text": frame["when"].dt.strftime("%Y-%m-%dT%H:%M:%S+00:00"), "nullable": seconds.astype("Int64"),
        "nanoseconds": seconds * 10**9 + frame.index,
    }[spelled]
    frame.to_parquet(tmp_path / "log.parquet")
    data = datasets.get("table", files=str(tmp_path / "log.parquet"), time="when", split={"by": "time"}, **CLICK)
    ids = {split: set(data.lists(split).ids.tolist()) for split in data.splits}
    assert sorted(one for found in ids.values() for one in found) == sorted(frame["session"].unique())
    latest = frame.groupby("session")["when"].max()
    ends = {split: latest[list(found)] for split, found in ids.items()}
    assert ends["train"].max() < ends["vali"].min()
    assert ends["vali"].max() < ends["test"].min()
    if spelled != "dates":
        assert [len(ids[split]) for split in data.splits] == [140, 20, 40]
    if spelled == "times":
        assert data.about("vali")["first_time"] == f"{ends['vali'].min().tz_convert(None):%Y-%m-%dT%H:%M:%S}"
    if spelled == "numbers":
        assert data.about("vali") == {"first_time": ends["vali"].min(), "last_time": ends["vali"].max()}
    assert "when" not in data.schema().names


def test_times_that_do_not_divide_are_refused(tmp_path):
    frame = log(20)
    path = str(tmp_path / "log.parquet")
    few = frame.assign(when=np.where(frame["session"] < "s3", 1, 2))
    for table, message in [
        (few, "2 different times in 'when', too few for 3 splits"),
        (frame.assign(when=frame["when"].where(frame.index != 5)), "'when' is missing.* in row 5 .*list 's1?[0-9]'"),
        (frame.assign(when="yesterday"), "no ISO 8601 time, in row 0"),
        (frame.drop(columns="when"), "no column 'when'"),
    ]:  # fmt: skip
        table.to_parquet(path)
        with pytest.raises(InputError, match=message):
            datasets.get("table", files=path, time="when", split={"by": "time"}, **CLICK).lists("train")


@pytest.mark.parametrize(("data", "message"), [
    ({"files": "a.csv", "split": {"by": "time"}}, "by time needs the column of the time: set time"),
    ({"files": "a.csv", "time": "t", "split": {"by": "time", "seed": 1}}, "seed does nothing for by = 'time'"),
    ({"train": "a", "vali": "b", "test": "c", "split": {"vali": 0.2}}, "the files of train, vali and test are given"),
    ({"files": "a", "kind": "parquet"}, "kind must be 'table' or 'letor' or 'elwc'"),
])  # fmt: skip
def test_keys_that_would_do_nothing_are_refused(data, message):
    with pytest.raises(SettingError, match=message):
        Data.of(data)


def test_a_declared_separator_holds_in_every_table(tmp_path):
    """The separator of the training splits texts later, too, where another one would be found."""
    train = pd.DataFrame({"q": [1, 1, 2, 2] * 9, "tags": ["new york;b", "a", "b", ""] * 9, "click": [0, 1] * 18,
                          "j": ["[1, 2]", "[3]", "", "[4]"] * 9})
    train.to_csv(tmp_path / "train.csv", index=False)
    later = tmp_path / "later.csv"
    later.write_text("q,tags,j,click\n1,new york,[5],1\n1,a|b,[6],0\n")
    base = {"list_id": "q", "goals": CLICK["goals"], "vali": str(later), "test": str(later),
            "train": str(tmp_path / "train.csv"),
            "columns": [{"name": "tags", "kind": "bag"}, {"name": "j", "kind": "bag"}]}  # fmt: skip
    found = datasets.get("table", **base)
    assert [feature.separators for feature in found.schema().features] == [(";",), ()]
    assert set(found.schema().features[0].vocabulary) == {"new york", "a", "b"}
    bags = feature_values(found.lists("vali"), found.schema().features[0])
    assert bags["tags"].tolist() == [["new york"], ["a|b"]]
    given = datasets.get("table", separator="|", **base)
    assert given.lists("vali").kept("tags").elements().sizes.tolist() == [1, 2]
    assert given.lists("vali").kept("j").elements().sizes.tolist() == [1, 1]  # JSON all the same
    assert read_lists([later], "q", (), " ").kept("tags").elements().sizes.tolist() == [2, 1]


@pytest.mark.parametrize("feature", [Bag("tags", weights="w"), Sequence("tags", side="w"),
                                     Bag("tags", weights="w", vocabulary=("a", "new york")),
                                     Sequence("tags", side="w", shares="own")])
def test_each_column_keeps_the_separator_of_the_training(feature, tmp_path):
    """Also of a feature from Python, and where the columns of one feature have different separators."""
    parts = []
    for name, tags, weights in (("train", ["new york|a", "a"], ["0.5;1", "2"]), ("later", ["new york"], ["0.5"]),
                                ("other", ["a;b|new york"], ["1;2"])):
        frame = pd.DataFrame({"own": "a", "tags": tags, "w": weights, "y": range(len(tags))})
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
        parts.append(read_lists([tmp_path / f"{name}.csv"]))
    schema = fit_schema(parts[0], [Task("y", kind="binary")], [Category("own"), feature])
    again = Schema.from_config(schema.get_config()).features[-1]
    found = [feature_values(lists, again) for lists in parts]
    assert [one["tags"].tolist() for one in found] == [[["new york", "a"], ["a", ""]], [["new york"]],
                                                       [["a;b", "new york"]]]
    assert [one["w"].shape for one in found] == [(2, 2), (1, 1), (1, 2)]


def test_an_experiment_file_has_every_key(tmp_path):
    """By file, by flag and in Python; the same tree comes back."""
    experiment = Experiment("a", data={
        "files": "x.csv", "kind": "table", "separator": "|", "list_id": "q", "item_id": "video", "time": "when",
        "split": {"by": "time", "vali": 0.2, "test": 0.3}}, tasks=[{"name": "click", "kind": "binary"}])  # fmt: skip
    assert Experiment.of(experiment.tree()) == experiment
    dataset = experiment.dataset()
    assert (dataset.kind, dataset.separator, dataset.item_id, dataset.time) == ("table", "|", "video", "when")
