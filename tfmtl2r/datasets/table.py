"""The data set for your own files: tables, LETOR text or TFRecords."""

from __future__ import annotations

import copy
import dataclasses
import functools
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tfmtl2r import cluster
from tfmtl2r.data import splits
from tfmtl2r.data.choose import only_rows
from tfmtl2r.data.fit import Rest, declared
from tfmtl2r.data.leaks import suspected_leaks
from tfmtl2r.data.letor_text import ZeroIdError
from tfmtl2r.data.lists import Lists
from tfmtl2r.data.normalise import DEFAULT
from tfmtl2r.data.own_files import LETOR_FEATURES, Reading, equally_wide, expanded, split_files
from tfmtl2r.data.store.manifest import Manifest
from tfmtl2r.data.store.writing import SHARD_ITEMS, WORK, Preparation, begin, settled, write_store
from tfmtl2r.data.targets import fit_tasks
from tfmtl2r.datasets.base import DataSet
from tfmtl2r.errors import InputError, MissingFileError
from tfmtl2r.features.base import Feature
from tfmtl2r.registry import Card
from tfmtl2r.rules import checked_rules, columns_of
from tfmtl2r.settings import Data, FilePath, Goal, Split
from tfmtl2r.settings import Feature as Entry
from tfmtl2r.task import Task, validated
from tfmtl2r.transforms import of_task

CARD = Card(title="Your own files (Parquet, CSV, LETOR, TFRecord)",
            note="files=FILE list_id=COLUMN, and a [[tasks]] entry per label")
__all__ = ["Table"]

Files = FilePath | Sequence[FilePath]
log = logging.getLogger("tfmtl2r")


@dataclasses.dataclass(frozen=True)
class Table(DataSet):
    """Lists from the rows of files.

    Args:
        files: a file, several files, a pattern like ``"logs/*.csv"``, an address like ``"s3://bucket/*.csv"``
            (:mod:`tfmtl2r.remote`), or a folder. If a folder has files ``train``,
            ``vali`` and ``test``, they are the splits. Otherwise the lists are split by ``split``.
        train, vali, test: the files of each split, in place of ``files``.
        kind: "table" (Parquet or CSV), "letor" (LETOR/SVMlight text) or "elwc" (TFRecords); by default the ending of
            the files decides. LETOR files have the columns ``features``, ``label``, ``qid``, and one for each
            ``key = value`` in their comments; only ``features`` is an input that nobody names. Its ``transform`` is by
            default signed_log1p beside rank_gauss. Feature ids count from 0 if a row has the id 0, otherwise from 1.
            ``features[3]`` is the third component of a vector, as a label or among ``leave_out``, and leaves the
            vector.
        separator: splits a cell of text that is a list; by default each column decides.
        list_id: column with the id of the list that a row belongs to; empty for plain rows.
        item_id: column with the id of a row's item; no input, unless a feature names it.
        goals: the tasks, each as a :class:`tfmtl2r.Task` or a mapping of its arguments.
        columns: the features: names of columns, ready features, or mappings of the keys of ``[[features]]``; ``"*"``
            stands for all columns that are not named.
        context: columns with one value per list.
        time: column with the time of a row; no input, unless a feature names it.
        leave_out: columns that are no features, for example other feedback and ids.
        only_where: the rows to read, as a rule or several (:func:`tfmtl2r.rules.checked_rules`). Their columns are
            features only if ``columns`` names them.
        split: shares of the splits, as a mapping with the keys of :class:`tfmtl2r.settings.Split`. By list, the MD5 of
            the list id (for plain rows, of the row number) decides; by time, the latest lists are the test split
            (:mod:`tfmtl2r.data.splits`). A list is always in one split.

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
    kind: str = ""
    separator: str = ""
    list_id: str = ""
    item_id: str = ""
    goals: Sequence[Task | Mapping[str, Any]] = ()
    columns: Sequence[str | Feature | Mapping[str, Any]] = ("*",)
    context: Sequence[str] = ()
    time: str = ""
    leave_out: Sequence[str] = ()
    split: Mapping[str, Any] | None = None
    only_where: Any = ()

    def __post_init__(self) -> None:
        given = [name for name in self.splits if getattr(self, name)]
        if bool(self.files) == bool(given) or (given and len(given) < len(self.splits)):
            raise InputError("a table needs either files or all of train, vali and test; given: "
                             + (", ".join([*(["files"] if self.files else []), *given]) or "none"))
        if given and self.split is not None:
            raise InputError("split divides files, but the files of train, vali and test are given: leave one of them "
                             "out")
        if not self.goals:
            raise InputError("a table needs at least one task: its name, the column of its label and its kind")
        object.__setattr__(self, "only_where", checked_rules(self.only_where))
        object.__setattr__(self, "goals", tuple(Goal.of(goal).tree() for goal in self.goals))
        self.tasks()

    def tasks(self) -> tuple[Task, ...]:
        """The tasks in ``goals``."""
        return validated(Goal.of(goal).task() for goal in self.goals)

    def features(self) -> tuple[str | Feature | Rest, ...]:
        """The features in ``columns``. Missing keys of an entry are inferred from its column in the training split."""
        found: list[str | Feature | Rest] = []
        for column in self.columns:
            if isinstance(column, (str, Mapping)):
                entry = Entry.of(column)
                names = [entry.name] if isinstance(entry.name, str) else list(entry.name or ())
                found += [self._feature(entry, name) for name in names]
            else:
                found.append(column)
        return tuple(found)

    def exclude(self) -> tuple[str, ...]:
        """The columns that are no features: ids, times, what the user leaves out, and all but LETOR's vector."""
        lists = self.lists("train")
        beside = [name for name in lists.columns if name != LETOR_FEATURES] if self._is_letor else []
        shared = {Entry.of(one).shares if isinstance(one, Mapping) else getattr(one, "shares", "")
                  for one in self.columns}
        own = [name for name in (self.item_id, self.time) if name and name not in shared]
        return tuple(dict.fromkeys([*self.leave_out, *own, *beside, *columns_of(self.only_where)]))

    def about(self, split: str) -> dict[str, Any]:
        """Of a split by time, the times of its first and its last list; of LETOR files, whether ids count from 0."""
        about = {"zero_based": True} if self._cache.get("zero_based") else {}
        if self._split.by != "time" or "files" not in self._places:
            return about
        times = splits.times_of_lists(self.lists(split), self.time)
        return {"first_time": splits.shown_time(times.min()), "last_time": splits.shown_time(times.max()), **about}

    def read(self, split: str) -> Lists:
        if split in self._places:
            return self._whole(split)
        lists = self._whole("files")
        if "split" not in self._cache:
            shares = {"vali": self._split.vali, "test": self._split.test}
            self._cache["split"] = splits.by_time(lists, self.time, **shares) if self._split.by == "time" else \
                splits.by_list(lists, seed=self._split.seed, **shares)
        mine = self._cache["split"] == split
        if not mine.any():
            how = "the hash of the ids" if self._split.by == "list" else "the split by time"
            raise InputError(f"{self.files}: {how} puts none of its {len(mine)} lists into {split!r}; "
                             "change split, or set train, vali and test to files")
        return lists.select(mine)

    def preparation(self, shard_items: int) -> Preparation:
        """What a store of the files is made of.

        Args:
            shard_items: the number of items that fills a shard.
        """
        keys = (*Data.own_table, "only_where", "columns", "goals")
        places = {key: getattr(self, key) for key in keys if key not in ("files", *self.splits)}
        paths = [path for place in self._places.values() for path in expanded(place, self._kind)[1]]
        files = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in paths
                 if path.is_file()]
        return Preparation({key: settled(value) for key, value in places.items()}, files, shard_items)

    def to_store(
        self, folder: str | Path, tasks: Iterable[str | Task] | None = None, shard_items: int = SHARD_ITEMS,
        on: str = "local",
    ) -> Manifest:
        """Makes a store of the files (:mod:`tfmtl2r.data.store`), or continues a preparation that was interrupted.

        Args:
            folder: an empty or missing folder, or one with the same preparation.
            tasks: the tasks, of which the labels are in the store; those in ``goals`` are always in it.
            shard_items: a shard ends with the list that reaches this number of items.
            on: where the rows of tables are sorted into lists: "local", or "ray" for a Ray cluster whose machines have
                the files at the same paths. The store is the same.

        Raises:
            ValueError: for a folder with something else, data that cannot be trained on, or a cluster for files whose
                rows are not sorted.
            ImportError: for a cluster without Ray.
            WorkerError: if the cluster fails.
        """
        if shard_items < 1:
            raise InputError(f"a shard must have at least 1 item (--shard-items), not {shard_items}")
        if on == "ray":
            cluster.check("prepare --on ray")
            if self._kind != "table":
                raise InputError(f"files of the kind {self._kind} hold whole lists one after the other, so that no row "
                                 "is sorted, and a cluster has nothing to do: leave --on ray out")
        folder, preparation = Path(folder), self.preparation(shard_items)
        if (whole := begin(folder, preparation)) is not None:
            return whole
        data = self.on_disk(folder / WORK / "sorted", on)
        chosen = data.select(tasks)
        given = [*chosen, *(task for task in data.tasks() if task.name not in [one.name for one in chosen])]
        fitted = fit_tasks(data.lists("train"), given)
        schema = data.schema(fitted)
        data.check(fitted, schema)
        for line in suspected_leaks(data.lists("train"), schema, fitted):
            log.warning(line)
        return write_store(folder, preparation, {split: functools.partial(data.lists, split) for split in data.splits},
                           list(zip(given, fitted, strict=True)), schema,
                           {split: data.about(split) for split in data.splits})

    def on_disk(self, folder: Path, on: str = "local") -> Self:
        """A copy that writes the rows, in lists, into files of a folder, and reads their columns one at a time.

        Args:
            folder: a folder for these files, which the same data set may have used before.
            on: where the rows of tables are sorted, as for :meth:`to_store`.
        """
        found = copy.copy(self)
        found.__dict__["_cache"] = {"sorted": folder, "on": on}
        return found

    def pooled(self) -> Lists:
        return self._whole("files") if "files" in self._places else super().pooled()

    def reading(self, kind: str = "") -> Reading:
        """How files of a kind are read; by default the data set's own files."""
        entries = [Entry.of(one).name if isinstance(one, Mapping) else one for one in self.columns]
        names = [name for one in entries for name in ([one] if isinstance(one, str) else one if isinstance(one, tuple)
                                                      else one.columns if isinstance(one, Feature) else [])]
        own = filter(None, (self.list_id, self.item_id, self.time))
        named = dict.fromkeys([*_read_by(self.tasks()), *columns_of(self.only_where), *self.leave_out, *self.context,
                               *own, *names])
        return Reading(kind or self._kind, self.list_id or None, tuple(self.context), self.separator,
                       tuple(name for name in named if name != "*"))

    def _feature(self, entry: Entry, name: str) -> str | Feature | Rest:
        options = {key: value for key, value in entry.tree().items() if key not in ("name", "kind")}
        if self._is_letor and name in ("*", LETOR_FEATURES) and not entry.kind:
            options = {"transform": list(DEFAULT), **options}
        if name == "*" and (options or entry.kind):
            return Rest(entry.kind, options)
        if name not in (lists := self.lists("train")).columns or not (options or entry.kind):
            return name
        return declared(lists, name, name in self.context, entry.kind, options)

    @property
    def _split(self) -> Split:
        return Split.of(self.split or {})

    @property
    def _kind(self) -> str:
        return expanded(next(iter(self._places.values())), self.kind or None)[0]

    @property
    def _is_letor(self) -> bool:
        return self._kind == "letor"

    @property
    def _places(self) -> dict[str, Any]:
        """The files of each split, or of the whole table, whose name is then ``files``."""
        if not self.files:
            return {split: getattr(self, split) for split in self.splits}
        places = [self.files] if isinstance(self.files, str) else list(self.files)
        folder = Path(places[0])
        if len(places) > 1 or not folder.is_dir():
            return {"files": self.files}
        found = {split: split_files(folder, self.kind or None, split) for split in self.splits}
        if not any(found.values()):
            return {"files": self.files}
        for split, paths in found.items():
            if len(paths) != 1:
                names = ", ".join(path.name for path in paths) or "none"
                raise MissingFileError(f"{folder}: expected one file {split} beside the other splits, found {names}")
        if self.split is not None:
            raise InputError(f"{folder} contains the files of train, vali and test: leave split out")
        return {split: str(paths[0]) for split, paths in found.items()}

    def _work(self, place: str) -> Path | None:
        """The folder for the rows of a place; None for rows in memory."""
        folder: Path | None = self._cache.get("sorted")
        return None if folder is None else folder / place

    def _whole(self, place: str) -> Lists:
        """The lists of all files of a place. The vectors of LETOR files are equally wide in all places."""
        key = ("whole", place)
        if key not in self._cache:
            places = self._places
            names = list(places) if self._is_letor else [place]
            reading, paths = self.reading(), [expanded(places[name], self._kind)[1] for name in names]
            on = self._cache.get("on", "local")
            try:
                read = [reading.read(one, self._work(name), on) for name, one in zip(names, paths, strict=True)]
            except ZeroIdError:  # no file decides alone: all count from 0 if one of them does
                reading = dataclasses.replace(reading, zero_based=True)
                read = [reading.read(one, self._work(name)) for name, one in zip(names, paths, strict=True)]
                self._cache["zero_based"] = True
            for name, lists in zip(names, equally_wide(read) if self._is_letor else read, strict=True):
                self._cache["whole", name] = only_rows(reading.made(lists), self.only_where)
        return self._cache[key]


def _read_by(tasks: Sequence[Task]) -> list[str]:
    """The columns that tasks read."""
    beside = [(task, of_task(task)) for task in tasks]
    return [column for task, transform in beside
            for column in (*task.columns, *task.rule_columns, *(transform.columns if transform else ()))]
