"""Damaged files are an error in one line with the name of the file, however they are read."""

import gzip

import numpy as np
import pandas as pd
import pytest

from tfmtl2r import datasets
from tfmtl2r.data.chunks import chunks
from tfmtl2r.data.own_files import Reading, expanded
from tfmtl2r.errors import InputError

ROWS = "q,x,click\n" + "".join(f"{row // 4},{row * 0.5},{row % 2}\n" for row in range(4000))


def flipped(content, first, last):
    return content[:first] + bytes(255 - byte for byte in content[first:last]) + content[last:]


def parquet(tmp_path):
    path = tmp_path / "whole.parquet"
    pd.DataFrame({"q": np.arange(4000) // 4, "x": np.random.default_rng(0).random(4000), "click": 0}).to_parquet(path)
    content = path.read_bytes()
    path.unlink()
    return content


def written(tmp_path, name):
    """A damaged file of this name."""
    zipped = gzip.compress(ROWS.encode())
    latin = ROWS.replace("q,x", "q,caf\xe9").encode("latin-1")
    late = (ROWS + "1000,2,caf\xe9\n").encode("latin-1")
    content = {
        "not.csv.gz": b"q,x,click\n1,2,0\n", "cut.csv.gz": zipped[: len(zipped) // 2],
        "flipped.csv.gz": flipped(zipped, 200, 260), "latin.csv": latin, "latin.csv.gz": gzip.compress(latin),
        "late.csv": late, "utf16.csv": ROWS.encode("utf-16"), "empty.csv": b"", "empty.parquet": b"",
        "cut.parquet": parquet(tmp_path)[:3000], "flipped.parquet": flipped(parquet(tmp_path), 100, 160),
    }[name]
    (tmp_path / name).write_bytes(content)
    return str(tmp_path / name)


@pytest.mark.parametrize("name", [
    "not.csv.gz", "cut.csv.gz", "flipped.csv.gz", "latin.csv", "latin.csv.gz", "late.csv", "utf16.csv", "empty.csv",
    "empty.parquet", "cut.parquet", "flipped.parquet",
])
def test_a_damaged_file_is_named(tmp_path, name):
    path = written(tmp_path, name)
    goals = [{"name": "click", "kind": "binary"}]
    table = datasets.get("table", files=path, list_id="q", goals=goals)
    remedy = {"latin": "iconv -f LATIN1", "late": "line 4002 has the byte 0xe9", "utf16": "iconv -f UTF-16"}
    for read in (lambda: table.lists("train"), lambda: table.to_store(tmp_path / "store"),
                 lambda: list(chunks(expanded(path)[1], Reading(list_id="q")))):
        with pytest.raises(InputError, match=f"{name}: .*{remedy.get(name.partition('.')[0], '')}") as error:
            read()
        assert "\n" not in str(error.value)
    assert not (tmp_path / "store" / "manifest.json").exists()


def test_what_the_system_refuses_stays_its_error(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text(ROWS)

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tfmtl2r.data.chunks._csv", refuse)
    with pytest.raises(PermissionError):
        list(chunks([tmp_path / "a.csv"], Reading(list_id="q")))
