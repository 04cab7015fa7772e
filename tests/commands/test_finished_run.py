"""A finished run reads further tables: files of any size are scored piece by piece, in order, whole or not at all; an
evaluation shows slices, and inputs that differ from the training data."""

from __future__ import annotations

import datetime
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from tfmtl2r import Dense, Schema, cli
from tfmtl2r.commands.report import _importance
from tfmtl2r.data import from_frame
from tfmtl2r.data.chunks import chunks
from tfmtl2r.data.elwc import write_elwc
from tfmtl2r.data.own_files import Reading
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.file_scores import _reading, how_to_read, score_files
from tfmtl2r.experiment import Experiment
from tfmtl2r.features import Vector
from tfmtl2r.pages.html import Section, page
from tfmtl2r.runs.card import RunCard
from tfmtl2r.runs.identity import MODEL
from tfmtl2r.serving.export import _contents
from tfmtl2r.serving.load import load
from tfmtl2r.serving.outside import outside


def log(lists=40, seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, lists)
    rows = int(sizes.sum())
    return pd.DataFrame({
        "session": np.repeat(rng.permutation(lists) + 2**60, sizes),
        "user": np.repeat(rng.integers(0, 9, lists), sizes),
        "video": [f"v{i}" for i in rng.integers(0, 9, rows)], "price": rng.normal(size=rows).astype(np.float32),
        "tags": [rng.choice(["a b", "c"], rng.integers(0, 3)).tolist() for _ in range(rows)],
        "click": rng.integers(0, 2, rows), "watch time": rng.random(rows),
    })  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of own lists with every kind of column, and the frame with its scores of all rows at once."""
    folder = tmp_path_factory.mktemp("score")
    frame = log()
    frame.to_parquet(folder / "log.parquet")
    ranker, _ = Experiment(
        "mine", directory=str(folder / "runs"), architecture={"name": "shared_bottom", "units": [4]},
        data={"files": str(folder / "log.parquet"), "list_id": "session", "item_id": "video", "context": ["user"]},
        features=["*", {"name": "tags", "kind": "bag", "separator": "|"}],
        tasks=[{"name": "click", "kind": "binary", "loss": "bce"}, {"name": "watch time", "kind": "regression"}],
        training={"epochs": 1, "telemetry_every": 0, "checkpoint_minutes": 0}, evaluation={"by": ["user"]},
        export={"blend": {"weights": {"click": 3, "watch time": 1}}},
    ).run(verbose=0)  # fmt: skip
    return folder, ranker


def expected(run, frame):
    return run[1].predict(frame, list_id="session").reset_index(drop=True)


def assert_scores(found, run, frame, rtol=1e-5):
    wanted = expected(run, frame)
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=rtol, atol=1e-6)
    np.testing.assert_allclose(found["probability_click"], 1 / (1 + np.exp(-wanted["score_click"])), rtol=1e-4)
    blended = 3 * wanted["score_click"] + wanted["score_watch time"]  # as the export of the run
    np.testing.assert_allclose(found["score"], blended, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [9, 10**6])
@pytest.mark.parametrize("ending", ["parquet", "csv", "csv.gz"])
def test_every_file_in_pieces_of_every_size(run, tmp_path, rows, ending):
    """The ids are those of the file, digit by digit; lists that cross a boundary are whole."""
    frame = log(8, seed=1).drop(columns=["click", "watch time"])
    if ending == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pandas(frame, preserve_index=False), tmp_path / "in.parquet",
                                    row_group_size=11)
    else:
        texts = frame.assign(tags=frame["tags"].map("|".join))
        texts.to_csv(tmp_path / f"in.{ending}", index=False)
    count = score_files(run[0] / "runs" / "mine", str(tmp_path / f"in.{ending}"), tmp_path / "out.parquet", rows=rows)
    found = pd.read_parquet(tmp_path / "out.parquet")
    assert count == len(frame) == len(found)
    assert list(found) == ["session", "video", "score_click", "score_watch time", "score", "value_click",
                           "value_watch time", "probability_click"]
    assert found["session"].astype(str).tolist() == frame["session"].astype(str).tolist()
    assert found["video"].tolist() == frame["video"].tolist()
    assert_scores(found, run, frame)


def test_records_are_scored_as_tables_are(run, tmp_path):
    frame = log(8, seed=5).drop(columns=["click", "watch time"])
    write_elwc(from_frame(frame, "session", ["user"]), tmp_path / "in.tfrecord", list_id="session")
    score_files(run[0] / "runs" / "mine", str(tmp_path / "in.tfrecord"), tmp_path / "out.csv")
    found = pd.read_csv(tmp_path / "out.csv", dtype={"session": str})
    assert found["session"].tolist() == frame["session"].astype(str).tolist()
    assert found["video"].tolist() == frame["video"].tolist()
    assert_scores(found, run, frame)


@pytest.mark.slow
def test_an_export_and_a_saved_ranker_give_the_scores_of_the_run(run, tmp_path, monkeypatch, capsys):
    """An export of a run knows its ids, names of tasks and separators; a file of a ranker needs the list id."""
    monkeypatch.chdir(run[0])
    frame = log(12, seed=7).drop(columns=["click", "watch time"])
    frame.sample(frac=1, random_state=0).to_parquet(tmp_path / "in.parquet")
    frame.assign(tags=frame["tags"].map("|".join)).to_csv(tmp_path / "in.csv", index=False)
    assert cli.main(["export", "mine", "--rows", "none"]) == 0
    saved = "runs/mine/model.keras", ["--list-id", "session"]
    for file, rows in (("in.parquet", "65536"), ("in.csv", "9")):
        for name, flags in (("mine", []), ("saved_models/mine", []), saved):
            arguments = [name, str(tmp_path / file), "--to", str(tmp_path / "o.parquet"), "--rows", rows, *flags]
            assert cli.main(["score", *arguments]) in (0, None), capsys.readouterr().err
            found = pd.read_parquet(tmp_path / "o.parquet")
            if name == "mine":
                wanted = found
            elif flags:
                found = found[["session", *wanted.columns[2:4]]]  # neither item ids nor the blend of the experiment
            assert list(found) == [column for column in wanted if column in found]
            for column in found:
                if found[column].dtype.kind == "f":
                    np.testing.assert_allclose(found[column], wanted[column], rtol=1e-4, atol=1e-5)
                else:
                    assert found[column].tolist() == wanted[column].tolist()
    assert cli.main(["score", "runs/mine/model.keras", str(tmp_path / "in.csv"), "--to", "o.csv"]) == 1
    assert "model.keras ranks lists, and its data set has no list id of its own" in capsys.readouterr().err


@pytest.mark.parametrize("feature", [Dense("features", shape=(3,), missing=True), Dense("features", shape=(3,)),
                                     Vector("features", size=3, projection=2)])
def test_rows_of_text_files_have_the_columns_of_the_training(tmp_path, feature):
    """Whatever the feature makes of them; a registered data set changes columns when it reads its own files."""
    (tmp_path / "a.txt").write_text("1 qid:1 1:5 2:6\n0 qid:1 2:7 4:9\n")
    config = {"data": {"files": str(tmp_path / "a.txt"), "kind": "letor"},
              "tasks": [{"name": "label"}, {"name": "last", "label": "features[4]", "kind": "regression"}]}
    card = SimpleNamespace(config=config, data={"train": {"num_lists": 1}}, name="mine")
    reading, ids = _reading(how_to_read(card, Schema([feature])), str(tmp_path / "a.txt"), "")
    assert reading.lists([tmp_path / "a.txt"]).column("features").tolist() == [[5, 6, 0], [0, 7, 0]]
    assert ids == ["qid"]
    card.config = {"data": {"name": "mslr", "path": "."}}
    with pytest.raises(InputError, match="'mine' was trained on the data set 'mslr', which makes labels of features"):
        _reading(how_to_read(card, Schema([feature])), str(tmp_path / "a.txt"), "")


@pytest.mark.slow
def test_mixed_lists_are_whole_or_refused(run, tmp_path):
    """Within a piece the rows of a list may lie anywhere; a list that comes again later is an error, not two lists."""
    frame = log(30, seed=2)
    mixed = frame.sample(frac=1, random_state=3).reset_index(drop=True)
    mixed.to_parquet(tmp_path / "mixed.parquet")
    run_folder, out = run[0] / "runs" / "mine", tmp_path / "out.csv"
    out.write_text("before")
    with pytest.raises(InputError, match="are far apart"):
        score_files(run_folder, str(tmp_path / "mixed.parquet"), out, rows=5)
    score_files(run_folder, str(tmp_path / "mixed.parquet"), out)
    assert_scores(pd.read_csv(out), run, mixed)
    frame.to_parquet(tmp_path / "a.parquet")
    frame.iloc[:9].to_parquet(tmp_path / "b.parquet")
    out.write_text("before")
    first = frame["session"].iloc[0]
    both = [str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]
    with pytest.raises(InputError, match=rf"list {first} are far apart: it comes again in row 0 .*b.parquet"):
        score_files(run_folder, both, out, rows=len(frame))
    assert out.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.parquet", "mixed.parquet", "out.csv"]


def test_memory_is_that_of_a_piece(tmp_path):
    """A piece is not much longer than what is read at a time, or than the longest list."""
    frame = pd.DataFrame({"q": np.repeat(np.arange(500), 4), "x": np.arange(2000.0)})
    frame.loc[400:699, "q"] = 100
    frame.to_parquet(tmp_path / "a.parquet", row_group_size=50)
    frame.to_csv(tmp_path / "a.csv", index=False)
    for name in ("a.parquet", "a.csv"):
        sizes = [lists.num_items for _, lists in chunks([tmp_path / name], Reading(list_id="q"), rows=50)]
        assert sum(sizes) == 2000
        assert sorted(sizes)[-2] <= 60
        assert max(sizes) <= 300 + 100


TYPES = {
    "numbers and text": ([7, 8], ["007", "9"], None), "numbers and times": ([1, 2], ["2026-01-01"], None),
    "booleans and numbers": ([True], [2, 3], None), "numbers and booleans": ([2, 3], [True], None),
    "fractions": ([7, 8], [9.5], None), "long ids as floats": ([0.5], [2**53 + 1], None),
    "floats that lose digits": (np.float32([1, 2]), [0.1], None), "too long": (np.int32([1]), [2**40], None),
    "times": (["2026-01-01"], [5], None), "dates and times": (
        pd.Series([datetime.date(2026, 1, 1)]), pd.to_datetime(["2026-01-01T05:00"]).astype("datetime64[us]"), None),
    "lists that lose digits": ([np.float32([1])], [[0.1]], None),
    "wider lists": ([[1.5]], [np.float32([1, np.nan])], 2),
    "no value": ([1, 2], [None, None], [1, 2, None, None]),
    "lists of text": ([[1, 2]], [["a"]], None),
    "integers of any width": (np.int32([1, 2]), [3, 4], [1, 2, 3, 4]),
    "doubles, since one is missing": ([1, 2], [3.0, None], [1, 2, 3, None]), "numbers": ([0.5], [1, 2], [0.5, 1, 2]),
    "floats": ([0.1, None], np.float32([0.5]), [0.1, None, 0.5]),
    "narrow floats": (np.float32([0.5]), [0.25, None], [0.5, 0.25, None]),
    "categories": (["a"], pd.Categorical(["b", None]), ["a", "b", None]),
    "more categories": (pd.Categorical(["b", None]), ["a"], ["b", None, "a"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", TYPES)
def test_files_of_other_types_keep_every_value_or_are_refused(kind, tmp_path):
    """As when they are read as one table: a type never changes what a cell means."""
    first, second, wanted = TYPES[kind]
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for path, values in zip(paths, (first, second), strict=True):
        one = pd.Series(values)
        one = pd.to_datetime(one) if isinstance(one[0], str) and one[0].startswith("2026") else one
        one.to_frame("x").to_parquet(path)
    if wanted is None:
        with pytest.raises(InputError, match=r"b.parquet and .*a.parquet: their columns 'x' have other types"):
            list(chunks(paths, Reading(), None))
    else:
        tables = [table for table, _ in chunks(paths, Reading(), None)]
        found = [cell for table in tables for cell in table["x"].to_pylist()]
        assert len(found) == wanted if isinstance(wanted, int) else found == wanted
    pd.Series(["7"]).to_frame("x").to_csv(tmp_path / "c.csv")
    with pytest.raises(InputError, match="one is a text file and the other is not"):
        list(chunks([paths[0], tmp_path / "c.csv"], Reading(), None))


def test_a_list_that_comes_again_is_found_after_any_number_of_pieces(tmp_path):
    ids = np.repeat(np.arange(40), 2)
    for again in (0, 1, 17, 36):
        pd.DataFrame({"q": [*ids, again]}).to_csv(tmp_path / "a.csv", index=False)
        with pytest.raises(InputError, match=f"list {again} are far apart"):
            list(chunks([tmp_path / "a.csv"], Reading(list_id="q"), rows=4))


@pytest.mark.slow
def test_the_command(run, tmp_path, capsys, monkeypatch):
    folder, _ = run
    monkeypatch.chdir(folder)
    frame = log(seed=4)
    frame.drop(columns=["click"]).to_parquet(tmp_path / "new.parquet")
    scored = ["score", "mine", str(tmp_path / "new.parquet"), "--to"]
    assert cli.main([*scored, "out/scores.parquet", "--columns", "all"]) == 0
    assert capsys.readouterr().out == f"{len(frame)} rows scored: out/scores.parquet\n"
    found = pd.read_parquet("out/scores.parquet")
    pd.testing.assert_frame_equal(found[list(frame.drop(columns="click"))], frame.drop(columns="click"))
    assert_scores(found, run, frame)
    for arguments, message in [
        (["s.csv", "--columns", "tags"], "the column 'tags' contains lists, which a CSV file cannot hold"),
        (["s.csv", "--columns", "pric"], "has no column 'pric'; did you mean 'price'"),
        (["s.json"], "a file that ends in .parquet or .csv"),
        (["s.csv", "--rows", "0"], "must be at least 1"),
    ]:  # fmt: skip
        assert cli.main([*scored, *arguments]) == 1
        assert message in capsys.readouterr().err
    assert cli.main(["score", "mine", str(tmp_path / "*.csv"), "--to", "s.csv"]) == 1
    assert "no file matches this pattern" in capsys.readouterr().err
    found.to_parquet(tmp_path / "twice.parquet")
    assert cli.main(["score", "mine", str(tmp_path / "twice.parquet"), "--to", "s.csv", "--columns", "all"]) == 1
    assert "the column 'probability_click' of the files has the name of a score" in capsys.readouterr().err
    assert not (folder / "s.csv").exists()
    assert load(folder / "runs" / "mine" / MODEL).tasks[1].name == "watch time"


def test_evaluate_shows_and_keeps_slices_and_what_differs(run, capsys, monkeypatch):
    """In the training by [evaluation] by, and later by flag; the run card has both."""
    monkeypatch.chdir(run[0])
    before = RunCard.load("runs/mine")
    assert set(before.slices["test"]) == {"user"}
    before.data["train"]["inputs"]["price"] |= {"lowest": 5.0, "highest": 6.0}
    before.save("runs/mine")
    assert cli.main(["evaluate", "mine", "--by", "list_length", "--by", "new:video", "--json", "out.json"]) == 0
    out = capsys.readouterr().out
    assert "list_length (slices of lists)" in out
    assert "new:video (slices of " in out
    assert "inputs that differ from the training split:" in out
    assert "price: 100.0 % of the numbers are outside of 5 to 6, the range in the training split" in out
    written = json.loads((run[0] / "out.json").read_text())
    assert set(written["slices"]) == {"list_length", "new:video"}
    assert written["inputs"]["price"]["outside"] == 1.0
    card = RunCard.load("runs/mine")
    assert set(card.slices["test"]) == {"user", "list_length", "new:video"}
    assert str(card.slices["test"]["user"]) == str(before.slices["test"]["user"])
    experiment = Experiment.of(card.config).but(name="other", evaluation={"by": ["usr"]})
    with pytest.raises(InputError, match="no column 'usr'; did you mean 'user'"):
        experiment.run(verbose=0)
    assert not (run[0] / "runs" / "other").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["keras", "export"])
def test_a_saved_ranker_and_an_export_are_evaluated_on_the_data_of_a_run(run, kind, capsys, monkeypatch):
    """By their answers: the numbers are those of the run, for the split and for slices; no card changes."""
    monkeypatch.chdir(run[0])
    path = "runs/mine/model.keras"
    if kind == "export":
        path = "served"
        assert cli.main(["export", "mine", "--rows", "none", "--to", path]) == 0
    assert cli.main(["evaluate", "mine", "--by", "user", "--json", "alone.json"]) == 0
    before = (run[0] / "runs" / "mine" / "run.json").read_bytes()
    assert cli.main(["evaluate", path, "--like", "mine", "--by", "user", "--json", "file.json"]) == 0
    assert (run[0] / "runs" / "mine" / "run.json").read_bytes() == before
    alone, found = (json.loads((run[0] / f"{name}.json").read_text()) for name in ("alone", "file"))
    assert found["run"] == path
    for task, row in alone["results"].items():
        for metric, one in row.items():
            assert found["results"][task][metric]["value"] == pytest.approx(one["value"], rel=1e-4), (task, metric)
    assert list(found["slices"]["user"]["slices"]) == list(alone["slices"]["user"]["slices"])
    for wrong, message in (([path], "knows no data set: name a run"), ([path, "mine", "--like", "mine"], "alone"),
                           ([path, "--like", "mine", "--reliability", "a.png"], "--reliability needs a run"),
                           (["mine", "--like", "mine"], "--like is for a .keras file or an export")):
        capsys.readouterr()
        assert cli.main(["evaluate", *wrong]) == 1
        assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_importance_of_a_run_of_its_file_and_of_several_as_one(run, capsys, monkeypatch):
    """All three are the same scores; the card keeps the drops, and the report draws them."""
    folder, _ = run
    monkeypatch.chdir(folder)
    flags = ["--importance", "--feature", "price+tags", "--feature", "user", "--repeats", "2", "--json", "out.json"]
    found = []
    for what in (["mine"], ["runs/mine/model.keras", "--like", "mine"], ["mine", "mine"]):
        assert cli.main(["evaluate", *what, *flags]) == 0
        found.append(json.loads((folder / "out.json").read_text())["importance"])
        out = capsys.readouterr().out
        assert "2 features, exchanged 2 times each: 4 passes" in out
        assert "price+tags" in out
        assert "exchanged by" in out
    assert found[0] == RunCard.load("runs/mine").importance["test"]
    assert {one["name"]: one["of"] for one in found[0]["features"]} == {"price+tags": "items", "user": "lists"}
    first, *others = ({one["name"]: one["tasks"] for one in each["features"]} for each in found)
    for other in others:
        for name, task in ((name, task) for name, tasks in first.items() for task in tasks):
            assert other[name][task]["drop"] == pytest.approx(first[name][task]["drop"], abs=1e-5), (name, task)
    assert cli.main(["evaluate", "mine", "--among", "split"]) == 1
    assert "--among is for --importance" in capsys.readouterr().err
    for what in (["mine"], ["runs/mine/model.keras", "--like", "mine"]):
        assert cli.main(["evaluate", *what, "--importance", "--feature", "prise"]) == 1
        printed = capsys.readouterr()
        assert "there is no feature 'prise' to exchange; did you mean 'price'?" in printed.err
        assert "split" not in printed.out, "a result came before the refusal"
    drawn = _importance([SimpleNamespace(card=RunCard.load("runs/mine"))])
    assert [name for name, _ in drawn[0].rows] == [one["name"] for one in found[0]["features"]]
    made = page("p", [Section("s", parts=drawn)])
    drop = found[0]["features"][0]["tasks"]["click"]
    assert f"{found[0]['features'][0]['name']}, click: {drop['drop']:+.4f} \u00b1 {1.96 * drop['error']:.4f}" in made
    assert made.count('tabindex="0"') == made.count('class="whisker"') == 4


@pytest.mark.slow
def test_runs_are_evaluated_as_the_one_model_that_they_become(run, capsys, monkeypatch):
    """A run with itself has its own order, and its card stays as it was."""
    folder, _ = run
    monkeypatch.chdir(folder)
    assert cli.main(["evaluate", "mine", "--json", "alone.json"]) == 0
    before = (folder / "runs" / "mine" / "run.json").read_bytes()
    assert cli.main(["evaluate", "mine", "mine", "--json", "twice.json"]) == 0
    assert (folder / "runs" / "mine" / "run.json").read_bytes() == before
    assert "mine + mine" in capsys.readouterr().out
    alone, twice = (json.loads((folder / f"{name}.json").read_text()) for name in ("alone", "twice"))
    assert twice["run"] == "mine + mine"
    for task, row in alone["results"].items():
        for metric, found in row.items():
            assert twice["results"][task][metric]["value"] == pytest.approx(found["value"], rel=1e-4), (task, metric)
    assert cli.main(["export", "mine", "mine"]) == 1
    assert "name its folder with --to" in capsys.readouterr().err


def test_the_metadata_of_an_export_describe_the_training_data(run, tmp_path):
    """A table of requests is compared with an export, without the run."""
    folder, ranker = run
    train = RunCard.load(folder / "runs" / "mine").data["train"]["inputs"]
    train["price"] |= {"lowest": -9.0, "highest": 9.0}
    plan = SimpleNamespace(names={"price": "PRICE"})
    found = _contents(ranker.architecture.schema, plan, train)
    assert found["PRICE"] == train["price"]
    assert found["user"]["values"] == list(ranker.architecture.schema.features[0].known_values)
    (tmp_path / "1/assets.extra").mkdir(parents=True)
    inputs = {"PRICE": {"feature": "price"}, "user": {"feature": "user"}}
    (tmp_path / "1/saved_model.pb").write_text("")
    for metadata in ({"train": found, "inputs": inputs}, {"inputs": inputs}):
        (tmp_path / "1/assets.extra/tfmtl2r.json").write_text(json.dumps(metadata))
        table = from_frame(pd.DataFrame({"price": [0.0, 1e9], "user": [found["user"]["values"][0], 999]}))
        if "train" in metadata:
            assert {line.split(" are ")[0] for line in outside(tmp_path, table)} == {
                "PRICE: 50.0 % of the numbers", "user: 50.0 % of the ids"}
            lacking = from_frame(pd.DataFrame({"price": [0.0, 1.0]}))
            assert outside(tmp_path, lacking) == ["user: the table has no such column"]
        else:
            with pytest.raises(InputError, match="does not describe the training data: export the run again"):
                outside(tmp_path, table)
