"""Reports about pandas and Arrow: what a file or a frame loses on its way."""

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from tfmtl2r import Category, Task
from tfmtl2r.data import feature_values, fit_schema, from_frame, read_lists, read_table

ID = 1234567890123456789


def fitted(lists, name, *features):
    return next(f for f in fit_schema(lists, [Task("y")], [*features, "*"]).features if f.name == name)


def test_an_integer_beside_a_missing_cell_loses_digits(tmp_path):
    """``read_csv`` makes floats of integers where a cell is empty
    (https://github.com/pandas-dev/pandas/issues/48170)."""
    (tmp_path / "a.csv").write_text(f"c,y\n{ID},0\n,1\n{ID + 1},1\n")
    assert read_table(tmp_path / "a.csv")["c"].tolist() == [ID, pd.NA, ID + 1]
    feature = fitted(read_lists([tmp_path / "a.csv"]), "c")
    assert feature == Category("c", vocabulary=(ID, ID + 1), dtype="int64")


def test_an_integer_of_twenty_digits_loses_digits(tmp_path):
    """Integers above 64 bits become floats (https://github.com/pandas-dev/pandas/issues/5697)."""
    (tmp_path / "a.csv").write_text(f"c,y\n{ID}00,0\n{ID}01,1\n")
    assert read_table(tmp_path / "a.csv")["c"].tolist() == [f"{ID}00", f"{ID}01"]


def test_namibia_is_a_missing_country(tmp_path):
    """The country code NA is read as a missing cell (https://github.com/datasets/country-codes/issues/38)."""
    (tmp_path / "a.csv").write_text("c,y\nNA,0\nDE,1\nNA,1\n,0\n")
    lists = read_lists([tmp_path / "a.csv"])
    assert fitted(lists, "c").vocabulary == ("NA", "DE")
    assert feature_values(lists, fitted(lists, "c"))["c"].tolist() == ["NA", "DE", "NA", ""]


@pytest.mark.parametrize("values", [np.arange(99), np.arange(99) / 2, [f"{i}" for i in range(99)]])
def test_a_category_does_not_survive_a_parquet_file(tmp_path, values):
    """A category of numbers is a number after a round trip (https://github.com/pandas-dev/pandas/issues/60491)."""
    frame = pd.DataFrame({"c": pd.Categorical(values), "y": np.arange(99) % 2})
    frame.to_parquet(tmp_path / "a.parquet")
    for lists in (from_frame(frame), read_lists([tmp_path / "a.parquet"])):
        assert isinstance(fitted(lists, "c"), Category)
        assert len(fitted(lists, "c").vocabulary) == 99


def test_categories_of_two_files_become_objects(tmp_path):
    """Joined columns of different categories lose their type (https://github.com/pandas-dev/pandas/issues/47920)."""
    for name, first in (("a", 0), ("b", 50)):
        values = np.arange(first, first + 99)
        pd.DataFrame({"c": pd.Categorical(values), "n": pd.Categorical(values / 2), "y": values % 2}).to_parquet(
            tmp_path / f"{name}.parquet")
    lists = read_lists([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    assert [len(fitted(lists, name).vocabulary) for name in "cn"] == [149, 149]


def test_a_category_of_one_file_and_plain_values_of_another_flip_with_the_order(tmp_path):
    """A category joined with plain values is an object (https://github.com/pandas-dev/pandas/issues/43477)."""
    values = np.arange(99)
    pd.DataFrame({"c": pd.Categorical(values), "y": values % 2}).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame({"c": values.astype(np.int32), "y": values % 2}).to_parquet(tmp_path / "b.parquet")
    found = [fitted(read_lists([tmp_path / f"{name}.parquet" for name in names]), "c") for names in ("ab", "ba")]
    assert found[0] == found[1]
    assert isinstance(found[0], Category)


def test_booleans_of_two_files_become_objects(tmp_path):
    """Booleans joined with booleans that may be missing are objects
    (https://github.com/pandas-dev/pandas/issues/42800)."""
    for name, cells in (("a", [True, False]), ("b", [None, True])):
        column = pyarrow.array(cells, pyarrow.bool_())
        pyarrow.parquet.write_table(pyarrow.table({"c": column, "y": [0, 1]}), tmp_path / f"{name}.parquet")
    lists = read_lists([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    feature = fitted(lists, "c")
    assert feature == Category("c", vocabulary=(1, 0), dtype="int64")
    assert feature_values(lists, feature)["c"].tolist() == [1, 0, -1, 1]


@pytest.mark.parametrize("cells", [
    pd.Categorical([True, False, None]), pd.array([True, False, None], "boolean"), [True, False, None],
    pd.array([True, False, None], pd.ArrowDtype(pyarrow.bool_())),
])
def test_a_boolean_with_a_missing_cell_is_no_category(cells):
    """Categories of booleans fail where a cell is missing (https://github.com/pandas-dev/pandas/issues/19182)."""
    lists = from_frame(pd.DataFrame({"c": cells, "y": [0, 1, 0]}))
    assert feature_values(lists, fitted(lists, "c"))["c"].tolist() == [1, 0, -1]


@pytest.mark.parametrize("kind", [pyarrow.int64(), pyarrow.string(), pyarrow.float64()])
def test_a_dictionary_of_arrow_is_an_unknown_type(kind):
    """Conversions of Arrow's dictionary type raise ``KeyError``
    (https://github.com/pandas-dev/pandas/issues/57395)."""
    values = pyarrow.array([f"{i}" for i in range(99)]).cast(kind)
    cells = pd.array(values.dictionary_encode(), pd.ArrowDtype(pyarrow.dictionary(pyarrow.int32(), kind)))
    assert len(fitted(from_frame(pd.DataFrame({"c": cells, "y": np.arange(99)})), "c").vocabulary) == 99
