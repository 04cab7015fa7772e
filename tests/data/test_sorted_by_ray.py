"""Rows that a Ray cluster has sorted into lists are those that DuckDB has sorted, and so is a store of them."""

import datetime
import importlib.util
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from tests.data.test_sorted_rows import assert_same, frame, two_files
from tests.data.test_store import experiment, rows
from tfmtl2r import cli, cluster, datasets
from tfmtl2r.data import sorted_by_duckdb, sorted_by_ray
from tfmtl2r.data.sorted_rows import read_sorted
from tfmtl2r.data.table_files import TableFiles
from tfmtl2r.errors import InputError, MissingPackageError, WorkerError

pytest.importorskip("duckdb", reason="DuckDB is in the extra [store]")
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: tfmtl2r[cluster]")
DAY, NOW = datetime.date(2024, 2, 29), datetime.datetime(2024, 1, 1, 12)
IDS = {
    "text": [f"q{number}" if number else "ü, \"'" for number in (3, 0, 3, 1, 0, 2, 3, 1)],
    "integers": pyarrow.array([2**60 + 1, 2**60, 2**60 + 1, -1, 2**60, 0, -1, 7]),
    "floats": [0.5, -0.0, 0.5, 0.0, 7.0, -0.0, 7.0, 1e300],
    "dates": [DAY + datetime.timedelta(days=n) for n in (1, 0, 1, 0, -9999, 2, 2, 0)],
    "times": [NOW + datetime.timedelta(microseconds=n) for n in (1, 0, 1, 0, 3, 2, 2, 0)],
    "zoned": pyarrow.array([NOW + datetime.timedelta(hours=n) for n in (1, 0, 1, 0, 3, 2, 2, 0)],
                           pyarrow.timestamp("ns", "Europe/Berlin")),
    "categories": pyarrow.array(list("bacabcab")).dictionary_encode(),
    "decimals": pyarrow.array([Decimal(n) / 10 for n in (1, 0, 1, 0, 3, 2, 2, 0)], pyarrow.decimal128(9, 2)),
    "yes or no": [True, False, True, True, False, False, True, False],
}
CELLS = pyarrow.table({
    "list": [[1, 2], [], None, [3], [4, None], [5], [], [6]], "x": [0.5, None, float("nan"), -0.0, 1.0, 2.0, 3.0, 4.0],
    "nothing": pyarrow.nulls(8), "X": pyarrow.array([1, None, 3, 4, 5, 6, 7, 8], pyarrow.int16()),
    "vector": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(np.arange(16.0, dtype=np.float32)), 2),
    "text": ["", None, "a\nb", "ß", "x", "y", "z", "z"], "day": [None, *[DAY] * 7],
    "kind": pyarrow.array(["u", None, *"vuvuvu"]).dictionary_encode(),
    "pair": [{"a": n, "b": [str(n)]} for n in range(8)],
})


def sorted_here(files, list_id, to):
    """What Ray Data does with the functions of the sorter, by one process without Ray, in shuffled pieces."""
    own = None if list_id is None else files.own(list_id)
    pieces = [piece for number, path in enumerate(files.paths) for piece in sorted_by_ray._pieces(number, path)]
    blocks = [block for piece in pieces[::-1] for block in
              sorted_by_ray._read(files, own, 3, {name: np.array([value]) for name, value in piece.items()})]

    class Numbered:
        def map_batches(self, function, batch_size, batch_format):
            self.found = [row for block in blocks for row in function(block).to_pylist()]
            return self

        def take_all(self):
            return self.found

    counts = sorted_by_ray._counts(files, list_id, Numbered())
    table = pyarrow.concat_tables(blocks)
    if own is not None:
        parts = [table.filter(pyarrow.compute.equal(table["part"], part)) for part in range(3)]
        table = pyarrow.concat_tables([sorted_by_ray._with_first(own, part) for part in parts if len(part)])
    keys = ["row"] if own is None else ["first", "row"]
    order = np.lexsort([table[key].to_numpy() for key in keys[::-1]])
    table = table.take(pyarrow.array(order))
    blocks = [table.slice(start, 3) for start in range(0, len(table), 3)]
    sizes = sorted_by_ray.write(blocks, files, counts, to)
    return counts, None if own is None else sizes


def written(folder, ids):
    """Two files with the same rows twice, each in several row groups."""
    paths = [folder / "a.parquet", folder / "b.parquet"]
    for path in paths:
        pyarrow.parquet.write_table(CELLS.append_column("id", ids if isinstance(ids, pyarrow.Array) else [ids]), path,
                                    row_group_size=3)
    return TableFiles.of(paths)


def assert_sorted_alike(files, list_id, folder, sort):
    counts, sizes = sort(files, list_id, folder / "ray.parquet")
    expected, lists = sorted_by_duckdb.sort(files, list_id, folder / "duckdb.parquet")
    assert counts == expected
    assert (sizes is None) == (lists is None)
    if lists is not None:
        np.testing.assert_array_equal(sizes, lists)
    mine, other = (pyarrow.parquet.read_table(folder / f"{name}.parquet") for name in ("ray", "duckdb"))
    assert mine.schema == files.numbered
    for name in mine.column_names:
        assert repr(mine[name].to_pylist()) == repr(other[name].cast(mine[name].type).to_pylist()), name


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(sorted_by_ray, "_PIECE", 300)


@pytest.mark.parametrize("kind", [*IDS, None])
def test_the_rows_of_duckdb_without_ray(tmp_path, small, kind):
    files = written(tmp_path, IDS[kind or "text"])
    assert len([*sorted_by_ray._pieces(0, files.paths[0])]) > 1
    assert_sorted_alike(files, kind and "id", tmp_path, sorted_here)


@pytest.mark.parametrize("ids", [["a", None, "b", ""], [1.0, None, float("nan"), 2.0]])
def test_rows_without_a_list_are_told_with_their_place(tmp_path, small, ids):
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for path, column in zip(paths, ([ids[0]] * 4, ids), strict=True):
        pyarrow.parquet.write_table(pyarrow.table({"id": column}), path, row_group_size=1)
    files = TableFiles.of(paths)
    for sort in (sorted_here, sorted_by_duckdb.sort):
        with pytest.raises(InputError, match=r"'id' is missing in 2 of 8 rows, first in row 1 .*b.parquet: each row"):
            sort(files, "id", tmp_path / "sorted.parquet")


def test_a_file_that_cannot_be_read_is_told_in_one_line(tmp_path, small):
    files = written(tmp_path, IDS["text"])
    (tmp_path / "b.parquet").write_bytes((tmp_path / "b.parquet").read_bytes()[:-3])
    piece = {"path": np.array([str(files.paths[1])]), "row": np.array([1 << 40]), "groups": np.array([""])}
    [found] = sorted_by_ray._read(files, files.own("id"), 3, piece)
    assert found["error"].to_pylist()[0].startswith(f"{files.paths[1]}: cannot be read: ")
    files.paths[1].unlink()
    [found] = sorted_by_ray._read(files, files.own("id"), 3, piece)
    assert found["error"].to_pylist()[0].endswith("all of them must have it at this path")
    assert sorted_by_ray._about(None, found).to_pylist()[0]["error"] == found["error"].to_pylist()[0]


def test_blocks_out_of_order_are_an_error(tmp_path):
    files = written(tmp_path, IDS["text"])
    counts, _ = sorted_here(files, "id", tmp_path / "sorted.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "sorted.parquet").append_column("first", [[0] * 16])
    with pytest.raises(WorkerError, match="returned rows that are not sorted"):
        sorted_by_ray.write([table.slice(8), table.slice(0, 8)], files, counts, tmp_path / "wrong.parquet")


def test_what_a_cluster_does_not_sort_is_told_before_anything_begins(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.txt").write_text("1 qid:1 1:0.5\n0 qid:1 1:0.25\n")
    letor = datasets.get("table", files="log.txt", kind="letor", goals=[{"name": "grade", "label": "label"}])
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(InputError, match=r"kind letor hold whole lists .* leave --on ray out"):
        letor.to_store(tmp_path / "store", on="ray")
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)
    rows().to_parquet("log.parquet")
    data = experiment(tmp_path).dataset()
    with pytest.raises(MissingPackageError, match=r"prepare --on ray needs Ray: pip install 'tfmtl2r\[cluster\]'"):
        data.to_store(tmp_path / "store", on="ray")
    assert not (tmp_path / "store").exists()
    assert cli.main(["prepare", "log.parquet", "--on", "ray"]) == 1
    assert cli.main(["prepare", "e.toml", "--on", "ray"]) == 1
    assert "prepare experiment.toml [--to FOLDER [--shard-items N] [--on ray]]" in capsys.readouterr().err


@needs_ray
@pytest.mark.long
@pytest.mark.parametrize("kind", ["floats", "zoned", None])
def test_the_rows_of_duckdb(two_cpus, tmp_path, small, kind):
    assert_sorted_alike(written(tmp_path, IDS[kind or "text"]), kind and "id", tmp_path, sorted_by_ray.sort)


@needs_ray
@pytest.mark.long
@pytest.mark.parametrize("ending", ["parquet", "csv.gz"])
def test_the_lists_of_duckdb(two_cpus, tmp_path, ending):
    paths = two_files(tmp_path, ending)
    both = [read_sorted(paths, tmp_path / on, "Q", on=on) for on in ("ray", "local")]
    assert_same(*both)
    if ending == "parquet":
        frame().assign(Q=None).to_parquet(paths[1])
        with pytest.raises(InputError, match=r"'Q' is missing in 60 of 120 rows, first in row 0 .*1.parquet: each row"):
            read_sorted(paths, tmp_path / "other", "Q", on="ray")


@needs_ray
@pytest.mark.long
def test_the_store_of_duckdb_byte_for_byte(two_cpus, tmp_path, monkeypatch, small):
    monkeypatch.chdir(tmp_path)
    pd.DataFrame(rows()).to_parquet("log.parquet", row_group_size=100)
    (tmp_path / "e.toml").write_text(
        '[data]\nfiles = "log.parquet"\nlist_id = "q"\n[[tasks]]\nname = "click"\nkind = "binary"\n')
    for name, where in (("there", ["--on", "ray"]), ("here", [])):
        assert cli.main(["prepare", "e.toml", "--to", name, "--shard-items", "200", *where]) == 0
    here, there = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir() if path.is_file()}
                   for name in ("here", "there"))
    assert len(here) > 5
    assert there == here
