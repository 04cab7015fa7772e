from __future__ import annotations

import datetime
import gzip

import numpy as np
import pandas as pd
import pytest

from tfmtl2r.data import Lists, from_frame, read_table
from tfmtl2r.data.chunks import chunks
from tfmtl2r.data.own_files import Reading


def brute_force(frame: pd.DataFrame, list_id: str) -> dict:
    groups: dict = {}
    for row in frame.to_dict("records"):
        groups.setdefault(row[list_id], []).append(row)
    return groups


def test_grouping_equals_brute_force():
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"q": random.integers(0, 20, 200), "x": random.normal(size=200), "s": list("abcd") * 50})
    lists = from_frame(frame, "q")
    expected = brute_force(frame, "q")
    assert lists.ids.tolist() == list(expected)
    assert lists.sizes.tolist() == [len(rows) for rows in expected.values()]
    for column in ("x", "s", "q"):
        assert lists.columns[column].tolist() == [row[column] for rows in expected.values() for row in rows]
    np.testing.assert_array_equal(frame["x"].to_numpy()[lists.source_rows], lists.columns["x"])


def test_scores_go_back_to_the_rows_of_the_table():
    frame = pd.DataFrame({"q": ["b", "a", "b", "a"], "x": [0.0, 1.0, 2.0, 3.0]})
    lists = from_frame(frame, "q")
    back = np.empty(4)
    back[lists.source_rows] = lists.columns["x"]
    assert back.tolist() == [0, 1, 2, 3]


def test_plain_rows():
    rows = from_frame(pd.DataFrame({"x": [1.0, 2.0, 3.0]}))
    assert rows.is_rows
    assert (rows.num_lists, rows.num_items, rows.sizes.tolist()) == (3, 3, [1, 1, 1])
    assert rows.select([2, 0]).columns["x"].tolist() == [3, 1]
    assert rows.select([2, 0]).source_rows.tolist() == [2, 0]


def test_select_and_keep():
    lists = from_frame(pd.DataFrame({"q": [1, 1, 2, 3, 3, 3], "x": range(6)}), "q", context=("q",))
    chosen = lists.select([2, 0])
    assert chosen.ids.tolist() == [3, 1]
    assert chosen.offsets.tolist() == [0, 3, 5]
    assert chosen.columns["x"].tolist() == [3, 4, 5, 0, 1]
    assert lists.select(np.array([False, True, False])).columns["x"].tolist() == [2]
    kept = lists.keep(np.array([0, 1, 1, 1, 0, 1], bool))
    assert (kept.sizes.tolist(), kept.columns["x"].tolist()) == ([1, 1, 2], [1, 2, 3, 5])


@pytest.mark.parametrize(
    ("cells", "kind", "expected"),
    [
        ([True, False], "i", [1, 0]),
        (pd.array([1, None], dtype="Int64"), "f", [1.0, np.nan]),
        (pd.array([1, 2], dtype="Int64"), "i", [1, 2]),
        (pd.array([True, None], dtype="boolean"), "f", [1.0, np.nan]),
        (pd.Series([True, None], dtype=object), "f", [1.0, np.nan]),
        (pd.Series([1, None], dtype=object), "f", [1.0, np.nan]),
        (pd.Series([2, 3], dtype=object), "i", [2, 3]),
        (pd.Categorical(["b", None]), "O", ["b", ""]),
        (pd.Categorical([4, 5]), "i", [4, 5]),
        (["a", None], "O", ["a", ""]),
        ([b"a", b"b"], "O", ["a", "b"]),
        ([None, None], "f", [np.nan, np.nan]),
        (pd.to_datetime(["2024-01-01", "2024-01-02"]), "M", None),
        ([[1, 2], [3, 4]], "f", [[1.0, 2.0], [3.0, 4.0]]),
        ([np.array([1.0]), (2.0,)], "f", [[1.0], [2.0]]),
    ],
)
def test_column_types(cells, kind, expected):
    values = from_frame(pd.DataFrame({"c": cells})).columns["c"]
    assert values.dtype.kind == kind
    if expected is not None:
        assert str(values.tolist()) == str(expected)


@pytest.mark.parametrize(
    ("frame", "arguments", "message"),
    [
        ({"q": []}, {}, "table is empty"),
        ({"user": [1]}, {"list_id": "usr"}, r"no column 'usr'; did you mean 'user'\?"),
        ({"q": [1.0, None, None]}, {"list_id": "q"}, r"missing in 2 of 3 rows, first in row 1 \(counted from 0\)"),
        ({"q": ["a", ""]}, {"list_id": "q"}, "missing in 1 of 2 rows, first in row 1"),
        ({"q": [7, 7, 8], "age": [1, 2, 3]}, {"list_id": "q", "context": ["age"]},
         r"'age' is a context column.*varies.*2.*row 1 \(counted from 0\), list 7"),
        ({"q": [1], "x": [1]}, {"context": ["x"]}, "plain rows have no context"),
    ],
)
def test_frame_errors(frame, arguments, message):
    with pytest.raises(ValueError, match=message):
        from_frame(pd.DataFrame(frame), **arguments)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([1, 0, "oops"], r"'x' mixes types: 1 \(int\) and 'oops' \(str\) in row 2"),
        ([[1, 2], [3]], r"different lengths: 2 in row 0 \(counted from 0\), 1 in row 1"),
        ([[1, 2], None], r"different lengths: 2 in row 0 \(counted from 0\), 0 in row 1"),
        ([["a"], ["b"]], "sequences must hold numbers"),
        ([None, {"a": 1}], r"'x' holds dict cells, such as \{'a': 1\} in row 1 .*leave the column out"),
        ([datetime.time(1)], "'x' holds time cells"),
    ],
)
def test_a_column_that_cannot_be_read_is_an_error_only_for_its_readers(cells, message):
    lists = from_frame(pd.DataFrame({"x": pd.Series(cells, dtype=object), "y": range(len(cells))}))
    assert lists.columns["y"].tolist() == [*range(len(cells))]
    same = lists.select([0]).fingerprint() == from_frame(pd.DataFrame({"y": [0]})).fingerprint()
    assert same != isinstance(cells[0], list), "only lists of any length count"
    for part in (lists, lists.select([0])):
        with pytest.raises(ValueError, match=message):
            part.column("x")


def test_two_columns_of_one_name():
    with pytest.raises(ValueError, match="two columns are called 'a'"):
        from_frame(pd.DataFrame([[1, 2]], columns=["a", "a"]))


def test_list_id_in_the_index():
    with pytest.raises(ValueError, match=r"reset_index\(\)"):
        from_frame(pd.DataFrame({"q": [1], "x": [1]}).set_index("q"), "q")


@pytest.mark.parametrize(
    ("columns", "offsets", "message"),
    [
        ({}, None, "at least one column"),
        ({"a": np.zeros(0)}, None, "at least one row"),
        ({"a": np.zeros(2), "b": np.zeros(3)}, None, "differ in length"),
        ({"a": np.zeros(2)}, [0, 1], "from 0 to the number of items"),
        ({"a": np.zeros(2)}, [0, 0, 2], "list 0 has 0 items"),
    ],
)
def test_lists_errors(columns, offsets, message):
    with pytest.raises(ValueError, match=message):
        Lists(columns, offsets=None if offsets is None else np.array(offsets))


def test_context_with_missing_numbers_is_constant():
    lists = from_frame(pd.DataFrame({"q": [1, 1], "age": [np.nan, np.nan]}), "q", context=["age"])
    assert np.isnan(lists.first_of_lists("age")).all()


def test_fingerprint_sees_values_names_boundaries_and_the_order_of_items():
    frame = pd.DataFrame({"q": [1, 1, 2], "x": [1.0, 2.0, 3.0], "s": ["ab", "c", "d"]})
    lists = from_frame(frame, "q")
    assert lists.fingerprint() == from_frame(frame.copy(), "q").fingerprint()
    other = [
        from_frame(frame.assign(x=[1.0, 2.0, 4.0]), "q"),
        from_frame(frame.assign(s=["a", "bc", "d"]), "q"),
        from_frame(frame.rename(columns={"x": "y"}), "q"),
        from_frame(frame),
        from_frame(frame.iloc[[1, 0, 2]], "q"),
        from_frame(pd.concat([frame, frame.assign(q=[3, 3, 4])]), "q"),
    ]
    assert lists.fingerprint() not in {one.fingerprint() for one in other}


@pytest.mark.parametrize(("name", "delimiter"), [
    ("a.csv", ";"), ("a.csv", "\t"), ("a.csv", "|"), ("a.tsv", "\t"), ("a.tsv.gz", "\t"), ("a.csv.gz", ";")])
def test_what_stands_between_cells_is_found_in_the_header(tmp_path, name, delimiter, caplog):
    frame = pd.DataFrame({"q": [7, 7, 8], "x": [0.5, np.nan, 2], "s": ["a,b", "c", 'd "e"']})
    frame["p"] = ["1,5", "20,7", "-3,0"]
    frame.to_csv(tmp_path / name, index=False, sep=delimiter)
    pd.testing.assert_frame_equal(read_table(tmp_path / name), frame)
    assert "column 'p', such as 1,5, look like numbers with a decimal comma" in caplog.text
    assert caplog.text.count("decimal comma") == 1
    [(table, lists)] = chunks([tmp_path / name], Reading("table", "q"), keep=None)
    assert lists.num_lists == 2
    assert table["s"].to_pylist() == frame["s"].tolist()


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz"])
def test_read_table_round_trip(tmp_path, suffix):
    frame = pd.DataFrame({"q": [1, 2], "x": [0.5, np.nan], "s": ["NA", "b"]})
    path = tmp_path / f"t{suffix}"
    frame.to_parquet(path) if suffix == ".parquet" else frame.to_csv(path, index=False)
    for read in (read_table(path), read_table(str(path), columns=["q", "x", "s"])):
        assert read.values.tolist()[0] == [1, 0.5, "NA"]
        assert np.isnan(read["x"][1])
    assert list(read_table(path, columns=["s"]).columns) == ["s"]


@pytest.mark.slow
def test_a_late_fraction_or_text_decides_the_type_of_a_csv_column(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text("x,s\n" + "1,2\n" * 400_000 + "1.5,a\n")
    read = read_table(path)
    assert read["x"].iloc[-1] == 1.5
    assert (read["s"].iloc[0], read["s"].iloc[-1]) == ("2", "a")


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("a.csv", None, FileNotFoundError, "a.csv: there is no such file"),
        ("a.txt", "x\n1\n", ValueError, r"expected a file that ends in .parquet, .csv, .csv.gz"),
        ("a.csv", "x,y\n", ValueError, "a.csv: the table is empty"),
        ("a.csv", "", ValueError, "a.csv: cannot be read: Empty CSV file"),
        ("a.csv", "x,x\n1,2\n", ValueError, "a.csv: two columns are called 'x'"),
        ("a.csv", "x,y\n1,2\n3\n", ValueError, "a.csv: cannot be read: .*Expected 2 columns, got 1"),
        ("a.parquet", "no parquet", ValueError, "a.parquet: cannot be read"),
        ("a.csv.gz", "no gzip", ValueError, "a.csv.gz: cannot be read"),
    ],
)
def test_read_table_errors(tmp_path, name, content, error, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(error, match=message):
        read_table(tmp_path / name)


def test_a_missing_column_names_the_file_and_the_nearest(tmp_path):
    (tmp_path / "a.csv").write_text("price,brand\n1,a\n")
    with pytest.raises(ValueError, match=r"a.csv has no column 'prise'; did you mean 'price'\?"):
        read_table(tmp_path / "a.csv", columns=["prise"])


def test_a_truncated_gzip_is_refused(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"x\n" + b"1\n" * 1000)[:-10])
    with pytest.raises(ValueError, match="cannot be read"):
        read_table(path)


@pytest.mark.parametrize("values", [
    np.array(["NaT", "2024-01-01", "2024-01-01"], "datetime64[s]"), np.array([np.nan, 2.0, 2.0]),
    np.array([None, "a", "a"], object),
])
def test_a_missing_value_of_a_list_is_like_itself(values):
    lists = Lists({"when": np.repeat(values[:2], [2, 1])}, offsets=np.array([0, 2, 3]))
    first = lists.first_of_lists("when", np.repeat(values[:2], [2, 1]))
    assert first[1] == values[1]
    with pytest.raises(ValueError, match="its value varies within a list"):
        lists.first_of_lists("when", values)


def test_large_numbers_of_a_context_list_are_no_ids():
    gaps = np.empty(3, object)
    gaps[:] = [np.float32([2e7, 3e7]), np.float32([2e7, 3e7]), np.float32([1.0])]
    lists = Lists({"gap": gaps}, offsets=np.array([0, 2, 3]))
    assert lists.elements_of_lists("gap").sizes.tolist() == [2, 1]
