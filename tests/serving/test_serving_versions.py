"""Version folders: numbers go up, and a version is there completely or not at all."""

import os
import threading
import time

import pytest

from tfmtl2r.serving import versions
from tfmtl2r.serving.versions import newest, numbers, publish


def complete(folder):
    (folder / "saved_model.pb").write_bytes(b"")


def test_numbers_go_up(tmp_path):
    base = tmp_path / "deep" / "base"
    assert [publish(base, complete).name for _ in range(3)] == ["1", "2", "3"]
    assert numbers(base) == [1, 2, 3]
    assert newest(base) == base / "3"
    assert sorted(path.name for path in base.iterdir()) == ["1", "2", "3"]


def test_only_names_that_the_server_reads(tmp_path):
    for name in ("007", "12", "1.5", "v3", ".tmp-ab", "-4", "9" * 30, "²"):
        (tmp_path / name).mkdir()
    assert numbers(tmp_path) == [7, 12]
    assert publish(tmp_path, complete).name == "13"


def test_newest_skips_what_is_no_saved_model(tmp_path):
    publish(tmp_path, complete)
    (tmp_path / "2").mkdir()
    assert newest(tmp_path).name == "1"
    assert publish(tmp_path, complete).name == "3"


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no numbered version.*tfmtl2r\.export"):
        newest(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        newest(tmp_path / "absent")


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failing_write_leaves_nothing(tmp_path, error):
    publish(tmp_path, complete)

    def fails(folder):
        complete(folder)
        raise error

    with pytest.raises(type(error)):
        publish(tmp_path, fails)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_what_a_killed_export_left_is_removed(tmp_path):
    for name, age in ((".tmp-old", versions.ABANDONED + 60), (".tmp-new", 60)):
        (tmp_path / name / "variables").mkdir(parents=True)
        then = time.time() - age
        os.utime(tmp_path / name, (then, then))
    publish(tmp_path, complete)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tmp-new", "1"], "another may be at work right now"


def test_unfinished_versions_have_no_number(tmp_path):
    def write(folder):
        assert numbers(tmp_path) == []
        assert folder.parent == tmp_path
        complete(folder)

    publish(tmp_path, write)


def test_concurrent_exports_get_numbers_of_their_own(tmp_path):
    together = threading.Barrier(8)

    def write(folder):
        complete(folder)
        together.wait()  # all rename at the same moment

    threads = [threading.Thread(target=publish, args=(tmp_path, write)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers(tmp_path) == list(range(1, 9))
    assert len(list(tmp_path.iterdir())) == 8


def test_a_number_taken_in_between(tmp_path, monkeypatch):
    publish(tmp_path, complete)
    answers = iter([[], [1]])
    monkeypatch.setattr(versions, "numbers", lambda base: next(answers))
    assert publish(tmp_path, complete).name == "2"


def test_other_users_may_read_it(tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    assert publish(tmp_path / "base", complete).stat().st_mode == plain.stat().st_mode


def test_a_rename_that_fails_for_good(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "denied")

    monkeypatch.setattr(versions.os, "rename", refuse)
    with pytest.raises(PermissionError):
        publish(tmp_path, complete)
    assert not list(tmp_path.iterdir())


def test_wrong_places(tmp_path):
    version = publish(tmp_path, complete)
    with pytest.raises(ValueError, match="is a version of an export itself"):
        publish(version, complete)
    with pytest.raises(NotADirectoryError, match="is a file"):
        publish(version / "saved_model.pb", complete)
