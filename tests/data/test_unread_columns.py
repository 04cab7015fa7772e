"""Only what is read is converted: no column that is left out can make a table unreadable, whatever it holds.

The columns are drawn from every type of Arrow. Encodings that are not UTF-8 are refused with the remedy.
"""

from __future__ import annotations

import datetime
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from tfmtl2r import MultiTaskRanker, Task
from tfmtl2r.data import feature_values, from_frame, read_letor, read_lists, read_table
from tfmtl2r.data.fit import fit_schema
from tfmtl2r.datasets.table import Table

COLUMNS = {
    "struct": pyarrow.array([{"a": 1}, None, {"a": 2}, {"a": 3}]),
    "list": pyarrow.array([[1], [], [1, 2], None]),
    "list of texts": pyarrow.array([["a"], ["b"], [], None]),
    "map": pyarrow.array([[("a", 1)], [], None, []], pyarrow.map_(pyarrow.string(), pyarrow.int64())),
    "time": pyarrow.array([datetime.time(1), None, datetime.time(2), datetime.time(3)]),
    "raw bytes": pyarrow.array([b"\xff", b"\xfe", None, b"a"]),
    "fixed bytes": pyarrow.array([b"\xff\x00"] * 4, pyarrow.binary(2)),
    "zone": pyarrow.array([1, 2, 3, None], pyarrow.timestamp("us", "Europe/Berlin")),
    "date": pyarrow.array([1, 2, 3, None], pyarrow.date32()),
    "date64": pyarrow.array([0, 0, 0, None], pyarrow.date64()),
    "far date": pyarrow.array([datetime.date(1, 1, 1)] * 4),
    "duration": pyarrow.array([1, 2, 3, None], pyarrow.duration("s")),
    "interval": pyarrow.array([(1, 2, 3)] * 4, pyarrow.month_day_nano_interval()),
    "decimal": pyarrow.array([Decimal(10**18 + 1), None, Decimal(2), Decimal(3)], pyarrow.decimal128(38, 0)),
    "uint64": pyarrow.array([2**64 - 1, 0, 1, None], pyarrow.uint64()),
    "uuid": pyarrow.array([uuid.UUID(int=i).bytes for i in range(4)], pyarrow.uuid()),
    "null": pyarrow.nulls(4),
    "dictionary": pyarrow.array(["a", "b", None, "a"]).dictionary_encode(),
    "dictionary of structs": pyarrow.DictionaryArray.from_arrays([0, 0, 0, None], pyarrow.array([{"a": 1}])),
    "half": pyarrow.array(np.array([1, np.inf, 2, 3], np.float16)),
    "union": pyarrow.UnionArray.from_sparse(
        pyarrow.array([0, 1, 0, 1], pyarrow.int8()), [pyarrow.array([1, 2, 3, 4]), pyarrow.array(list("abcd"))]),
    "view": pyarrow.array(["a", "b", None, "c"], pyarrow.string_view()),
    "large": pyarrow.array(["a", "b", None, "c"], pyarrow.large_string()),
    "bool": pyarrow.array([True, None, False, True]),
}
NEEDED = {"q": [1, 1, 2, 2], "x": [0.5, 1.0, 1.5, 2.5], "y": [0, 1, 0, 1]}
TASK = Task("y", kind="binary")


def frames():
    """The same tables as pandas holds them: with its own types, and with Arrow's."""
    found = {}
    for name, column in COLUMNS.items():
        if name != "union":  # pandas has no such type
            found[name] = pd.DataFrame({**NEEDED, "extra": pd.Series(column, dtype=pd.ArrowDtype(column.type))})
    for name, cells in {"dicts": [{"a": 1}] * 4, "mixed": [1, "a", None, 2.5], "complex": [1j] * 4, "sets": [{1}] * 4,
                        "times": [datetime.time(1)] * 4, "zone": pd.date_range("2024", periods=4, tz="Asia/Tokyo"),
                        "uuids": [uuid.uuid4() for _ in range(4)]}.items():
        found[f"objects: {name}"] = pd.DataFrame({**NEEDED, "extra": cells})
    return found


@pytest.mark.parametrize("name", frames())
def test_a_frame_with_any_other_column(name):
    lists = from_frame(frames()[name], "q")
    for schema in (fit_schema(lists, [TASK], exclude=["extra"]), fit_schema(lists, [TASK], ["x"])):
        assert schema.names == ("x",)
        assert feature_values(lists.select([1]), schema.features[0])["x"].tolist() == [1.5, 2.5]
    assert lists.fingerprint().startswith("2:")


def test_a_file_with_all_other_columns(tmp_path):
    unwritable = ("union", "interval", "dictionary of structs")
    columns = {**NEEDED, **{name: column for name, column in COLUMNS.items() if name not in unwritable}}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "train.parquet")
    for split in ("vali", "test"):
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / f"{split}.parquet")
    out = Table(str(tmp_path), list_id="q", goals=[TASK], leave_out=[name for name in columns if name not in NEEDED])
    named = Table(str(tmp_path), list_id="q", goals=[TASK], columns=["x"])
    assert out.schema().names == named.schema().names == ("x",)
    everything = Table(str(tmp_path), list_id="q", goals=[TASK])
    message = rf"'struct' holds dict cells, such as .* in row 0 .* of {tmp_path}/train.parquet.*leave-out struct"
    with pytest.raises(ValueError, match=message):
        everything.schema()


def test_predict_ignores_all_other_columns():
    frame = pd.DataFrame(NEEDED)
    schema = fit_schema(from_frame(frame, "q"), [TASK], ["x"])
    ranker = MultiTaskRanker("shared_bottom", [TASK], schema)
    expected = ranker.predict(frame, list_id="q")
    other = frame.assign(extra=[{"a": 1}, 2, "b", None], more=pd.date_range("2024", periods=4, tz="UTC"))
    pd.testing.assert_frame_equal(ranker.predict(other, list_id="q"), expected)
    numbered = pd.DataFrame({0: NEEDED["q"], "x": NEEDED["x"], 2: [{}] * 4})
    pd.testing.assert_frame_equal(ranker.predict(numbered, list_id=0), expected)


def test_a_column_of_one_file_only(tmp_path):
    for name, extra in (("a", ""), ("b", ",more")):
        (tmp_path / f"{name}.csv").write_text(f"q,x,y{extra}\n1,0.5,1{extra}\n")
    lists = read_lists([tmp_path / "a.csv", tmp_path / "b.csv"], "q")
    assert fit_schema(lists, [TASK], exclude=["more"]).names == ("x",)
    with pytest.raises(ValueError, match=r"a\.csv has no column 'more', but other files have it"):
        fit_schema(lists, [TASK])
    with pytest.raises(ValueError, match=r"a\.csv has no column 'more'"):
        read_lists([tmp_path / "a.csv", tmp_path / "b.csv"], "more")


def test_names_of_columns():
    frame = pd.DataFrame([[1, 0.5, 0], [1, 1.5, 1]])
    lists = from_frame(frame, 0, context=[0])
    assert list(lists.columns) == ["0", "1", "2"]
    for schema in (fit_schema(lists, [Task("y", label="2")]), fit_schema(lists, [Task("y", label=2)], [1]),
                   fit_schema(from_frame(frame), [Task("y", label=0)], exclude=[2])):
        assert schema.names == ("1",)
    with pytest.raises(ValueError, match=r"no column '7'\. Its columns: 0, 1, 2"):
        from_frame(frame, 7)
    with pytest.raises(TypeError, match=r"names one column, not \['u', 'd'\]: make one column of them"):
        from_frame(pd.DataFrame({"u": [1], "d": [1]}), ["u", "d"])
    assert from_frame(pd.DataFrame({"u": [1], "age": [3]}), "u", context="age").context == ("age",)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_index_is_no_feature(tmp_path, suffix, caplog):
    frame = pd.DataFrame(NEEDED).iloc[[3, 0, 2, 1]]
    path = tmp_path / f"t{suffix}"
    frame.to_csv(path) if suffix == ".csv" else frame.to_parquet(path)
    table = Table(train=str(path), vali=str(path), test=str(path), list_id="q", goals=[TASK])
    read_by_pandas = [from_frame(pd.read_csv(path), "q")] if suffix == ".csv" else []
    for lists in (table.lists("train"), from_frame(read_table(path), "q"), *read_by_pandas):
        assert list(lists.columns) == ["q", "x", "y"]
    assert "has no name and is left out: it looks like an index" in caplog.text


def test_a_named_index_in_a_file_is_a_column(tmp_path):
    pd.DataFrame(NEEDED).set_index("q").to_parquet(tmp_path / "t.parquet")
    assert from_frame(read_table(tmp_path / "t.parquet"), "q").num_lists == 2


@pytest.mark.parametrize(("encoding", "message"), [
    ("latin-1", r"a\.csv: the file is not UTF-8: line 2 has the byte 0xfc\. Convert it, such as iconv -f LATIN1"),
    ("utf-16", r"a\.csv: the file is not UTF-8 but looks like UTF-16\. Convert it"),
    ("utf-16-le", "looks like UTF-16"),
    ("utf-16-be", "looks like UTF-16"),
])
def test_other_encodings_are_refused(tmp_path, encoding, message):
    (tmp_path / "a.csv").write_bytes("q,y\nMüller,1\n".encode(encoding))
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / "a.csv")


def test_a_byte_order_mark_changes_nothing(tmp_path):
    (tmp_path / "a.csv").write_bytes("q,y\na,1\n".encode("utf-8-sig"))
    assert list(read_table(tmp_path / "a.csv")) == ["q", "y"]
    (tmp_path / "a.txt").write_bytes("1 1:0.5\n".encode("utf-8-sig"))
    (tmp_path / "a.group").write_bytes("1\n".encode("utf-8-sig"))
    lists = read_letor(tmp_path / "a.txt", group=tmp_path / "a.group", zero_based=False)
    assert lists.columns["label"].tolist() == [1]
    (tmp_path / "b.txt").write_bytes("1 qid:1 1:0.5\n".encode("utf-16"))
    with pytest.raises(ValueError, match=r"b\.txt:1: the file is not UTF-8 but looks like UTF-16"):
        read_letor(tmp_path / "b.txt")
