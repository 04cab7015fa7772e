"""A run is a transaction: nothing is lost, nothing is mixed, and whatever a folder holds is named in one line."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tfmtl2r import Experiment, cli, plugins
from tfmtl2r.commands import _options
from tfmtl2r.commands.train import COMMAND
from tfmtl2r.errors import InputError, MissingFileError, NotAFolderError, Stopped
from tfmtl2r.runs import identity, places
from tfmtl2r.runs.attempt import Attempt, settings_of, unfinished
from tfmtl2r.runs.card import RunCard
from tfmtl2r.settings import Settings, files


class Model:
    """Saves as a ranker does: an archive with a single file."""

    def __init__(self, weights=b"weights"):
        self.weights = weights

    def save(self, path):
        import zipfile

        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("weights", self.weights)


def train(run, value=0.5, settings=None, data=None, **options):
    """A training without a ranker: all of its files, in order."""
    with Attempt(run, settings or {"format": 2, "name": run.name}, **options) as attempt:
        attempt.begin(data=data or {"train": "same"})
        attempt.keep(Model())
        card = RunCard(run.name, {"name": run.name}, identity=attempt.identity)
        card.results = {"test": {"click": {"ndcg@5": {"value": value, "direction": "max"}}}}
        np.savez(attempt.folder / identity.PER_LIST, identity=np.array(attempt.identity))
        attempt.finish(card)
    return attempt


def stop(run, checkpoint=True, error=KeyboardInterrupt, settings=None, **options):
    """A training that is stopped before it has a model."""
    with Attempt(run, settings or {"format": 2, "name": run.name}, **options) as attempt:
        attempt.begin(data={"train": "same"})
        if checkpoint:
            attempt.checkpoints.mkdir(parents=True)
            (attempt.checkpoints / "1").write_text("weights")
        raise error


def stopped(run, **options):
    with pytest.raises(options.get("error", KeyboardInterrupt)):
        stop(run, **options)
    return unfinished(run) / places.MARK / places.CHECKPOINTS / "1"


def value(run):
    return RunCard.load(run).results["test"]["click"]["ndcg@5"]["value"]


def test_a_kill_between_the_marks_of_two_attempts_leaves_a_folder_of_ours(tmp_path, monkeypatch):
    """Beside a log of a sweep, which no attempt owns."""
    run = tmp_path / "a"
    (run / places.MARK / places.CHECKPOINTS).mkdir(parents=True)
    for name in ("log.txt", places.PER_LIST):
        (run / name).touch()
    removed = []

    def remove(path, remove=places.remove):
        removed.append(path.name)
        remove(path)
        assert places.is_ours(run), removed

    monkeypatch.setattr(places, "remove", remove)
    places.clear(run)
    assert {places.CHECKPOINTS, places.PER_LIST} <= {*removed}
    assert sorted(path.name for path in run.iterdir()) == [places.MARK, "log.txt"]


def test_a_killed_replacement_leaves_the_old_run_or_the_new_one(tmp_path, monkeypatch):
    """Every rename in turn is the last call of the process. The next command reads one whole run."""
    rename, seen = os.rename, set()
    for last in range(4):
        run = tmp_path / str(last) / "a"
        train(run, value=0.1)
        (run / "notes.txt").write_text("mine")
        calls = iter(range(10))

        def dies(source, target, calls=calls, last=last):
            if next(calls) >= last:
                raise SystemExit
            rename(source, target)

        with monkeypatch.context() as patched:
            patched.setattr(places.os, "rename", dies)
            try:
                train(run, value=0.9, overwrite=True)
            except SystemExit:
                seen.add(tuple(sorted(path.name for path in run.parent.iterdir() if path.is_dir())))
        assert value(places.find(run.parent, "a")) == 0.9
        assert (run / "notes.txt").read_text() == "mine"
        assert [path.name for path in run.parent.iterdir() if path.is_dir()] == ["a"]
    assert len(seen) == 3  # before the first rename, between the two, and after the second one


def test_a_replacement_that_is_half_done_is_read_where_nothing_can_be_written(tmp_path, monkeypatch):
    run = tmp_path / "a"
    train(run, value=0.9)
    os.rename(run, places.beside(run, "new"))

    def refuses(*_):
        raise PermissionError(13, "denied", "x")

    monkeypatch.setattr(places, "training", refuses)
    assert value(places.find(tmp_path, "a")) == 0.9


def test_wrong_arguments_and_failures_leave_the_old_run(tmp_path):
    run = tmp_path / "a"
    train(run, value=0.1)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="labels"), Attempt(run, {}, overwrite=True):
        raise ValueError("labels")
    stopped(run, error=RuntimeError, overwrite=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert unfinished(run) == tmp_path / ".a.new"
    train(run, value=0.9, resume=True)
    assert value(run) == 0.9
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["a"]


def test_what_was_trained_is_not_thrown_away_unasked(tmp_path):
    run = tmp_path / "a"
    first = stopped(run)
    name = json.loads((run / places.MARK / "identity").read_text())["identity"]
    with pytest.raises(InputError, match="has not finished: go on with --resume a, or begin again with --overwrite"):
        train(run)
    assert first.is_file()
    assert train(run, resume=True).identity == name
    assert not first.parent.exists()
    with pytest.raises(InputError, match="holds a run already: choose another name, or overwrite it"):
        train(run)
    with pytest.raises(InputError, match="is a finished run, with nothing to resume"):
        train(run, resume=True)
    with pytest.raises(MissingFileError, match="holds no unfinished training that could be resumed"):
        train(tmp_path / "b", resume=True)
    stopped(tmp_path / "b", checkpoint=False)
    train(tmp_path / "b", value=0.3)  # there was nothing to lose
    assert value(tmp_path / "b") == 0.3


def test_a_replacement_that_was_given_up_is_never_resumed(tmp_path):
    run = tmp_path / "a"
    train(run)
    first = stopped(run, overwrite=True)
    places.remove(run)
    with pytest.raises(InputError, match="has not finished: go on with --resume a"):
        train(run)
    assert stopped(run, overwrite=True) != first
    assert not first.exists()
    train(run, resume=True)
    with pytest.raises(InputError, match="is a finished run"):
        train(run, resume=True)


def test_a_training_goes_on_with_its_own_settings_and_data(tmp_path):
    run = tmp_path / "a"
    first = stopped(run)
    with pytest.raises(InputError, match=r"the unfinished training .*a has other settings: begin again"):
        train(run, resume=True, settings={"format": 2, "training": {"epochs": 21}})
    with pytest.raises(InputError, match=r"the train split has changed since the training .*a was stopped"):
        train(run, resume=True, data={"train": "other"})
    assert first.is_file()
    train(run, resume=True)


def test_a_training_that_is_begun_again_stays_until_the_new_one_is_whole(tmp_path):
    run = tmp_path / "a"
    first = stopped(run)
    assert stopped(run, overwrite=True) != first
    assert first.is_file()
    train(run, value=0.7, overwrite=True)
    assert value(run) == 0.7
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["a"]


@pytest.mark.parametrize("content", [
    {"thesis.txt": "mine"}, {"run.json": "{}"}, {"run.json": "[]", "a.txt": ""}, {"run.json": "{", "a.txt": ""}, None,
])  # fmt: skip
def test_what_is_not_ours_is_never_overwritten(tmp_path, content):
    run = tmp_path / "a"
    if content is None:
        run.write_text("a file")
    else:
        run.mkdir()
    for name, text in (content or {}).items():
        (run / name).write_text(text)
    for options in ({}, {"overwrite": True}):
        with pytest.raises(InputError, match="a is neither a run nor an unfinished training, and is not overwritten"):
            train(run, **options)
    assert run.is_file() or {path.name: path.read_text() for path in run.iterdir()} == content


def test_an_empty_folder_and_damaged_runs_may_be_used(tmp_path):
    (tmp_path / "a").mkdir()
    train(tmp_path / "a")
    for name, damage in ((places.CARD, b"{"), (identity.PER_LIST, b"PK"), (identity.MODEL, b"")):
        (tmp_path / "a" / name).write_bytes(damage)
        with pytest.raises(InputError, match=rf"{name} is (damaged|not a run card)"):
            RunCard.load(tmp_path / "a")
        with pytest.raises(InputError, match="holds a run already"):
            train(tmp_path / "a")
        train(tmp_path / "a", overwrite=True, value=0.8)
        assert value(tmp_path / "a") == 0.8


@pytest.mark.parametrize("name", [places.CARD, identity.MODEL, identity.PER_LIST])
def test_files_of_two_trainings_are_no_run(tmp_path, name):
    for run in ("a", "b"):
        train(tmp_path / run)
    (tmp_path / "b" / name).replace(tmp_path / "a" / name)
    for run in ("a", "b"):
        with pytest.raises((InputError, MissingFileError),
                           match=r"is of another training|is missing|has not finished"):
            RunCard.load(tmp_path / run)


def test_two_trainings_of_one_name_do_not_meet(tmp_path):
    run = tmp_path / "a"
    with Attempt(run, {}) as first:
        first.begin()
        busy = rf"another process \({os.getpid()}\) works on the run {run}: wait until it has ended, or stop it"
        for options in ({}, {"overwrite": True}):
            with pytest.raises(InputError, match=busy):
                train(run, **options)
        with pytest.raises(InputError, match=busy):
            train(run, resume=True)
    train(run)


def test_a_disk_that_is_too_small_is_noticed_before_the_first_step(tmp_path):
    with pytest.raises(InputError, match=r"a needs at least .* MiB on the disk, where .* MiB are free"):  # noqa: SIM117
        with Attempt(tmp_path / "a", {}) as attempt:
            attempt.begin(2**62)
    assert not (tmp_path / "a").exists()


def test_a_folder_that_cannot_be_written_is_noticed_before_the_first_step(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotAFolderError, match="file is a file, not a folder for runs"):
        train(tmp_path / "file/a")
    with pytest.raises(OSError, match="/proc"):
        train(Path("/proc/runs/a"))


def test_ctrl_c_says_what_is_kept_and_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Stopped, match=r"^stopped; runs/a keeps the log and the checkpoints; go on with: tfmtl2r train "
                                      r"--resume a$"):
        stop(Path("runs/a"))
    with pytest.raises(Stopped, match="no checkpoint yet, so that the same command begins elsewhere/a again"):
        stop(Path("elsewhere/a"), checkpoint=False)


def test_an_unfinished_training_keeps_its_settings_and_plugins(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    plugin = tmp_path / "mine.py"
    plugin.write_text("x = 1\n")
    monkeypatch.setattr(plugins, "_LOADED", {})
    plugins.load(plugin)
    settings = Experiment("a", method="mgda", training={"epochs": 7}, data={"name": "synthetic_mslr"}).config()
    stopped(Path("runs/a"), settings=settings)
    assert Settings.of(settings_of(Path("runs/a"))) == Settings.of(settings)
    monkeypatch.setattr(plugins, "_LOADED", {})
    assert cli.main(["train", "--resume", "a"]) == 1
    assert "the unfinished training 'a' used the plug-in mine.py, which is not imported" in capsys.readouterr().err
    plugin.write_text("x = 2\n")
    assert cli.main(["train", "--resume", "a", "--plugins", "mine.py"]) == 1
    assert "file now has the hash" in capsys.readouterr().err
    plugin.write_text("x = 1\n")
    plugins.load(plugin)
    for place in ("runs", "runs/", "./runs"):
        found = _options.parse(COMMAND, ["--resume", "a", "--directory", place])[0]
        assert Settings.of(found) == Settings.of(settings)
    assert cli.main(["train", "--resume", "a", "--plugins", "mine.py", "--epochs", "9"]) == 1
    assert "--resume a goes on with the settings of that training: leave out all flags" in capsys.readouterr().err
    for arguments, message in ((["train", "--resume", "b"], "holds no unfinished training"),
                               (["train", "--resume", "a", "--like", "b"], "give only one of"),
                               (["train", "--resume", "../a"], "is not a name: expected NAME or SWEEP/NAME")):
        assert cli.main(arguments) == 1
        assert message in capsys.readouterr().err


def test_run_cards_are_strict_json(tmp_path):
    def refuse(text):
        raise AssertionError(text)

    card = RunCard("a", {}, history={"loss": [0.5, float("nan"), float("inf"), -np.inf]})
    card.results = {"test": {"click": {"ndcg@5": {"value": np.float32("nan"), "direction": "max"}}}}
    card.curve = [{"preference": [1.0], "test": {"click": {"ndcg@5": float("nan")}}}]
    path = card.save(tmp_path)
    json.loads(path.read_text(), parse_constant=refuse)
    again = RunCard.load(tmp_path)
    np.testing.assert_array_equal(again.history["loss"], [0.5, np.nan, np.inf, -np.inf])
    assert np.isnan(again.results["test"]["click"]["ndcg@5"]["value"])
    assert np.isnan(again.curve[0]["test"]["click"]["ndcg@5"])
    assert (again.curve[0]["preference"], again.step_ms) == ([1.0], None)
    path.write_text(path.read_text().replace("null,", "NaN,", 1))  # as earlier versions wrote it
    assert np.isnan(RunCard.load(tmp_path).history["loss"][1])


@pytest.mark.parametrize("name", [
    "../a", "/a", "s/../../a", "", ".a", "s//a", ".a.new", "..", "s\\..\\a", "C:a", "a\nb",
])  # fmt: skip
def test_names_never_leave_the_folder(tmp_path, name):
    train(tmp_path / "a")
    with pytest.raises(InputError, match="is not a name: expected NAME or SWEEP/NAME, a folder in"):
        places.find(tmp_path / "runs", name)


def test_experiment_files_are_whole(tmp_path, monkeypatch):
    path = tmp_path / files.FILE
    files.save({"format": 2, "name": "a"}, path)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match=str(path)):
        files.save({"format": 2, "name": "b"}, path)
    assert files.raw(path)["name"] == "a"
    assert [file.name for file in tmp_path.iterdir()] == [files.FILE]


def test_the_working_folder_itself_is_no_run_that_is_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert places.settled(Path(".")) == Path(".")
