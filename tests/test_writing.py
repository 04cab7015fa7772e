"""Every file that the package writes for a user is written whole or not at all, by one function."""

import ast
import errno
import os
from pathlib import Path

import pytest

import tfmtl2r
from tfmtl2r import writing
from tfmtl2r.writing import fault_of, one_line, remove_parts, write_json, write_text, written

ROOT = Path(tfmtl2r.__file__).parent
WRITES = ("write_text", "write_bytes", "savez", "savez_compressed", "savefig", "to_csv", "to_parquet", "replace",
          "TFRecordWriter", "ParquetWriter")  # fmt: skip
ELSEWHERE = {
    "writing.py": "the function itself",
    "runs/lock.py": "the number of a process, which a part of the file only misstates",
    "serving/export.py": "a version, which appears by the rename of its folder",
    "serving/warmup.py": "a version, which appears by the rename of its folder",
    "commands/client.py": "standard output",
    "data/sorted_by_ray.py": "the path that written() of data/sorted_rows.py gives",
}


def test_no_file_is_written_in_place():
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {id(call) for block in ast.walk(tree) if isinstance(block, ast.With) and _is_written(block)
                  for call in ast.walk(block)}
        found[path.relative_to(ROOT).as_posix()] = [
            call.lineno for call in ast.walk(tree)
            if isinstance(call, ast.Call) and _writes(call) and id(call) not in inside]
    assert {name for name, lines in found.items() if lines} == set(ELSEWHERE), found


def _is_written(block):
    return any(isinstance(item.context_expr, ast.Call) and getattr(item.context_expr.func, "id", "") == "written"
               for item in block.items)


def _writes(call):
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name == "open":
        modes = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        return any(set(mode) & set("wx+") and len(mode) < 4 for mode in modes)
    if name == "replace":  # of a text or a date, not of a file
        return isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "os"
    if name == "write_text":
        return isinstance(call.func, ast.Attribute)  # not the function of tfmtl2r.writing
    return name in WRITES


@pytest.mark.parametrize("error", [
    ValueError("a"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device"),
])  # fmt: skip
def test_a_file_stays_as_it_was_if_writing_fails(tmp_path, error):
    path = write_text(tmp_path / "deep/a.txt", "old")

    def fails():
        with written(path) as temporary:
            temporary.write_text("new, in part")
            raise error

    with pytest.raises(type(error)) as caught:
        fails()
    assert path.read_text() == "old"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]
    if isinstance(error, OSError):
        assert one_line(caught.value) == f"{path}: No space left on device"


def test_writers_at_the_same_time_do_not_meet(tmp_path):
    with written(tmp_path / "a.keras") as first, written(tmp_path / "a.keras") as second:
        first.write_text("1")
        second.write_text("2")
        assert (first.suffix, second.suffix) == (".keras", ".keras")
    assert (tmp_path / "a.keras").read_text() == "1"


def test_other_users_may_read_what_they_may_read_otherwise(tmp_path):
    (tmp_path / "plain").touch()
    assert write_text(tmp_path / "a", "").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_only_parts_are_removed(tmp_path):
    (tmp_path / "a.part").touch()
    (tmp_path / ".hidden").touch()
    (tmp_path / ".mine.partial").touch()

    def killed():
        with written(tmp_path / "a.txt") as temporary:
            temporary.touch()
            os.link(temporary, temporary.with_name(temporary.name.replace("a-", "b-")))
            raise SystemExit

    with pytest.raises(SystemExit):
        killed()
    assert len(list(tmp_path.iterdir())) == 4
    remove_parts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", ".mine.partial", "a.part"]


def test_a_filesystem_without_fsync_is_written_all_the_same(tmp_path, monkeypatch):
    def lacks(_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(writing.os, "fsync", lacks)
    assert write_json(tmp_path / "a.json", [1]).read_text() == "[\n  1\n]\n"


def test_only_errors_of_the_system_are_faults_of_the_system():
    assert fault_of(OSError("lost")) is None
    assert fault_of(ValueError("No space left on device")) is None
    assert fault_of(OSError(errno.EROFS, "x")) == errno.EROFS
    assert one_line(OSError("lost")) == "lost"


def test_standard_output_is_a_place_to_write_to(tmp_path):
    """A path of a pipe that has no name: its link leads nowhere."""
    read, write = os.pipe()
    write_json(f"/proc/self/fd/{write}", {"a": 1}, indent=None)
    os.close(write)
    with open(read) as pipe:
        assert pipe.read() == '{"a": 1}\n'


def test_links_devices_and_modes_stay_what_they_are(tmp_path):
    (tmp_path / "there").write_text("old")
    (tmp_path / "there").chmod(0o600)
    (tmp_path / "link").symlink_to(tmp_path / "there")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there").read_text() == "new"
    assert (tmp_path / "there").stat().st_mode & 0o777 == 0o600
    (tmp_path / "null").symlink_to("/dev/null")
    write_text(tmp_path / "null", "gone")
    write_text("/dev/null", "gone")
    assert Path("/dev/null").is_char_device()
