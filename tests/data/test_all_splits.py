"""What fails after training must fail before it: all splits are read and checked first, and types follow train.

An infinite feature, labels -1/+1 of a binary task, a cell of another type than in train, an empty split: each is an
error before the first step, which names file, split, row, column and value. A trained model is saved before anything
else is computed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tfmtl2r import Category, Dense, Experiment, Task, cli
from tfmtl2r import experiment as experiments
from tfmtl2r.commands.prepare import describe
from tfmtl2r.data import Lists, data_report, feature_values, from_frame, label_values
from tfmtl2r.data.fit import fit_schema
from tfmtl2r.datasets.table import Table
from tfmtl2r.errors import InputError
from tfmtl2r.features.base import content, names_things
from tfmtl2r.training.loop import Loop

CLICK = Task("click", kind="binary")
GOOD = "q,x,code,click\n1,0.5,3,0\n1,1.5,4,1\n2,2.5,3,0\n2,,4,1\n"


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "vali", "test"):
        (tmp_path / f"{split}.csv").write_text(GOOD)
    return tmp_path


def experiment(folder):
    return Experiment(
        "a", directory=str(folder / "runs"), data={"files": str(folder), "list_id": "q"},
        tasks=[{"name": "click", "kind": "binary"}], architecture={"name": "shared_bottom", "units": [2]},
        training={"epochs": 1, "telemetry_every": 0, "patience": 0})


@pytest.mark.parametrize("split", ["train", "vali", "test"])
@pytest.mark.parametrize(("row", "message"), [
    (None, "the table is empty"),
    ("3,inf,3,1", r"feature 'x' is infinite: inf in row 4 \(counted from 0\) of .*{split}.csv, list '3'"),
    ("3,-1e999,3,1", "feature 'x' is infinite: -inf in row 4"),
    ("3,1e39,3,1", "feature 'x' is too large for float32: 1e.39 in row 4"),
    ("3,1,3,2", "label column 'click' must be 0 or 1: 2.0 in row 4"),
    ("3,1,3,oops", "label column 'click': expected numbers, got text, such as 'oops' in row 4"),
])
def test_no_step_is_made_with_a_bad_split(folder, monkeypatch, split, row, message):
    monkeypatch.setattr(Loop, "run", lambda *_, **__: pytest.fail("training began"))
    (folder / f"{split}.csv").write_text("q,x,code,click\n" if row is None else f"{GOOD}{row}\n")
    with pytest.raises(ValueError, match=message.replace("{split}", split)):
        experiment(folder).run(verbose=0)


@pytest.mark.parametrize(("names", "message"), [
    ("list_size,code", "may not be called 'list_size'"), ("x,preference", "may not be called 'preference'"),
])
def test_reserved_names_are_refused_before_training(folder, monkeypatch, names, message):
    monkeypatch.setattr(Loop, "run", lambda *_, **__: pytest.fail("training began"))
    for split in ("train", "vali", "test"):
        (folder / f"{split}.csv").write_text(GOOD.replace("x,code", names))
    with pytest.raises(ValueError, match=message):
        experiment(folder).run(verbose=0)


def test_types_follow_train(folder, monkeypatch):
    monkeypatch.setattr(Loop, "run", lambda *_, **__: pytest.fail("training began"))
    (folder / "test.csv").write_text(f"{GOOD}3,1,A0,1\n")
    with pytest.raises(ValueError, match=r"test split: feature 'code': expected numbers, got text, such as 'A0'"):
        experiment(folder).run(verbose=0)
    declared = [{"name": "code", "kind": "category"}, "*"]
    data = Table(str(folder), list_id="q", goals=[CLICK], columns=declared)
    data.check([CLICK], data.schema())
    assert feature_values(data.lists("test"), data.schema().features[0])["code"].tolist() == ["3", "4", "3", "4", "A0"]


def test_text_in_train_and_digits_in_test_are_text(folder):
    (folder / "train.csv").write_text(f"{GOOD}3,1,A0,1\n")
    data = Table(str(folder), list_id="q", goals=[CLICK])
    data.check([CLICK], data.schema())
    assert data.schema().features[1].dtype == "string"


def test_several_files_have_one_type(folder):
    (folder / "more.csv").write_text("q,x,code,click\n9,0.5,B1,1\n")
    paths = [str(folder / "train.csv"), str(folder / "more.csv")]
    lists = Table(train=paths, vali=paths, test=paths, list_id="q", goals=[CLICK]).lists("train")
    assert lists.columns["code"].tolist() == ["3", "4", "3", "4", "B1"]
    assert lists.place(4) == f"row 0 (counted from 0) of {folder}/more.csv, list '9'"


@pytest.mark.slow
def test_a_trained_model_is_saved_before_anything_that_can_fail(folder, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("the evaluation failed")

    monkeypatch.setattr(experiments, "peak_memory_mb", fails)
    with pytest.raises(RuntimeError, match="the evaluation failed"):
        experiment(folder).run(verbose=0)
    assert (folder / "runs" / "a" / "model.keras").is_file()


@pytest.mark.parametrize("cells", [np.array([1.0, np.inf]), np.array([1.0, -np.inf], np.float32),
                                   np.array([[1.0, 2.0], [np.inf, 0.0]])])
def test_nan_is_missing_and_infinite_is_an_error(cells):
    feature = Dense("x", shape=cells.shape[1:])
    with pytest.raises(ValueError, match=r"feature 'x' is infinite: -?inf in row 1 .*mark a missing value with NaN"):
        feature_values(Lists({"x": cells}), feature)
    missing = np.where(np.isinf(cells), np.nan, cells)
    np.testing.assert_array_equal(feature_values(Lists({"x": missing}), feature)["x"], missing.astype(np.float32))


def test_labels_of_minus_one_and_one():
    lists = Lists({"click": np.array([-1, 1, -1, 0])})
    assert label_values(lists, CLICK).tolist() == [-1, 1, -1, 0]
    assert label_values(lists.select([0, 1]), CLICK).tolist() == [-1, 1]  # the whole table has a 0
    assert label_values(Lists({"click": np.array([-1, -1])}), CLICK).tolist() == [-1, -1]  # all are missing
    for cells in ([-1, 1, 1], [-1.0, 1.0, np.nan]):
        with pytest.raises(ValueError, match=r"'click' has negative values and no 0: -1.0 in row 0 .*write 0"):
            label_values(Lists({"click": np.array(cells)}), CLICK)
    assert label_values(Lists({"click": np.array([-1, 2])}), Task("click")).tolist() == [-1, 2]
    report = data_report(Lists({"label": np.array([-1, 1, np.nan]), "x": np.arange(3)}))
    assert "missing: 1, and 1 negative, which is missing for binary and graded tasks" in describe(report)[0]


def test_the_number_of_negative_labels_is_shown(folder, caplog):
    (folder / "vali.csv").write_text(f"{GOOD}3,1,3,-1\n")
    data = Table(str(folder), list_id="q", goals=[CLICK])
    data.check([CLICK], data.schema())
    assert "task 'click': 1 of 5 labels of the vali split are negative, which means missing" in caplog.text


INTEGERS = [7, 8, None, 7]


@pytest.mark.parametrize(("cells", "kind"), [
    (pd.array(INTEGERS, "Int64"), Category), (pd.Series(INTEGERS, dtype=object), Category),
    (pd.array(INTEGERS, "UInt8"), Category), (pd.array(INTEGERS, "int64[pyarrow]"), Category),
    (pd.array([True, None, False, True], "boolean"), Category),
    (pd.Series([True, None, False, True], dtype=object), Category),
    (pd.Categorical([0.5, None, 1.5, 0.5]), Category), (pd.Categorical([2.0, None, 1.0, 2.0]), Category),
    (pd.array([1.0, 2.0, None, 3.0], "Float64"), Dense), ([1.0, 2.0, None, 3.0], Dense), ([1.0, 2.0, 3.0, 4.0], Dense),
])
def test_a_missing_value_does_not_change_the_kind_of_a_feature(cells, kind, caplog):
    caplog.set_level("INFO", "tfmtl2r")
    lists = from_frame(pd.DataFrame({"c": cells, "y": range(4)}))
    for part in (lists, lists.select(lists.columns["y"] != 2)):
        assert type(fit_schema(part, [Task("y")]).features[0]) is kind
    assert f"column 'c' becomes a feature of the kind '{kind.__name__.lower()}': " in caplog.text


def test_a_category_type_is_followed_whatever_its_size(tmp_path):
    frame = pd.DataFrame({"c": pd.Categorical(range(200)), "d": range(200), "y": range(200)})
    assert [type(f) for f in fit_schema(from_frame(frame), [Task("y")]).features] == [Category, Dense]
    frame.to_parquet(tmp_path / "t.parquet")
    path = str(tmp_path / "t.parquet")
    for file in (path, [path, path]):
        data = Table(train=file, vali=file, test=file, goals=[Task("y")])
        assert data.schema().features[0].vocabulary == tuple(range(200))


def test_the_rule_counts_values_that_are_there():
    assert names_things(np.arange(-1, 64))
    assert not names_things(np.arange(65))
    assert content(np.arange(65)) == "more than 64 different integers (65)"
    assert "declare a category" in content(np.array([1.0, np.nan]))


def test_what_was_guessed_is_said_where_the_user_sees_it(folder, monkeypatch, capsys, caplog):
    """``train`` prints one line for a table of one's own, ``prepare`` all columns, and Python logs."""
    def fails(*_, **__):
        raise InputError("training began")

    monkeypatch.chdir(folder)
    monkeypatch.setattr(Loop, "run", fails)
    for split in ("train", "vali", "test"):
        (folder / f"{split}.csv").write_text("q,x,code,click\n1,1.0,3,0\n1,2.0,4,1\n2,2.0,3,0\n2,,4,1\n")
    (folder / "experiment.toml").write_text(
        f'name = "a"\n[data]\nfiles = "{folder}"\nlist_id = "q"\n[[tasks]]\nname = "click"\nkind = "binary"\n')
    assert cli.main(["train", str(folder / "experiment.toml"), "--telemetry-every", "0"]) == 1
    said = ("guessed from the columns: x is a number (floats, all whole, 2 different), code is a category (2 different "
            "integers); declare them if this is wrong")
    printed = capsys.readouterr()
    assert printed.out.splitlines()[:1] == [said], printed
    assert printed.err == "tfmtl2r train: training began\n"
    assert cli.main(["prepare", str(folder / "train.csv")]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  q: category: at most 64 different integers (2)",
        "  x: dense: floats, although all are whole (2 different); if they are codes, declare a category",
        "  code: category: at most 64 different integers (2)", "  click: category: at most 64 different integers (2)"]
    frame = pd.DataFrame({"week": [1.0, np.nan], "price": [0.5, 1], "brand": ["a", "b"], "many": [1, 2], "y": [0, 1]})
    with caplog.at_level("INFO", "tfmtl2r"):
        fit_schema(from_frame(frame), [Task("y")])
    assert "guessed from the columns: week is a number (floats, all whole, 1 different), many is a cat" in caplog.text
