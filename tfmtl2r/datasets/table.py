"""A table of your own: Parquet or CSV files with a list id and label columns."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from tfmtl2r.data.frame import SUFFIXES, from_frame, read_table
from tfmtl2r.data.lists import Lists
from tfmtl2r.datasets.base import DataSet
from tfmtl2r.errors import InputError, MissingFileError
from tfmtl2r.registry import Card
from tfmtl2r.schema import Category, Dense
from tfmtl2r.task import Task, validated

CARD = Card(
    title="Your own table (Parquet or CSV)",
    note="path=FOLDER_OR_FILE list_id=COLUMN labels=click=is_click:binary,dwell=dwell_s:regression",
)
__all__ = ["Table"]

SHARES = {"train": 70, "vali": 10, "test": 20}


@dataclasses.dataclass(frozen=True)
class Table(DataSet):
    """Lists from files.

    Args:
        path: a folder with ``train``, ``vali`` and ``test`` (``.parquet``, ``.csv`` or ``.csv.gz``), or one such file,
            which is split 70/10/20 by the MD5 of the list id (of the row number for plain rows), so that a list
            always lands in the same split.
        list_id: the column that says which list a row belongs to; empty for plain rows.
        labels: the tasks, ``name=column:kind`` separated by commas; ``name:kind`` if the column has the task's name,
            and ``graded`` if no kind is given.
        feature_columns: names separated by commas, or a tuple of names and features; ``*`` stands for all others.
        context: columns with one value per list, names separated by commas.
        leave_out: columns that are no features (other feedback, ids), names separated by commas.

    Raises:
        ValueError: for labels that cannot be read.

    >>> data = Table("clicks.csv", list_id="user", labels="click=is_click:binary,dwell=dwell_s:regression")
    >>> [(task.name, task.label, task.kind) for task in data.tasks()]
    [('click', 'is_click', 'binary'), ('dwell', 'dwell_s', 'regression')]
    """

    path: str = ""
    list_id: str = ""
    labels: str | tuple[str, ...] = ""
    feature_columns: str | tuple[str | Dense | Category, ...] = "*"
    context: str | tuple[str, ...] = ""
    leave_out: str | tuple[str, ...] = ""

    def __post_init__(self) -> None:
        if not self.path:
            raise InputError("path is empty: give a folder with train, vali and test files, or one file")
        if not _parts(self.labels):
            raise InputError("labels is empty: give at least one task, such as click=is_click:binary")
        self.tasks()

    def tasks(self) -> tuple[Task, ...]:
        """One task per entry of ``labels``."""
        return validated(_task(entry) for entry in _parts(self.labels))

    def features(self) -> tuple[str | Dense | Category, ...]:
        """As given."""
        return _parts(self.feature_columns) or ("*",)

    def exclude(self) -> tuple[str, ...]:
        """As given."""
        return _parts(self.leave_out)

    def read(self, split: str) -> Lists:
        path = Path(self.path)
        if path.is_dir():
            files = [path / f"{split}{suffix}" for suffix in SUFFIXES if (path / f"{split}{suffix}").is_file()]
            if len(files) != 1:
                found = ", ".join(file.name for file in files) or "none"
                raise MissingFileError(f"{path}: expected one file {split}{{{','.join(SUFFIXES)}}}, found {found}")
            return self._lists(files[0])
        if "file" not in self._cache:
            self._cache["file"] = self._lists(path)
        lists = self._cache["file"]
        mine = _split_of(np.arange(lists.num_items) if lists.ids is None else lists.ids) == split
        if not mine.any():
            raise InputError(f"{path}: of its {len(mine)} lists none falls into {split!r} (70/10/20 by hash); "
                             "give a folder with train, vali and test files")
        return lists.select(mine)

    def _lists(self, path: Path) -> Lists:
        try:
            return from_frame(read_table(path), self.list_id or None, _parts(self.context))
        except ValueError as error:
            raise InputError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error


def _split_of(ids: np.ndarray) -> np.ndarray:
    """The split of each id, from its MD5."""
    percent = [int(hashlib.md5(str(i).encode(), usedforsecurity=False).hexdigest(), 16) % 100 for i in ids.tolist()]
    names = np.array(list(SHARES))
    return names[np.searchsorted(np.cumsum(list(SHARES.values())), percent, side="right")]


def _parts(value: str | tuple) -> tuple:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else tuple(value)


def _task(entry: str) -> Task:
    left, _, kind = entry.partition(":")
    name, _, column = left.partition("=")
    try:
        return Task(name.strip(), label=column.strip(), kind=kind.strip() or "graded")
    except ValueError as error:
        advice = "expected name=column:kind, such as click=is_click:binary"
        raise InputError(f"label {entry!r}: {advice}; {error}") from error
