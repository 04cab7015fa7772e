from __future__ import annotations

import gzip

import numpy as np
import pytest

from tfmtl2r import Category, Dense, _keras2
from tfmtl2r._backend import tf
from tfmtl2r.data.chunks import chunks
from tfmtl2r.data.elwc import ElwcError, read_elwc, write_elwc
from tfmtl2r.data.fit import fit_schema
from tfmtl2r.data.lists import Lists
from tfmtl2r.data.own_files import Reading
from tfmtl2r.errors import InputError
from tfmtl2r.task import Task

TASKS = (Task("click", kind="binary"), Task("dwell", kind="regression"))


def random_lists(sizes, seed=0, text_ids=True):
    sizes = np.asarray(sizes)
    rng = np.random.default_rng(seed)
    items = int(sizes.sum())
    ids = np.array([f"q{i}é" for i in range(len(sizes))], object) if text_ids else np.arange(len(sizes)) * 7
    price = rng.random(items).astype(np.float32)
    price[::3] = np.nan
    brand = np.array(["a", "", "ö"], object)[rng.integers(0, 3, items)]
    columns = {
        "query": ids.repeat(sizes), "price": price, "brand": brand, "code": rng.integers(-2, 9, items),
        "vector": rng.random((items, 3)).astype(np.float32), "counts": rng.integers(0, 9, (items, 2)),
        "age": rng.random(len(sizes)).astype(np.float32).repeat(sizes),
        "country": np.array(["de", "fr", ""], object)[rng.integers(0, 3, len(sizes))].repeat(sizes),
        "click": rng.integers(0, 2, items).astype(np.int64), "dwell": rng.random(items).astype(np.float32),
    }  # fmt: skip
    columns["dwell"][1] = np.nan
    return Lists(columns, np.concatenate([[0], np.cumsum(sizes)]), ids, context=("age", "country"), list_id="query")


def assert_same(got, want):
    assert set(got.columns) == set(want.columns)
    assert set(got.context) - {"query"} == set(want.context)
    np.testing.assert_array_equal(got.offsets, want.offsets)
    assert got.ids.tolist() == want.ids.tolist()
    for name, values in want.columns.items():
        assert got.columns[name].dtype == values.dtype, name
        np.testing.assert_array_equal(got.columns[name], values, err_msg=name)


def record(examples, context=None):
    """A serialised ExampleListWithContext of dicts of lists."""
    from tensorflow_serving.apis import input_pb2

    message = input_pb2.ExampleListWithContext()
    for target, features in [(message.context, context or {}), *((message.examples.add(), e) for e in examples)]:
        for name, values in features.items():
            kind = {str: "bytes_list", float: "float_list", int: "int64_list"}[type(values[0])]
            values = [v.encode() for v in values] if kind == "bytes_list" else values
            getattr(target.features.feature[name], kind).value.extend(values)
    return message.SerializeToString()


def write(path, *records):
    with tf.io.TFRecordWriter(str(path), "GZIP" if path.suffix == ".gz" else "") as writer:
        for one in records:
            writer.write(one)
    return path


@pytest.mark.parametrize("name", ["a.tfrecord", "deep/er/a.tfrecord.gz"])
@pytest.mark.parametrize("text_ids", [True, False])
def test_round_trip(tmp_path, name, text_ids):
    lists = random_lists([3, 1, 40, 2] * 40, text_ids=text_ids)
    path = tmp_path / name
    write_elwc(lists, path, list_id="query")
    assert path.read_bytes()[:2] == b"\x1f\x8b" or not name.endswith(".gz")
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    names = [column for column in lists.columns if column not in ("query", "click", "dwell")]
    options = {"labels": TASKS, "list_id": "query", "integer_ids": not text_ids}
    assert_same(read_elwc(path, names, **options), lists)
    assert_same(read_elwc(path, **options), lists)
    schema = fit_schema(lists, TASKS)
    again = read_elwc(path, schema, **options)
    assert_same(again, lists)
    assert fit_schema(again, TASKS) == fit_schema(lists, TASKS, schema)


def test_several_files_and_no_ids(tmp_path):
    one, two = random_lists([2, 3]), random_lists([1, 130], seed=1)
    for number, lists in enumerate((one, two)):
        write_elwc(lists, tmp_path / f"{number}.tfrecord")
    got = read_elwc([tmp_path / "0.tfrecord", tmp_path / "1.tfrecord"], ["vector"], ["click"])
    np.testing.assert_array_equal(got.columns["vector"],
                                  np.concatenate([one.columns["vector"], two.columns["vector"]]))
    assert list(got.columns) == ["vector", "click"]
    assert got.ids.tolist() == [0, 1, 2, 3]
    assert got.list_id is None


def test_tf_ranking_reads_what_was_written(tmp_path):
    lists = random_lists([2, 4])
    write_elwc(lists, tmp_path / "a.tfrecord")
    records = [one.numpy() for one in tf.data.TFRecordDataset(str(tmp_path / "a.tfrecord"))]
    parsed = _keras2.ranking().data.parse_from_example_list(
        records, context_feature_spec={"list_id": tf.io.FixedLenFeature([1], tf.string)},
        example_feature_spec={"vector": tf.io.FixedLenFeature([3], tf.float32, [0.0] * 3)}, size_feature_name="size")
    assert parsed["size"].numpy().tolist() == [2, 4]
    assert parsed["list_id"].numpy()[1, 0].decode() == "q1é"
    np.testing.assert_array_equal(parsed["vector"].numpy()[1], lists.columns["vector"][2:])


def test_missing_features(tmp_path):
    path = write(
        tmp_path / "a.tfrecord",
        record([{"x": [1.0], "v": [1.0, 2.0], "n": [5], "c": [3], "t": ["a"], "y": [1]}, {}], {"u": [2.0], "k": [4]}),
        record([{"x": [3.0]}]),
    )
    features = ["x", Dense("v", shape=(2,)), "n", Category("c", dtype="int64"), "t", "u", "k"]
    columns = read_elwc(path, features, ["y"]).columns
    for name, want in {"x": [1, np.nan, 3], "n": [5, np.nan, np.nan], "c": [3, -1, -1], "y": [1, np.nan, np.nan],
                       "u": [2, 2, np.nan], "k": [4, 4, np.nan]}.items():
        np.testing.assert_array_equal(columns[name], want, err_msg=name)
    assert columns["t"].tolist() == ["a", "", ""]
    assert np.isnan(columns["v"][1:]).all()
    whole = write(tmp_path / "b.tfrecord", *(record([{"x": [1.0]}], {"u": [2.0], "k": [k]}) for k in (4, 5)))
    assert read_elwc(whole, ["u"], list_id="k", integer_ids=False).context == ("u", "k")


IDS = [2**53, 2**53 + 1, -1]


@pytest.mark.parametrize("context", [True, False])
def test_integers_keep_their_digits_where_others_are_missing(tmp_path, context):
    """Also where nobody says that the feature is a category."""
    rows = [{"k": [number]} for number in IDS] + [{}]
    path = write(tmp_path / "a.tfrecord", *(record([{} if context else row], row if context else {}) for row in rows))
    for options in ({}, {"features": ["k"]}):
        column = read_elwc(path, **options).kept("k")
        assert column.identities.tolist() == [*IDS, -1]
        assert column.missing.tolist() == [False, False, False, True]
        assert column.values.dtype == np.float64
    write_elwc(read_elwc(path), tmp_path / "again.tfrecord")
    assert read_elwc(tmp_path / "again.tfrecord").kept("k").identities.tolist() == [*IDS, -1]
    table, _ = next(chunks([path], Reading("elwc"), None))
    assert table["k"].to_pylist() == [*IDS, None]


@pytest.mark.parametrize(("contexts", "message"), [
    ([{"q": ["a"]}, {}], r"list id 'q' is missing in 1 of 2 records, first in record 1"),
    ([{"q": [""]}, {"q": ["a"]}], r"list id 'q' is missing in 1 of 2 records, first in record 0"),
    ([{"q": [7]}, {}], "list id 'q' is missing in 1 of 2"), ([{"q": [0.5]}, {}], "list id 'q' is missing in 1 of 2"),
    ([{"q": [7]}, {"q": [8]}, {"q": [7]}], r"list id 'q' is 7 in the records 0 and 2 .*leave list_id out"),
    ([{"q": [7, 8]}, {"q": [8, 9]}], "list id 'q' has several values"),
    ([{"q": [2.0**24]}, {"q": [2.0**24 + 2]}], "no longer tells neighbouring ids apart"),
])
@pytest.mark.parametrize("files", [1, 2])
def test_every_record_has_its_own_list_id(tmp_path, contexts, message, files):
    """Lists without an id, or with one id, would be one list for a split, or in two of them."""
    records = [record([{"x": [1.0]}, {"x": [2.0]}], context) for context in contexts]
    parts = [records] if files == 1 else [records[:1], records[1:]]
    paths = [write(tmp_path / f"{number}.tfrecord", *part) for number, part in enumerate(parts)]
    with pytest.raises(InputError, match=message):
        read_elwc(paths, list_id="q")


def test_garbage_names_file_and_record(tmp_path):
    path = tmp_path / "a.tfrecord"
    write_elwc(random_lists([2] * 9), path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(ElwcError, match=r"a.tfrecord: record [456] \(counted from 0\) cannot be read"):
        read_elwc(path, ["price"])
    path.write_bytes(b"not a TFRecord file at all, but long enough")
    with pytest.raises(ElwcError, match=r"a.tfrecord: record 0 \(counted from 0\) cannot be read"):
        read_elwc(path, ["price"])
    path.write_bytes(gzip.compress(content))
    with pytest.raises(ElwcError, match=r"record 0 .*a compressed one must end in .gz"):
        read_elwc(path, ["price"])
    good = record([{"price": [1.0]}])
    with pytest.raises(ElwcError, match=r"record 1 \(counted from 0\) is no ExampleListWithContext"):
        read_elwc(write(path, good, b"\xff\xff garbage"), ["price"])
    with pytest.raises(ElwcError, match=r"record 1 \(counted from 0\) has no examples"):
        read_elwc(write(path, good, record([])), ["price"])
    with pytest.raises(ElwcError, match=r"record 2 \(counted from 0\) differs from what was expected \(price: 1 x f"):
        read_elwc(write(path, good, good, record([{"price": [1]}])), ["price"])
    with pytest.raises(ElwcError, match=r"record 1 \(counted from 0\) differs from what was expected"):
        read_elwc(write(path, good, record([{"price": [1.0, 2.0]}])), ["price"])


@pytest.mark.parametrize(("features", "options", "message"), [
    (["prise"], {}, "a.tfrecord: no record has a feature 'prise'; did you mean 'price'"),
    (["price"], {"labels": ["clicked"]}, "no record has a feature 'clicked'; did you mean 'click'"),
    ([Dense("brand")], {}, "feature 'brand' is text, expected numbers"),
    ([Category("brand", dtype="int64")], {}, "feature 'brand' is text, expected numbers"),
    ([Category("code")], {}, "feature 'code' has numbers, expected text"),
    ([Dense("age")], {}, "feature 'age' is in the context: declare it with context=True"),
    ([Dense("price", context=True)], {}, "'price' is in the examples: declare it with context=False"),
    (["price"], {"list_id": "query", "integer_ids": True}, "list id 'query' is no integer"),
])  # fmt: skip
def test_errors_of_features(tmp_path, features, options, message):
    write_elwc(random_lists([2, 3]), tmp_path / "a.tfrecord", list_id="query")
    with pytest.raises(ElwcError, match=message):
        read_elwc(tmp_path / "a.tfrecord", features, **options)


def test_empty_and_missing_files(tmp_path):
    with pytest.raises(ElwcError, match=r"a.tfrecord: the file contains no record"):
        read_elwc(write(tmp_path / "a.tfrecord"))
    with pytest.raises(FileNotFoundError, match=r"b.tfrecord: there is no such file"):
        read_elwc(tmp_path / "b.tfrecord")
    with pytest.raises(ValueError, match="paths is empty"):
        read_elwc([])


def test_errors_of_writing(tmp_path, monkeypatch):
    path = tmp_path / "a.tfrecord"
    with pytest.raises(ValueError, match="plain rows have no lists"):
        write_elwc(Lists({"x": np.ones(2)}), path)
    with pytest.raises(ValueError, match="list_id='price' is a column that is not the list id"):
        write_elwc(random_lists([2]), path, list_id="price")
    dated = random_lists([2]).with_column("day", np.array([1, 2], "timedelta64[D]"))
    with pytest.raises(ValueError, match="column 'day' has the type timedelta64"):
        write_elwc(dated, path)
    path.write_text("old")
    monkeypatch.setattr("tfmtl2r.data.elwc._record", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_elwc(random_lists([2]), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
