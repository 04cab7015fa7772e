"""Files at addresses are read like files of this machine, and only as a whole."""

import io
import sys

import pytest

from tfmtl2r import datasets, remote
from tfmtl2r.settings.files import load

fsspec = pytest.importorskip("fsspec", reason="fsspec is in the extra [store]")
GOAL = {"name": "click", "kind": "binary"}
ROWS = "list,x,click\n" + "".join(f"{row // 4},{row % 7},{row % 2}\n" for row in range(80))


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    remote.fetched.cache_clear()
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/logs", recursive=True)
    remote.fetched.cache_clear()


def put(system, name, text=ROWS):
    with system.open(f"/logs/{name}", "wb") as file:
        file.write(text.encode())


def test_files_in_memory_and_in_a_store(place, tmp_path):
    pytest.importorskip("duckdb", reason="DuckDB is in the extra [store]")
    put(place, "a.csv")
    put(place, "b.csv", ROWS.replace("\n1", "\n3"))
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_bytes(place.cat_file(f"/logs/{name}"))
    local = datasets.get("table", files=["a.csv", "b.csv"], list_id="list", goals=[GOAL])
    for files in ("memory://logs/*.csv", [f"file://{tmp_path}/a.csv", "memory://logs/b.csv"]):
        found = datasets.get("table", files=files, list_id="list", goals=[GOAL])
        assert [found.lists(split).fingerprint() for split in found.splits] == [
            local.lists(split).fingerprint() for split in local.splits]
    found.to_store(tmp_path / "store")
    stored = datasets.get("store", files=str(tmp_path / "store"), goals=[GOAL])
    assert stored.lists("train").fingerprint() == local.lists("train").fingerprint()


def test_what_ended_too_early_is_not_trusted(place, monkeypatch):
    put(place, "a.csv")
    with monkeypatch.context() as patch:
        patch.setattr(type(place), "_open", lambda *args, **kwargs: io.BytesIO(ROWS[:100].encode()))
        with pytest.raises(ValueError, match=rf"/logs/a.csv ended after 100 of {len(ROWS)} bytes: run"):
            remote.fetched("memory://logs/a.csv")
    assert not [path for path in remote.CACHE.rglob("*") if path.is_file()]
    [path] = remote.fetched("memory://logs/a.csv")
    assert path.read_text() == ROWS


def test_a_file_is_fetched_once_and_again_if_it_has_changed(place, monkeypatch):
    put(place, "a.csv")
    first = remote.fetched("memory://logs/a.csv")
    remote.fetched.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(type(place), "_open", None)
        assert remote.fetched("memory://logs/a.csv") == first
    remote.fetched.cache_clear()
    put(place, "a.csv", ROWS[:-10])
    [path] = remote.fetched("memory://logs/a.csv")
    assert path.read_text() == ROWS[:-10]
    assert first[0].read_text() == ROWS


@pytest.mark.parametrize(("files", "kind", "message"), [
    ("memory://logs/none.csv", FileNotFoundError, "memory://logs/none.csv: there is no such file"),
    ("memory://logs/*.none", FileNotFoundError, "no file matches this pattern"),
    ("memory://logs", ValueError, r"is a folder: give its files by a pattern, such as memory://logs/\*.parquet"),
    ("nowhere://logs/a.csv", ValueError, "nowhere://logs/a.csv: fsspec does not know this address"),
])
def test_what_cannot_be_fetched(place, files, kind, message):
    put(place, "a.csv")
    with pytest.raises(kind, match=message):
        remote.fetched(files)


@pytest.mark.parametrize(("missing", "message"), [
    ("fsspec", r"s3://b/a.csv: files that lie elsewhere need fsspec: pip install 'tfmtl2r\[store\]'"),
    ("s3fs", "s3://b/a.csv: fsspec lacks the driver of this address: Install s3fs"),
])
def test_what_is_not_installed(place, monkeypatch, missing, message):
    put(place, "a.csv")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=message):
        remote.fetched("s3://b/a.csv")


def test_an_address_in_an_experiment_file_stays(place, tmp_path):
    put(place, "a.csv")
    (tmp_path / "e.toml").write_text('[data]\nfiles = ["memory://logs/a.csv", "b.csv"]\nlist_id = "list"\n'
                                     '[[tasks]]\nname = "click"\nkind = "binary"\n')
    assert list(load(tmp_path / "e.toml")["data"]["files"]) == ["memory://logs/a.csv", str(tmp_path / "b.csv")]
