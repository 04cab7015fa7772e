"""Disks that are full or cannot be written, neighbours that are damaged, and Ctrl-C: one line, and nothing is lost."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_attempt import stopped, train

from tfmtl2r import cli
from tfmtl2r._backend import tf
from tfmtl2r.commands import list as command
from tfmtl2r.runs import identity, places
from tfmtl2r.runs.card import RunCard
from tfmtl2r.runs.finished import load_all
from tfmtl2r.sweeps import manifest

FLAGS = ["--data", "synthetic_mslr", "--data.num-lists", "12", "--data.max-length", "6", "--data.num-tasks", "2",
         "--data.num-features", "4", "--architecture.units", "4", "--epochs", "1", "--telemetry-every", "0"]


def content(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".pid", ".lock")]
    return {path: path.read_bytes() for path in files}


@pytest.fixture
def fails(monkeypatch):
    """Every file that is written from now on fails, as on a full disk or in a folder that is read-only."""
    def fail(fault):
        def fsync(descriptor):
            raise OSError(fault, os.strerror(fault))

        monkeypatch.setattr(os, "fsync", fsync)

    return fail


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("arguments", [
    ["train", "--name", "a", "--overwrite", *FLAGS], ["train", "--name", "b", *FLAGS], ["init", "new"],
    ["report", "runs"],
])  # fmt: skip
def test_a_disk_that_takes_nothing_is_one_line_with_the_path(trained, fails, capsys, arguments, fault):
    before = content(trained / "runs")
    fails(fault)
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"tfmtl2r {arguments[0]}: ")
    assert error.endswith(f": {os.strerror(fault)}\n")
    assert error.count("\n") == 1
    assert "/" in error
    after = content(trained / "runs")
    assert {path: after[path] for path in before} == before
    assert not any(trained.rglob("*.part*"))


@pytest.mark.slow
def test_an_export_that_fails_leaves_the_earlier_versions(trained, fails, capsys):
    (trained / "saved_models/a/1").mkdir(parents=True)
    fails(errno.ENOSPC)
    assert cli.main(["export", "a"]) == 1
    assert capsys.readouterr().err.endswith("tfmtl2r export: saved_models/a: No space left on device\n")
    assert [path.name for path in (trained / "saved_models/a").iterdir()] == ["1"]


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS])
def test_commands_that_read_print_all_the_same(trained, fails, capsys, fault):
    before = content(trained / "runs")
    fails(fault)
    assert cli.main(["evaluate", "a"]) == 0
    told = capsys.readouterr()
    assert "task_1" in told.out
    assert told.err.endswith(f"per_list.npz: {os.strerror(fault)}\n")
    assert "the result is printed and not kept: " in told.err
    assert cli.main(["compare", "a"]) == 0
    assert content(trained / "runs") == before


def test_a_folder_without_permission_to_write_is_read(trained, monkeypatch, capsys):
    """Not even a lock can be made, and a replacement was interrupted between its renames."""
    os.rename(trained / "runs/a", trained / "runs/.a.new")

    def refuse(path, *_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(places, "locked", refuse)
    before = content(trained / "runs")
    for arguments in (["evaluate", "a"], ["compare", "a"]):
        assert cli.main(arguments) == 0
        assert "task_1" in capsys.readouterr().out
    assert content(trained / "runs") == before
    assert cli.main(["train", "--name", "b", *FLAGS]) == 1
    assert capsys.readouterr().err == "tfmtl2r train: runs/.b.lock: Permission denied\n"


def test_an_evaluation_does_not_wait_for_a_training(trained, capsys):
    with places.training(trained / "runs/a"):
        assert cli.main(["evaluate", "a"]) == 0
    assert f"not kept: another process ({os.getpid()}) works on the run runs/a" in capsys.readouterr().err


@pytest.mark.parametrize("error", [
    tf.errors.ResourceExhaustedError(None, None, "logs/events.1; No space left on device"),
    OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')"),
    OSError(errno.ENOSPC, "No space left on device", "a/b"), PermissionError(errno.EACCES, "Permission denied", "a/b"),
    IsADirectoryError(errno.EISDIR, "Is a directory", "a/b"), BrokenPipeError(errno.EPIPE, "Broken pipe"),
])  # fmt: skip
def test_errors_of_the_operating_system_are_one_line(monkeypatch, capsys, error):
    def main(arguments):
        raise error

    monkeypatch.setattr(command, "main", main)
    assert cli.main(["list"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(type(error)):
        cli.main(["list", "--traceback"])


@pytest.mark.parametrize("error", [
    OSError("lost"), tf.errors.InvalidArgumentError(None, None, "shapes"), KeyError("x"),
])  # fmt: skip
def test_faults_of_the_program_are_no_faults_of_the_disk(monkeypatch, error):
    def main(arguments):
        raise error

    monkeypatch.setattr(command, "main", main)
    with pytest.raises(type(error)):
        cli.main(["list"])


def test_ctrl_c_is_one_line_and_its_own_exit_code(monkeypatch, capsys):
    def main(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "main", main)
    assert cli.main(["list"]) == 130
    assert capsys.readouterr().err == ("tfmtl2r list: stopped; files that were complete are kept, and no file is half "
                                       "written\n")


@pytest.mark.parametrize(("flags", "message"), [
    (["--tasks", "nothing"], "has no task 'nothing'"), (["--data.num-lists", "0"], ""),
    (["--batch-size", "0"], "batch_size"),
    (["--method", "mgda", "--preference", "task_1=1", "task_2=2"], "no preference"),
])  # fmt: skip
def test_overwriting_with_wrong_arguments_leaves_the_run(trained, capsys, flags, message):
    before = content(trained)
    assert cli.main(["train", "--name", "a", "--overwrite", *FLAGS, *flags]) == 1
    assert message in capsys.readouterr().err
    assert content(trained) == before


def test_a_training_does_not_go_on_where_nothing_can_be_written(tmp_path, fails):
    first = stopped(tmp_path / "a")
    fails(errno.EROFS)
    with pytest.raises(OSError, match=r"Read-only file system: .*identity"):
        train(tmp_path / "a", resume=True)
    assert first.is_file()


@pytest.fixture
def several(tmp_path, monkeypatch):
    """Two runs, and beside them whatever may go wrong with a third."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "damaged", "mixed", "lists", "no_model"):
        train(tmp_path / "runs/s" / name)
    runs = tmp_path / "runs/s"
    (runs / "damaged" / places.CARD).write_text("{")
    shutil.copy(runs / "a" / identity.MODEL, runs / "mixed")
    (runs / "lists" / identity.PER_LIST).write_bytes(b"PK")
    (runs / "no_model" / identity.MODEL).unlink()
    stopped(runs / "attempt")
    (runs / "other").mkdir()
    (runs / "notes.txt").touch()
    return runs


def test_damaged_neighbours_are_left_out_with_a_line_each(several, caplog):
    assert [run.card.name for run in load_all(several)] == ["a", "b"]
    assert sorted(line.split("/s/")[1].split(" ")[0] for line in caplog.messages) == [
        "attempt", "damaged/run.json", "lists/per_list.npz", "mixed/model.keras", "no_model/model.keras"]
    assert all(line.startswith("left out: ") and "\n" not in line for line in caplog.messages)
    for name in ("attempt", "damaged", "lists", "mixed", "no_model"):
        with pytest.raises((ValueError, FileNotFoundError)):
            load_all(several / name)


def test_commands_over_several_runs_go_on(trained, capsys, caplog):
    sweep = trained / "runs/s"
    for name in ("a", "b", "damaged"):
        shutil.copytree(trained / "runs/a", sweep / name)
    stopped(sweep / "attempt")
    (sweep / "damaged" / places.CARD).write_text('{"format": 2}')
    for arguments in (["compare", "s"], ["report", "runs/s"], ["pareto", "s"], ["compare", "s/a", "s/b"]):
        caplog.clear()
        assert cli.main(arguments) == 0, capsys.readouterr().err
        assert len(caplog.messages) in (2, 4), arguments
        assert all(line.startswith("left out: runs/s/") for line in caplog.messages)
    json.loads((sweep / "pareto/test/pareto.json").read_text())


@pytest.mark.parametrize("arguments", [["compare", "s"], ["pareto", "s"], ["report", "runs/s"]])
def test_a_sweep_without_a_finished_run_is_one_line(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    manifest.write(Path("runs/s"), [{"name": "a"}], 1)
    stopped(Path("runs/s/a"))
    assert cli.main(arguments) == 1
    assert "runs/s contains no finished run" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "[]", '{"runs": 3}', '{"runs": [{}]}', '{"format": 2}'])
def test_a_damaged_plan_of_a_sweep_is_one_line(tmp_path, text):
    (tmp_path / manifest.FILE).write_text(text)
    with pytest.raises(ValueError, match=r"sweep.json is damaged \(.*\): restore it"):
        manifest.read(tmp_path)


@pytest.mark.parametrize("arguments", [
    ["evaluate", "../a"], ["export", "../a"], ["compare", "a", "../a"], ["compare", "a", "--single", "../a"],
    ["pareto", "../a"], ["pareto", "export", "../a"], ["serve", "../a"], ["client", "../a", "x.csv"],
    ["train", "--like", "../a"], ["train", "--resume", "../a"], ["train", "--name", "../a"], ["sweep", "../a"],
    ["evaluate", "/etc"], ["export", ""], ["evaluate", ".a.new"],
])  # fmt: skip
def test_names_never_leave_the_folder_in_any_command(trained, capsys, arguments):
    shutil.copytree("runs/a", "a")
    before = content(trained)
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "name" in error
    assert content(trained) == before


@pytest.mark.slow
def test_only_the_last_writer_of_two_evaluations_loses_nothing(trained, monkeypatch):
    """A split that another process adds between reading and writing stays."""
    from tfmtl2r.evaluation import scoring

    score = scoring.score

    def meanwhile(*arguments):
        monkeypatch.setattr(scoring, "score", score)
        assert cli.main(["evaluate", "a", "--split", "train"]) == 0
        return score(*arguments)

    monkeypatch.setattr(scoring, "score", meanwhile)
    assert cli.main(["evaluate", "a", "--split", "vali"]) == 0
    assert list(RunCard.load("runs/a").results) == ["test", "train", "vali"]
    with np.load("runs/a/per_list.npz") as arrays:
        assert {key.split("/")[0] for key in arrays} >= {"test", "train", "vali"}


@pytest.mark.slow
def test_an_evaluation_of_a_run_that_is_replaced_meanwhile_is_not_mixed_in(trained, monkeypatch, capsys):
    from tfmtl2r.evaluation import scoring

    score = scoring.score

    def meanwhile(*arguments):
        train(Path("runs/a"), overwrite=True)
        return score(*arguments)

    monkeypatch.setattr(scoring, "score", meanwhile)
    assert cli.main(["evaluate", "a"]) == 1
    assert "runs/a was replaced by another training" in capsys.readouterr().err
    assert RunCard.load("runs/a").config == {"name": "a"}
