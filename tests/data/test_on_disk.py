"""LETOR files and records whose columns stay in files are the lists that are read into memory."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.data.test_elwc import random_lists, record, write
from tests.data.test_sorted_rows import assert_same
from tfmtl2r import datasets
from tfmtl2r.data import Lists, batches, lists, vectors
from tfmtl2r.data.contents import described
from tfmtl2r.data.elwc import write_elwc
from tfmtl2r.data.fit import fit_schema
from tfmtl2r.data.own_files import Reading
from tfmtl2r.data.store.digests import digests_of
from tfmtl2r.data.store.manifest import Manifest

GRADE = {"name": "grade", "label": "label"}


@pytest.fixture
def small_parts(monkeypatch):
    """Blocks of a few rows, and parts of a few lists."""
    monkeypatch.setattr(vectors, "BLOCK", 200)
    monkeypatch.setattr(vectors, "_READ", 1500)
    monkeypatch.setattr(lists, "_PART", 60)


def letor(path, first, rows, features=7, query="{}", comment="# docid = D{row} inc = {row}", ending="\n"):
    rng = np.random.default_rng(first)
    lines = []
    for row in range(rows):
        values = " ".join(f"{i}:{rng.normal():.3f}" for i in range(1, features + 1) if rng.random() < 0.8)
        lines.append(f"{rng.integers(0, 3)} qid:{query.format(first + row // 4)} {values} {comment.format(row=row)}")
    path.write_text(ending.join(lines))  # no line end behind the last row
    return path


def same_columns(one: Lists, other: Lists):
    """Like :func:`assert_same`, with vectors whose types are those of their first row."""
    assert list(one.columns) == list(other.columns)
    assert_same(*(Lists({**dict(found.stored.columns), **{name: found.column(name) for name in ("features",)
                                                          if name in found.columns}},
                        found.offsets, found.ids, found.context, found.list_id, found.source_rows, found.source)
                  for found in (one, other)))


@pytest.mark.parametrize("options", [
    {}, {"query": "0{}"}, {"comment": ""}, {"ending": "\r\n"}, {"comment": "# label = 3 docid = {row}"},
])
def test_letor_files_have_the_lists_of_memory(tmp_path, small_parts, options):
    paths = [letor(tmp_path / "a.txt", 0, 90, **options), letor(tmp_path / "b.txt", 500, 30, 5, **options)]
    for some in (paths, paths[:1]):
        reading = Reading("letor", named=("features[3]",))
        memory = reading.lists(some)
        found = reading.made(reading.read(some, tmp_path / f"work-{len(some)}"))
        assert isinstance(found.stored.columns["features"], vectors.Vectors)
        same_columns(found, memory)
        kept = np.arange(found.num_lists) % 3 != 1
        same_columns(found.select(kept), memory.select(kept))
        assert digests_of(found, tmp_path / "digests") == (memory.fingerprint(), memory.order())
        again = reading.made(reading.read(some, tmp_path / f"work-{len(some)}"))  # an earlier attempt stays
        same_columns(again, memory)


@pytest.mark.parametrize(("line", "message"), [
    (b"0 qid:90 1:x\n", r"a.txt:13: expected the value of feature 1 that is a number"),
    (b"0 qid:90 1:\x003\n", r"a.txt:13: expected the value of feature 1"),
    (b"0 qid:90 2:1 2:3\n", r"a.txt:13: feature id 2 comes twice"),
    (b"0 qid:90 2:1 1:3\n", r"a.txt:13: feature id 1 comes after 2"),
    (b"0 qid:0 1:1\n", r"a.txt:13: query 0 comes again after other queries; its first row is line 1"),
    (b"0 1:1\n", r"a.txt:13: expected qid:QUERY behind the label"),
    (b"1e40 qid:90 1:1\n", r"a.txt:13: a label is too large"),
])
def test_letor_files_have_the_errors_of_memory(tmp_path, line, message):
    path = letor(tmp_path / "a.txt", 0, 12, comment="")
    path.write_bytes(path.read_bytes() + b"\n" + line)
    said = []
    for work in (None, tmp_path / "work"):
        with pytest.raises(ValueError, match=message) as error:
            Reading("letor").read([path], work)
        said.append(str(error.value))
    assert said[0] == said[1]
    assert not [file for file in (tmp_path / "work").rglob("*") if file.is_file()]  # nothing half-written


def test_a_query_in_two_files_is_an_error(tmp_path):
    paths = [letor(tmp_path / name, 0, 8) for name in ("a.txt", "b.txt")]
    for work in (None, tmp_path / "work"):
        with pytest.raises(ValueError, match=r"a.txt and .*b.txt: both have the query 0; put its rows into one file"):
            Reading("letor").read(paths, work)


@pytest.mark.parametrize("zero_based", [False, True])
def test_a_store_of_letor_files_is_what_memory_gives(tmp_path, small_parts, zero_based):
    for split, first, rows, width in (("train", 0, 200, 6), ("vali", 300, 40, 5), ("test", 400, 40, 6)):
        letor(tmp_path / f"{split}.txt", first, rows, width)
    if zero_based:
        path = tmp_path / "vali.txt"
        path.write_text(path.read_text().replace(" 1:", " 0:2 1:", 1))
    memory = datasets.get("table", files=str(tmp_path), kind="letor", goals=[
        GRADE, {"name": "third", "label": "features[3]", "kind": "regression"}])
    memory.to_store(tmp_path / "store", shard_items=50)
    stored = datasets.get("store", files=str(tmp_path / "store"), goals=memory.goals)
    assert_like_memory(memory, stored, tmp_path / "store")


def assert_like_memory(memory, stored, folder):
    assert stored.schema() == memory.schema()
    content = Manifest.open(folder).content["splits"]
    for split in memory.splits:
        one, other = memory.lists(split), stored.lists(split)
        expected = {**described(one, memory.schema()), "order": one.order()}
        assert {key: content[split][key] for key in expected} == expected
        assert one.ids.tolist() == other.ids.tolist()
        assert one.sizes.tolist() == other.sizes.tolist()
        parts = [batches(lists, data.tasks(), data.schema(), batch_size=32)
                 for lists, data in ((one, memory), (other, stored))]
        for mine, theirs in zip(*parts, strict=True):
            for part in range(2):
                assert mine[part].keys() == theirs[part].keys()
                for name in mine[part]:
                    np.testing.assert_array_equal(mine[part][name], theirs[part][name], err_msg=name)


def records(path, lists):
    write_elwc(lists, path, list_id="query")
    return path


def test_records_have_the_lists_of_memory(tmp_path, small_parts):
    one, two = random_lists([3, 1, 40, 2] * 40), random_lists([2, 5], seed=1)
    two = Lists({**dict(two.stored.columns), "query": np.array(["x", "y"], object).repeat(two.sizes)}, two.offsets,
                np.array(["x", "y"], object), two.context, two.list_id)
    paths = [records(tmp_path / "a.tfrecord.gz", one), records(tmp_path / "b.tfrecord.gz", two)]
    reading = Reading("elwc", "query", named=("click", "vector[2]"))
    memory, found = reading.lists(paths), reading.made(reading.read(paths, tmp_path / "work"))
    same_of_records(found, memory, tmp_path)
    assert {name for name, column in found.stored.columns.items() if isinstance(column, vectors.Vectors)} == {
        "vector", "counts"}
    same_of_records(reading.made(reading.read(paths, tmp_path / "work")), memory, tmp_path)
    some = np.arange(found.num_lists) % 2 == 1
    same_of_records(found.select(some), memory.select(some), tmp_path)


def same_of_records(found, memory, tmp_path):
    whole = [Lists({name: column if not isinstance(column, vectors.Vectors) else column.values
                    for name, column in one.stored.columns.items()}, one.offsets, one.ids, one.context, one.list_id,
                   one.source_rows) for one in (found, memory)]
    assert_same(*whole)
    assert digests_of(found, tmp_path / "digests") == (memory.fingerprint(), memory.order())


def test_records_with_gaps_and_lists_have_the_lists_of_memory(tmp_path, small_parts):
    wanted = [
        record([{"n": [1, 2], "tags": ["a", "b"], "x": [0.5], "c": [7]}, {"x": [1.5]}],
               {"user": [4], "where": [1., 2.]}),
        record([{"tags": ["c"], "n": [3, 4], "x.y": [2]}] * 3, {"user": [2**60], "where": [3., 4.]}),
        record([{"x": [2.5], "n": [5, 6]}]),
    ]
    path = write(tmp_path / "a.tfrecord", *wanted)
    memory, found = (Reading("elwc", named=("x",)).read([path], work) for work in (None, tmp_path / "work"))
    same_of_records(found, memory, tmp_path)


@pytest.mark.parametrize("list_id", ["q", None])
def test_plain_examples_have_the_lists_of_memory(tmp_path, small_parts, list_id):
    from tfmtl2r._backend import tf

    def example(number):
        floats = tf.train.Feature(float_list=tf.train.FloatList(value=[number, number + 0.5]))
        ints = tf.train.Feature(int64_list=tf.train.Int64List(value=[number * 7 % 5]))
        return tf.train.Example(features=tf.train.Features(feature={"v": floats, "q": ints})).SerializeToString()

    path = write(tmp_path / "a.tfrecord", *map(example, range(70)))  # rows of a list do not lie together
    memory, found = (Reading("elwc", list_id).read([path], work) for work in (None, tmp_path / "work"))
    same_of_records(found, memory, tmp_path)


def test_damaged_records_have_the_errors_of_memory(tmp_path):
    path = write(tmp_path / "a.tfrecord", *[record([{"x": [1.0]}])] * 3, record([]))
    cut = tmp_path / "b.tfrecord"
    cut.write_bytes(path.read_bytes()[:-30])
    for file in (path, cut):
        said = []
        for work in (None, tmp_path / "work"):
            with pytest.raises(ValueError, match=rf"{file.name}: record \d .counted from 0.") as error:
                Reading("elwc").read([file], work)
            said.append(str(error.value))
        assert said[0] == said[1]
        assert not [one for one in (tmp_path / "work").rglob("*") if one.is_file()]


def test_a_store_of_records_is_what_memory_gives(tmp_path, small_parts):
    records(tmp_path / "log.tfrecord", random_lists([3, 1, 12, 2] * 20))
    goals = [{"name": "click", "kind": "binary"}, {"name": "dwell", "kind": "regression"}]
    memory = datasets.get("table", files=str(tmp_path / "log.tfrecord"), list_id="query", goals=goals)
    memory.to_store(tmp_path / "store", shard_items=50)
    stored = datasets.get("store", files=str(tmp_path / "store"), goals=goals)
    assert_like_memory(memory, stored, tmp_path / "store")


def test_wrong_vectors_are_counted_in_all_parts(tmp_path, small_parts):
    many = random_lists([3, 1, 12, 2] * 20)
    vector = many.column("vector")
    vector[[5, 60, 200], 1] = np.inf
    records(tmp_path / "log.tfrecord", many)
    data = datasets.get("table", files=str(tmp_path / "log.tfrecord"), goals=[{"name": "click", "kind": "binary"}])
    said = []
    for one in (data, data.on_disk(tmp_path / "work")):
        with pytest.raises(ValueError, match=r"feature 'vector' is infinite: inf in .* \(3 in all\)") as error:
            fit_schema(one._whole("files"), data.tasks(), ["vector"])
        said.append(str(error.value))
    assert said[0] == said[1]


def test_vectors_that_were_cut_are_refused(tmp_path):
    file = vectors.write_vectors(tmp_path / "v.bin", [np.ones((3, 2), np.float32)], 2)
    os.truncate(file.path, 8)
    with pytest.raises(ValueError, match=r"v.bin: the file is not as long as it was written"):
        vectors.VectorFile(file.path)


PREPARE = """
import re, sys
from pathlib import Path
from tfmtl2r import datasets
from tfmtl2r.layers.features import Lookup
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10
files, to = sys.argv[1:]
data = datasets.get("table", files=files, goals=[{"name": "grade", "label": "label"}])
before = peak()
print("begins", flush=True)
data.to_store(to, shard_items=5000)
print(before, peak())
"""


def prepare(files, to):
    return subprocess.Popen([sys.executable, "-c", PREPARE, str(files), str(to)], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of memory from /proc")
def test_the_peak_of_memory_is_below_that_of_the_parsed_rows(tmp_path):
    rows, width = 300_000, 150
    lines = [" ".join(f"{i}:{i % 7}.{number}" for i in range(1, width + 1)) for number in range(10)]
    with (tmp_path / "log.txt").open("w") as file:
        file.writelines(f"{row % 3} qid:{row // 20} {lines[row % 10]}\n" for row in range(rows))
    said = prepare(tmp_path / "log.txt", tmp_path / "store").communicate()[0].split()
    before, peak = int(said[-2]), int(said[-1])
    # In memory, the parsed parts and their matrix alone take twice 172 MB; a sample of 100,000 rows takes 57 MB.
    assert 4 * rows * width >> 20 == 171
    assert peak - before < 270, (before, peak)


@pytest.mark.slow
@pytest.mark.long
def test_a_killed_preparation_continues(tmp_path):
    letor(tmp_path / "log.txt", 0, 40_000, 30)
    whole = prepare(tmp_path / "log.txt", tmp_path / "whole")
    assert whole.communicate()[0]
    assert not whole.returncode
    for wait in (0.1, 0.5, 1.0, 2.0, 3.0):
        killed = prepare(tmp_path / "log.txt", tmp_path / "store")
        assert killed.stdout.readline() == "begins\n"
        time.sleep(wait)
        killed.kill()
        killed.communicate()
    last = prepare(tmp_path / "log.txt", tmp_path / "store")
    last.communicate()
    assert not last.returncode
    assert Manifest.open(tmp_path / "store").content == Manifest.open(tmp_path / "whole").content
