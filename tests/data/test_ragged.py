"""Columns of lists: every door gives the same lists, and any cells give exact lists or one clear error."""

import contextlib
import json
import random

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from tfmtl2r import Dense, Task
from tfmtl2r.data import Lists, fit_schema, from_frame, read_lists
from tfmtl2r.data.columns import Columns, feature_values
from tfmtl2r.errors import UserError
from tfmtl2r.features import Bag, Sequence, Text, Time, Vector

IDS = [[3, 1, 1], [], [2], [1, 2, 3, 4]]
TEXTS = [["a", "b c"], [], ["é"], ["a", "a"]]
BINARY = [Task("y", kind="binary")]


def read(lists, kind="int64", context=False, separator=""):
    cells, sizes = Columns(lists, context).elements("x", separator)
    values = cells.values("x", Bag("x", dtype=kind).listed["x"]) if sizes.any() else np.empty(0)
    ends = np.cumsum(sizes)
    return [values[end - size : end].tolist() for size, end in zip(sizes, ends, strict=True)]


def arrow(cells, kind):
    return from_frame(pa.table({"x": pa.array(cells, kind)}).to_pandas(types_mapper=pd.ArrowDtype))


def objects(cells):
    column = np.empty(len(cells), object)
    column[:] = cells
    return column


def padded(cells, fill, dtype=None):
    width = max(map(len, cells))
    return np.array([[*cell, *[fill] * (width - len(cell))] for cell in cells], dtype)


@pytest.mark.parametrize("make", [
    lambda ids: from_frame(pd.DataFrame({"x": ids})),
    lambda ids: from_frame(pd.DataFrame({"x": [tuple(cell) or None for cell in ids]})),
    lambda ids: from_frame(pd.DataFrame({"x": [np.array(cell, np.int32) for cell in ids]})),
    lambda ids: Lists({"x": objects([cell or None for cell in ids])}),
    lambda ids: Lists({"x": padded(ids, -1)}),
    lambda ids: Lists({"x": padded(ids, np.nan)}),
    lambda ids: Lists({"x": np.array([json.dumps(cell) for cell in ids], object)}),
    lambda ids: from_frame(pd.DataFrame({"x": [" | ".join(map(str, cell)) for cell in ids]})),
    lambda ids: from_frame(pd.DataFrame({"x": [" ".join(map(str, cell)) or None for cell in ids]})),
    lambda ids: arrow([cell or None for cell in ids], pa.list_(pa.int64())),
    lambda ids: arrow(ids, pa.large_list(pa.uint8())),
    lambda ids: from_frame(pd.DataFrame({"x": [json.dumps(cell) for cell in ids]}, dtype="string")),
], ids=["lists", "tuples", "arrays", "objects", "padded", "padded with nan", "json", "bars", "spaces", "arrow", "large",
        "string"])  # fmt: skip
def test_integers_through_every_door(make):
    assert read(make(IDS)) == IDS


@pytest.mark.parametrize("make", [
    lambda texts: from_frame(pd.DataFrame({"x": texts})),
    lambda texts: from_frame(pd.DataFrame({"x": [np.array(cell, str) for cell in texts]})),
    lambda texts: Lists({"x": padded(texts, "")}),
    lambda texts: from_frame(pd.DataFrame({"x": ["[]" if not cell else json.dumps(cell) for cell in texts]})),
    lambda texts: from_frame(pd.DataFrame({"x": [";".join(cell) + ";" for cell in texts]})),
    lambda texts: arrow(texts, pa.list_(pa.string())),
    lambda texts: arrow(texts, pa.list_(pa.dictionary(pa.int8(), pa.string()))),
])
def test_text_through_every_door(make):
    assert read(make(TEXTS), "string") == TEXTS


def test_files(tmp_path):
    """Parquet keeps the types; text files contain JSON or text with separators. Files are read one after the other."""
    fixed = pa.FixedSizeListArray.from_arrays(pa.array([1, 2, 3, 4, 5, 6, 7, 8]), 2)
    table = pa.table({"x": pa.array(IDS), "texts": pa.array(TEXTS), "pair": fixed})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    lists = read_lists([tmp_path / "a.parquet"] * 2)
    assert read(lists) == IDS * 2
    found, sizes = Columns(lists, False).elements("pair")
    assert (found.numbers("pair").tolist(), sizes.tolist()) == ([*range(1, 9)] * 2, [2] * 8)

    spaces = [" ".join(map(str, cell)) for cell in IDS]
    frame = pd.DataFrame({"x": [json.dumps(cell) for cell in IDS], "spaces": spaces})
    frame.to_csv(tmp_path / "a.csv", index=False)
    for name in frame:
        lists = read_lists([tmp_path / "a.csv"])
        lists = Lists({"x": lists.kept(name)})
        assert read(lists) == IDS, name
        assert read(lists, "string") == [[str(one) for one in cell] for cell in IDS], "in a text file, ids are text"


def test_a_separator_can_be_given():
    lists = from_frame(pd.DataFrame({"x": ["a b|c", "d e"]}))
    assert read(lists, "string") == [["a b", "c"], ["d e"]]
    assert read(lists, "string", separator=" ") == [["a", "b|c"], ["d", "e"]]
    assert read(from_frame(pd.DataFrame({"x": [4, -1, 5]}))) == [[4], [], [5]]


@pytest.mark.parametrize(("cells", "message"), [
    ([[1], 2], r"mixes types: lists and 2 \(int\) in row 1 \(counted from 0\); make each cell a list"),
    ([[1], [[2]]], "lists of list cells, in row 1"),
    ([[1], ["a"]], r"mixes types: 1 \(int\) and 'a' \(str\) in row 1"),
    ([["a"], [{"b": 1}]], "lists of dict cells, in row 1"),
    ([np.zeros((2, 2)), [1]], "mixes types"),
    (["[1, 2]", "3"], r"'3' in row 1 .*JSON list"),
    (["[1, 2]", "[[1]]"], "JSON list"),
    (["[1, 2]", "[" * 5000], "JSON list"),
    (['["\\ud800"]'], "not Unicode"),
    ([[1.5], [2]], "is not an integer: 1.5 in row 0"),
    ([[1], [2**70]], "row"),
])  # fmt: skip
def test_other_cells_are_refused_with_their_row(cells, message):
    with pytest.raises(ValueError, match=message):
        read(from_frame(pd.DataFrame({"x": objects(cells)})))


def test_a_history_of_the_list():
    """It may not vary within a list, and is read once per list."""
    frame = pd.DataFrame({"q": [2, 1, 2], "x": [[1, 2], [], [1, 2]], "nan": [["", "a"], [], ["", "a"]]})
    lists = from_frame(frame, "q", context=["x", "nan"])
    assert read(lists, context=True) == [[1, 2], []]
    for other in ([1], [1, 3], [2, 1], None):
        with pytest.raises(ValueError, match=r"'x' is a context column, but .* in row 2 .*list 2"):
            from_frame(frame.assign(x=objects([[1, 2], [], other])), "q", context=["x"])
    chosen = lists.select([1, 0])
    assert read(chosen, context=True) == [[], [1, 2]]


def test_what_a_column_of_lists_becomes(caplog):
    """Lists of ids become a bag; a matrix of numbers stays a number; others must be declared."""
    lists = from_frame(pd.DataFrame({
        "texts": TEXTS, "ids": IDS, "many": [[one, one + 1000] for one in range(4)], "y": [0, 1, 0, 1]}))
    with caplog.at_level("INFO", "tfmtl2r"):
        schema = fit_schema(lists, BINARY)
    assert [type(feature).__name__ for feature in schema.features] == ["Bag"] * 3
    assert [feature.dtype for feature in schema.features] == ["string", "int64", "int64"]
    assert schema.features[1].vocabulary == (1, 2, 3, 4)
    assert "column 'texts' becomes a feature of the kind 'bag': lists of 0 to 2 text" in caplog.text
    matrix = Lists({"x": np.ones((4, 2)), "y": np.array([0, 1, 0, 1])})
    assert isinstance(fit_schema(matrix, BINARY).features[0], Dense)
    floats = from_frame(pd.DataFrame({"x": [[0.5], [1.0, 2.0]], "y": [0, 1]}))
    with pytest.raises(ValueError, match=r"'x' holds lists of 1 to 2 numbers, .*declare its kind"):
        fit_schema(floats, BINARY)


def test_fingerprints_contain_the_lists():
    def mark(cells):
        return from_frame(pd.DataFrame({"x": objects(cells), "z": range(len(cells))})).fingerprint()

    assert mark(IDS) == mark([tuple(cell) for cell in IDS])
    assert len({mark(IDS), mark([[3, 1], [1], [2], [1, 2, 3, 4]]), mark([*IDS[:3], [1, 2, 3, 5]])}) == 3


def _anything(chance):
    """A cell of a column that somebody could have."""
    element = [lambda: chance.randrange(-2, 9), lambda: chance.random() * 3, lambda: chance.choice(["a", "1", "x|y"]),
               lambda: "", lambda: None, lambda: np.nan, lambda: [1], lambda: True, lambda: 2**65,
               lambda: b"\xff"]  # fmt: skip
    of = chance.choice([element[:1], element[:1], element[:2], element[2:3], element[2:5], element[:6], element])
    cell = [
        lambda: [chance.choice(of)() for _ in range(chance.randrange(4))],
        lambda: np.array([chance.randrange(5) for _ in range(chance.randrange(3))]),
        lambda: None, lambda: np.nan, lambda: "[1, 2]", lambda: "1,2", lambda: "", lambda: '["a", null]', lambda: 3,
        lambda: {"a": 1}, lambda: "[1,", lambda: np.array(3), lambda: pd.NaT,
    ]  # fmt: skip
    return chance.choice([cell[:1], cell[:1], cell[:3], cell[:4], cell[4:8], cell])


@pytest.mark.parametrize("seed", range(4))
def test_fuzz(seed):
    """A feature is read, a bag with the lengths of the cells, or one clear error is raised; nothing else happens."""
    chance = random.Random(seed)
    outcomes = {"read": 0, "refused": 0}  # a message that does not name the column counts as neither
    for _ in range(60):
        kinds = _anything(chance)
        cells = [chance.choice(kinds)() for _ in range(chance.randrange(1, 6))]
        try:
            lists = from_frame(pd.DataFrame({"x": objects(cells), "z": objects(cells), "q": 0}))
            for feature in (Vector("x"), Time("x", unit="s"), Text("x"), Dense("x")):
                with contextlib.suppress(UserError):
                    feature_values(lists, feature)
            fit_schema(lists, [Task("q", kind="binary")], [Sequence("x", side="z")])
            found = feature_values(lists, Bag("x", dtype=chance.choice(["string", "int64"])))
        except UserError as error:
            outcomes["refused"] += "x" in str(error)
            continue
        outcomes["read"] += 1
        for cell, size in zip(cells, found["x_size"], strict=True):
            if isinstance(cell, (list, np.ndarray)):
                assert size == len(cell), cells
    assert sum(outcomes.values()) == 60
    assert min(outcomes.values()) > 5, outcomes
