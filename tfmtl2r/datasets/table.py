"""The data set for your own table: Parquet or CSV files with a list id and label columns."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r.data.fit import declared
from tfmtl2r.data.frame import SUFFIXES, read_lists
from tfmtl2r.data.lists import Lists
from tfmtl2r.datasets.base import DataSet
from tfmtl2r.errors import InputError, MissingFileError
from tfmtl2r.features.base import Feature
from tfmtl2r.registry import Card
from tfmtl2r.settings import Feature as Entry
from tfmtl2r.settings import FilePath, Goal, Split
from tfmtl2r.task import Task, validated

CARD = Card(title="Your own table (Parquet or CSV)", note="files=FILE list_id=COLUMN, and a [[tasks]] entry per label")
__all__ = ["Table"]

Files = FilePath | Sequence[FilePath]


@dataclasses.dataclass(frozen=True)
class Table(DataSet):
    """Lists from the rows of Parquet or CSV files.

    Args:
        files: a file (``.parquet``, ``.csv`` or ``.csv.gz``), several files, a pattern like ``"logs/*.csv"``, or a
            folder. If a folder has files ``train``, ``vali`` and ``test``, they are the splits. Otherwise the lists are
            split by ``split``.
        train, vali, test: the files of each split, in place of ``files``.
        list_id: column with the id of the list that a row belongs to; empty for plain rows.
        goals: the tasks, each as a :class:`tfmtl2r.Task` or a mapping of its arguments.
        columns: the features: names of columns, ready features, or mappings of the keys of ``[[features]]``; ``"*"``
            stands for all columns that are not named.
        context: columns with one value per list.
        leave_out: columns that are no features, for example other feedback and ids.
        split: shares of the splits, as a mapping with the keys of :class:`tfmtl2r.settings.Split`. The MD5 of the list
            id (for plain rows, of the row number) decides, so that a list is always in the same split.

    Raises:
        ValueError: when files or tasks are missing, or both ``files`` and files of splits are given.

    >>> click = Task("click", label="is_click", kind="binary")
    >>> data = Table("clicks.csv", list_id="user", goals=[click, {"name": "dwell", "kind": "regression"}])
    >>> [(task.name, task.label, task.kind) for task in data.tasks()]
    [('click', 'is_click', 'binary'), ('dwell', 'dwell', 'regression')]
    """

    files: Files = ""
    train: Files = ""
    vali: Files = ""
    test: Files = ""
    list_id: str = ""
    goals: Sequence[Task | Mapping[str, Any]] = ()
    columns: Sequence[str | Feature | Mapping[str, Any]] = ("*",)
    context: Sequence[str] = ()
    leave_out: Sequence[str] = ()
    split: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        given = [name for name in self.splits if getattr(self, name)]
        if bool(self.files) == bool(given) or (given and len(given) < len(self.splits)):
            raise InputError("a table needs either files or all of train, vali and test; given: "
                             + (", ".join([*(["files"] if self.files else []), *given]) or "none"))
        if not self.goals:
            raise InputError("a table needs at least one task: its name, the column of its label and its kind")
        object.__setattr__(self, "goals", tuple(Goal.of(goal).tree() for goal in self.goals))
        self.tasks()

    def tasks(self) -> tuple[Task, ...]:
        """The tasks in ``goals``."""
        return validated(Goal.of(goal).task() for goal in self.goals)

    def features(self) -> tuple[str | Feature, ...]:
        """The features in ``columns``. Missing keys of an entry are inferred from its column in the training split."""
        found: list[str | Feature] = []
        for column in self.columns:
            if isinstance(column, Mapping):
                entry = Entry.of(column)
                names = [entry.name] if isinstance(entry.name, str) else list(entry.name or ())
                found += [self._feature(entry, name) for name in names]
            else:
                found.append(column)
        return tuple(found)

    def exclude(self) -> tuple[str, ...]:
        """The columns in ``leave_out``."""
        return tuple(self.leave_out)

    def _feature(self, entry: Entry, name: str) -> str | Feature:
        options = {key: value for key, value in entry.tree().items() if key not in ("name", "kind")}
        if name == "*" and (options or entry.kind):
            raise InputError("the feature \"*\" stands for all other columns and takes no options: name the columns")
        if name not in (lists := self.lists("train")).columns or not (options or entry.kind):
            return name
        return declared(lists, name, name in self.context, entry.kind, options)

    def read(self, split: str) -> Lists:
        files = getattr(self, split) or self._files_of(split)
        if files:
            return self._lists(files)
        if "files" not in self._cache:
            self._cache["files"] = self._lists(self.files)
        lists = self._cache["files"]
        mine = self._split_of(np.arange(lists.num_items) if lists.ids is None else lists.ids) == split
        if not mine.any():
            raise InputError(f"{self.files}: the hash of the ids puts none of its {len(mine)} lists into {split!r}; "
                             "change split, or set train, vali and test to files")
        return lists.select(mine)

    def _files_of(self, split: str) -> str:
        """The file of a split, if the folder has one file per split; empty for a folder that is split by hash."""
        folder = Path(str(self.files))
        if isinstance(self.files, str) and folder.is_dir():
            of = {name: [path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").is_file()]
                  for name in self.splits}
            if any(of.values()):
                if len(of[split]) != 1:
                    found = ", ".join(path.name for path in of[split]) or "none"
                    raise MissingFileError(f"{folder}: expected one file {split}{{{','.join(SUFFIXES)}}}, found "
                                           f"{found}")
                return str(of[split][0])
        return ""

    def _lists(self, files: Files) -> Lists:
        paths = [path for one in ([files] if isinstance(files, str) else files) for path in _expanded(one)]
        return read_lists(paths, self.list_id or None, self.context)

    def _split_of(self, ids: np.ndarray) -> np.ndarray:
        """The split of each id, which the MD5 of the id decides."""
        split = Split.of(self.split or {})
        seed = "" if split.seed is None else f"{split.seed}:"
        digests = [hashlib.md5(f"{seed}{i}".encode(), usedforsecurity=False).hexdigest() for i in ids.tolist()]
        percent = [int(digest, 16) % 100 for digest in digests]
        bounds = np.round(100 * np.array([1 - split.vali - split.test, 1 - split.test]), 6)
        return np.array(self.splits)[np.searchsorted(bounds, percent, side="right")]


def _expanded(place: str) -> list[Path]:
    """The files of a path, a pattern or a folder, sorted by name."""
    if Path(place).is_dir():
        found = sorted(path for path in Path(place).iterdir() if path.name.endswith(SUFFIXES))
        if not found:
            raise MissingFileError(f"{place}: the folder has no file that ends in {', '.join(SUFFIXES)}")
        return found
    if not glob.has_magic(place):
        return [Path(place)]
    if not (matches := sorted(map(Path, glob.glob(place)))):
        raise MissingFileError(f"{place}: no file matches this pattern")
    return matches
