"""Sorts the rows of tables into lists with DuckDB, which spills to the disk what does not fit into its memory."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow

from tfmtl2r.data.damage import as_raised
from tfmtl2r.data.table_files import ROW, TableFiles, plain_type
from tfmtl2r.errors import MissingPackageError

MEMORY = "1GB"
"""The memory in which DuckDB sorts; more goes to the disk."""


def sort(files: TableFiles, list_id: str | None, to: Path) -> tuple[list[int], np.ndarray | None]:
    """Writes the rows of files, list by list, as a Parquet file. Lists have the order of their first rows.

    Args:
        files: the files.
        list_id: the column with the ids of the lists; None keeps the order of the rows.
        to: the file to write. A file of DuckDB is beside it for a while.

    Returns:
        The number of rows of each file, and of each list.

    Raises:
        ValueError: for a malformed or empty file, or rows without an id.
        ImportError: without DuckDB.
    """
    duckdb = _duckdb()
    base_file = to.parent / "rows.duckdb"
    base_file.unlink(missing_ok=True)
    counts: list[int] = []
    sizes = None
    with contextlib.ExitStack() as after:
        after.callback(shutil.rmtree, f"{base_file}.tmp", ignore_errors=True)
        base = after.enter_context(duckdb.connect(str(base_file)))
        base.execute(f"SET memory_limit = '{MEMORY}'; SET preserve_insertion_order = false")
        with as_raised(duckdb.Error) as watched:
            rows = pyarrow.RecordBatchReader.from_batches(files.numbered, watched(files.rows(counts)))
            base.register("incoming", rows)
            base.execute("CREATE TABLE unsorted AS SELECT * FROM incoming")
        query = f"SELECT * FROM unsorted ORDER BY {ROW}"
        if list_id is not None:
            own = files.own(list_id)
            _check_ids(base, files, list_id, counts)
            base.execute(f"CREATE TABLE lists AS SELECT {own} AS id, min({ROW}) AS first, count(*) AS size "
                         f"FROM unsorted GROUP BY {own}")
            sizes = base.execute("SELECT size FROM lists ORDER BY first").fetchnumpy()["size"].astype(np.int64)
            query = (f"SELECT unsorted.* FROM unsorted JOIN lists ON unsorted.{own} = lists.id "
                     f"ORDER BY lists.first, unsorted.{ROW}")
        base.execute(f"COPY ({query}) TO '{str(to).replace(chr(39), 2 * chr(39))}' (FORMAT parquet)")
    base_file.unlink()
    return counts, sizes


def _check_ids(base: Any, files: TableFiles, list_id: str, counts: Sequence[int]) -> None:
    own, kind = files.own(list_id), plain_type(files.schema.field(list_id).type)
    empty = f" OR {own} = ''" if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) else \
        f" OR isnan({own})" if pyarrow.types.is_floating(kind) else ""
    missing, first = base.execute(f"SELECT count(*), min({ROW}) FROM unsorted WHERE {own} IS NULL{empty}").fetchone()
    files.check_ids(list_id, counts, missing, first)


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise MissingPackageError("a store of tables needs DuckDB, which sorts the rows: pip install "
                                  "'tfmtl2r[store]'") from error
    return duckdb
