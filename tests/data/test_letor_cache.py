"""The parsed form of LETOR files: trusted only when it is complete and belongs to the content."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pyarrow.parquet
import pytest

from tfmtl2r import cli
from tfmtl2r.data import letor_cache, letor_stream
from tfmtl2r.data.letor import LetorError, LetorOptions, prepare_letor, read_letor, read_letor_with_report

ROWS = "".join(f"{i % 3} qid:{i // 5} 1:{i} 2:{i * 0.5} 4:1 # k = {i}\n" for i in range(100))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "rows.txt"
    path.write_text(ROWS)
    return path


def read(path, cache, **options):
    return read_letor_with_report(path, LetorOptions(zero_based=False, **options), cache)


def test_second_read_comes_from_the_cache(path, tmp_path, monkeypatch):
    fresh, report = read(path, tmp_path / "c")
    assert not report.from_cache
    monkeypatch.setattr(letor_stream, "read_block", None)
    again, report = read(path, tmp_path / "c")
    assert report.from_cache
    assert again.fingerprint() == fresh.fingerprint() == read_letor(path, cache_dir=tmp_path / "c",
                                                                    zero_based=False).fingerprint()


@pytest.mark.parametrize("options", [
    {"sort": True}, {"comments": True}, {"num_features": 7}, {"on_error": "skip"}, {"zero_based": True}])
def test_options_are_part_of_the_key(path, tmp_path, options):
    read(path, tmp_path / "c")
    given = LetorOptions(**{"zero_based": False, **options})
    lists, report = read_letor_with_report(path, given, tmp_path / "c")
    assert not report.from_cache
    plain, _ = read_letor_with_report(path, given)
    assert lists.fingerprint() == plain.fingerprint()


def test_changed_content_is_parsed_again_and_a_copy_is_not(path, tmp_path):
    read(path, tmp_path / "c")
    stat = path.stat()
    path.write_text(ROWS.replace("4:1", "4:2"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    lists, report = read(path, tmp_path / "c")
    assert not report.from_cache
    assert lists.columns["features"][0, 3] == 2
    copy = tmp_path / "copy.txt"
    copy.write_bytes(path.read_bytes())
    assert read(copy, tmp_path / "c")[1].from_cache


def test_group_file_is_part_of_the_key(tmp_path):
    rows, group = tmp_path / "rows.txt", tmp_path / "rows.query"
    rows.write_text("1 1:1\n0 1:2\n")
    for text, sizes in (("2\n", [2]), ("1\n1\n", [1, 1])):
        group.write_text(text)
        lists, report = read(rows, tmp_path / "c", group=str(group))
        assert lists.sizes.tolist() == sizes
        assert not report.from_cache


@pytest.mark.parametrize("error", [KeyboardInterrupt, LetorError])
def test_interrupted_parse_leaves_nothing(path, tmp_path, monkeypatch, error):
    monkeypatch.setattr(letor_stream, "CHUNK", 300)
    monkeypatch.setattr(letor_cache, "ROW_GROUP", 64)
    real, calls = letor_stream.read_block, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise error("stop")
        return real(*arguments)

    monkeypatch.setattr(letor_stream, "read_block", interrupted)
    with pytest.raises(error):
        prepare_letor(path, tmp_path / "c")
    assert len(calls) == 4
    assert list((tmp_path / "c").iterdir()) == []
    monkeypatch.setattr(letor_stream, "read_block", real)
    assert not read(path, tmp_path / "c")[1].from_cache


def test_half_written_file_of_a_killed_process_is_not_read(path, tmp_path):
    target = prepare_letor(path, tmp_path / "c", LetorOptions(zero_based=False))
    content = target.read_bytes()
    target.rename(target.with_name(f".{target.stem}-0.tmp"))
    assert not read(path, tmp_path / "c")[1].from_cache
    assert target.read_bytes()[:4] == content[:4]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "foreign"])
def test_damaged_cache_is_noticed(path, tmp_path, caplog, damage):
    fresh, report = read(path, tmp_path / "c")
    with open(report.cache_file, "rb") as file:
        content = bytearray(file.read())
    if damage == "flip":
        content[len(content) // 3] ^= 0x10
    with open(report.cache_file, "wb") as file:
        file.write({"cut": content[:-40], "flip": content, "empty": b"", "foreign": content}[damage])
    if damage == "foreign":
        pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), report.cache_file)
    with caplog.at_level(logging.WARNING, "tfmtl2r"):
        again, report = read(path, tmp_path / "c")
    assert "the cache file is damaged" in caplog.text
    assert not report.from_cache
    assert again.fingerprint() == fresh.fingerprint()
    assert read(path, tmp_path / "c")[1].from_cache


def test_every_flipped_byte_is_noticed(path, tmp_path):
    _, report = read(path, tmp_path / "c")
    file = Path(report.cache_file)
    content = file.read_bytes()
    for position in range(0, len(content), 23):
        file.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1:])
        assert letor_cache.read(file) is None
    file.write_bytes(content)
    assert letor_cache.read(file) is not None


def test_rows_without_their_checksum_are_not_trusted(path, tmp_path):
    _, report = read(path, tmp_path / "c")
    letor_cache.checksum_file(Path(report.cache_file)).unlink()
    assert not read(path, tmp_path / "c")[1].from_cache
    assert read(path, tmp_path / "c")[1].from_cache


def test_a_file_that_changes_while_it_is_read(path, tmp_path, monkeypatch):
    real = letor_stream.read_block

    def changing(*arguments):
        path.write_text(ROWS + "1 qid:99 1:1\n")
        return real(*arguments)

    monkeypatch.setattr(letor_stream, "read_block", changing)
    with pytest.raises(LetorError, match="the file changed while it was read"):
        read(path, tmp_path / "c")
    assert list((tmp_path / "c").iterdir()) == []


def test_problems_are_remembered(path, tmp_path, caplog):
    path.write_text(ROWS + "x qid:99 1:1\n")
    for cached in (False, True):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "tfmtl2r"):
            _, report = read(path, tmp_path / "c", on_error="skip")
        assert (report.from_cache, report.skipped) == (cached, 1)
        assert "left out 1 of 101 rows" in caplog.text


def test_prepare_command(path, tmp_path, capsys):
    path.write_text(ROWS + "x qid:99 1:1\n")
    arguments = ["prepare", str(path), "--cache-dir", str(tmp_path / "c")]
    assert cli.main(arguments) == 1
    assert f"{path}:101: expected a label that is a number, got 'x'" in capsys.readouterr().err
    for again in ("parsed form: ", "parsed form, from an earlier run: "):
        assert cli.main([*arguments, "--on-error", "skip"]) == 0
        out = capsys.readouterr().out
        assert f"{path}: 100 rows, 20 lists, 4 features" in out
        assert again in out
        assert "left out 1 malformed rows:" in out
        assert "label: 0: 34, 1: 33, 2: 33; missing: 0" in out
        assert "constant features: features[3], features[4]" in out
    assert cli.main([*arguments, "--group", "a", "b"]) == 1
    assert "2 group files were given for 1 files" in capsys.readouterr().err
    assert cli.main(["prepare", str(tmp_path / "missing.txt")]) == 1
    assert "there is no such file or folder" in capsys.readouterr().err
