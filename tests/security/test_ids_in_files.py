"""No file that a command writes contains a value of a feature with ``hash``: every file is searched."""

import gzip
import struct
import zipfile

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from tfmtl2r import cli

pytestmark = pytest.mark.slow
FIRST_VIDEO = 7_123_456_010
COLUMNS = ("user", "video", "query", "place", "tags", "seen", "history", "action")
EXPERIMENT = """
name = "a"
evaluation.by = ["user", "video", "place", "new:user"]
calibration = {{ kind = "platt", by = ["place"] }}
training = {{ epochs = 1, telemetry_every = 1 }}
architecture = {{ name = "shared_bottom", units = [4] }}
tasks = [{{ name = "y", kind = "binary" }}, {{ name = "z", kind = "graded" }}]

[data]
train = "log.parquet"
vali = "log.parquet"
test = "log.parquet"
list_id = "user"

[[features]]
name = ["user", "video"]
kind = "category"
hash = {hashed}
[[features]]
name = "query"
kind = "text"
hash_buckets = 50
hash = {hashed}
[[features]]
name = "place"
hash_buckets = 20
hash = {hashed}
[[features]]
name = "tags"
kind = "bag"
hash = {hashed}
[[features]]
name = "seen"
kind = "sequence"
shares = "video"
[[features]]
name = "history"
kind = "sequence"
hash = {hashed}
side = ["action"]
[[features]]
name = "price"
"""


def texts(column, count):
    return [f"secret-{column}-{number}" for number in range(count)]


def rows(count=60):
    """Ids of every kind: texts and integers, one or several per row, with side columns."""
    rng = np.random.default_rng(0)
    videos = np.arange(FIRST_VIDEO, FIRST_VIDEO + 20)

    def some(values, size=2):
        return [rng.choice(values, size).tolist() for _ in range(count)]

    return pd.DataFrame({
        "user": np.repeat(texts("user", count // 4), 4), "video": rng.choice(videos, count),
        "query": rng.choice(texts("query", 5), count), "place": rng.choice(texts("place", 3), count),
        "tags": some(texts("tags", 6)), "seen": some(videos, 3), "history": some(texts("history", 6)),
        "action": some(texts("action", 3)), "price": rng.random(count), "y": rng.integers(0, 2, count),
        "z": rng.integers(0, 4, count)})


def spellings(value):
    """The bytes of a value in files: text, numpy's text, and for integers their binary forms and protobuf's."""
    found = {str(value).encode(), str(value).encode("utf-32-le")}
    if isinstance(value, int):
        found |= {struct.pack(form, value) for form in ("<q", ">q", "<d")}
        parts = [(value >> 7 * place) & 127 for place in range(-(-value.bit_length() // 7))]
        found.add(bytes([part | 128 for part in parts[:-1]] + parts[-1:]))
    return found


def contents(folder):
    """Every file below a folder, and every file inside of these: name and bytes."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        yield str(path), whole
        if whole[:2] == b"\x1f\x8b":
            yield f"{path} unpacked", gzip.decompress(whole)
        if whole[:4] == b"PAR1":
            yield f"{path} as text", pyarrow.parquet.read_table(path).to_pandas().to_json().encode()
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as inside:
                yield from ((f"{path}/{name}", inside.read(name)) for name in inside.namelist())


def where(folder, frame):
    """column -> the files that contain one of its values."""
    found = {}
    for column in COLUMNS:
        values = {*frame[column].explode().tolist()}
        forms = {form for value in values for form in spellings(value)}
        found[column] = {name for name, content in contents(folder) if any(form in content for form in forms)}
    return found


def written(tmp_path, monkeypatch, hashed):
    """Everything that the commands write about some rows, in a folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    frame = rows()
    (folder / "e.toml").write_text(EXPERIMENT.format(hashed=hashed))
    frame.to_parquet(folder / "log.parquet")
    for arguments in (["prepare", "e.toml", "--to", "store"], ["train", "e.toml"], ["evaluate", "a", "--by", "video"],
                      ["export", "a"], ["report", "runs"]):
        assert cli.main(arguments) == 0, arguments
    (folder / "log.parquet").unlink()
    return folder, frame


def test_hashed_ids_are_in_no_file(tmp_path, monkeypatch):
    folder, frame = written(tmp_path, monkeypatch, "true")
    assert where(folder, frame) == {column: set() for column in COLUMNS}
    names = "".join(name for name, _ in contents(folder))
    for part in ("model.keras/config.json", "run.json", "log.txt", "per_list.npz/", "events.out", "saved_model.pb",
                 "tf_serving_warmup_requests", "README.md", "report.html", "train-ids.npy", "manifest.json"):
        assert part in names, part


@pytest.mark.long
def test_the_search_finds_other_ids(tmp_path, monkeypatch):
    folder, frame = written(tmp_path, monkeypatch, "false")
    found = where(folder, frame)
    assert all(found.values()), found
    assert {name for name in found["user"] if name.endswith("/config.json")}
    assert [name for name in found["query"] if name.endswith("tf_serving_warmup_requests")]
    assert [name for name in found["user"] if name.endswith("train-ids.npy")]


@pytest.mark.parametrize("ending", ["txt", "txt.gz"])
def test_hashed_ids_of_letor_files_are_not_in_their_store(tmp_path, monkeypatch, ending):
    monkeypatch.chdir(tmp_path)
    lines = [f"{row % 3} qid:{77_000 + row // 4} 1:{row} # user = secret-{row % 13}\n" for row in range(120)]
    whole = "".join(lines).encode()
    (tmp_path / f"log.{ending}").write_bytes(gzip.compress(whole) if ending.endswith("gz") else whole)
    found = []
    for hashed in ("true", "false"):
        (tmp_path / "e.toml").write_text(
            f'tasks = [{{name = "grade", label = "label"}}]\ndata = {{files = "log.{ending}"}}\n'
            f'features = [{{name = "user", kind = "category", hash = {hashed}}}, {{name = "features"}}]\n')
        assert cli.main(["prepare", "e.toml", "--to", f"store-{hashed}"]) == 0
        found.append([name for name, content in contents(tmp_path / f"store-{hashed}") if b"secret-" in content])
    assert not found[0]
    assert found[1]
