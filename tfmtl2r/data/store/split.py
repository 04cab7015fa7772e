"""A split of a store as :class:`tfmtl2r.data.Lists`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from tfmtl2r.batch import PROPENSITY
from tfmtl2r.data.lists import Lists
from tfmtl2r.data.prepared import Elsewhere
from tfmtl2r.data.store.manifest import Manifest, Slot
from tfmtl2r.data.store.shards import Shards
from tfmtl2r.data.store.source import StoreSource
from tfmtl2r.data.store.tasks import with_statistics
from tfmtl2r.data.stored import Source
from tfmtl2r.errors import DamagedError, InputError
from tfmtl2r.schema import Schema
from tfmtl2r.task import Task


class StoredSplit:
    """What a split of a store holds; see :class:`tfmtl2r.data.prepared.Prepared`.

    Args:
        manifest: the store.
        split: the split.
        shards: its shards.
        lists: the numbers of the lists; None for all lists of the split.
    """

    def __init__(self, manifest: Manifest, split: str, shards: Shards, lists: np.ndarray | None = None):
        self.manifest, self.split, self.shards, self.lists = manifest, split, shards, lists
        self.about: dict[str, Any] = manifest.content["splits"][split]

    def take(self, lists: np.ndarray) -> Self:
        """The values of some lists."""
        mine = lists if self.lists is None else self.lists[lists]
        return type(self)(self.manifest, self.split, self.shards, mine)

    def labels(self, task: Task) -> np.ndarray:
        """The labels of a task, ``float32[N]``."""
        return self.shards.column(self._slot("y", str(self.manifest.number(task))), self.lists)

    def weights(self, column: str) -> np.ndarray:
        """A column of weights."""
        return self.shards.column(self._slot("w", column), self.lists)

    def fitted(self, task: Task) -> Task:
        """The task with its fitted transform and statistics.

        Raises:
            ValueError: for a task that was prepared with another column of weights.
        """
        record = self.manifest.content["tasks"][self.manifest.number(task)]
        if record["weight_column"] != task.weight_column:
            raise InputError(f"task {task.name!r}: the store {self.manifest.folder} was prepared with weight_column = "
                             f"{record['weight_column']!r}, not {task.weight_column!r}: prepare the data again")
        return with_statistics(task, record)

    def source(
        self, tasks: tuple[Task, ...], schema: Schema, weights: Mapping[Any, str], limit: int | None, random: bool
    ) -> StoreSource:
        """The source of batches; see :class:`tfmtl2r.data.prepared.Prepared`."""
        self.check(schema)
        wanted: dict[str, dict[Any, Slot]] = {
            "x": {name: self._slot("x", name) for name in schema.inputs},
            "y": {task.name: self._slot("y", str(self.manifest.number(task))) for task in tasks},
            "w": {key: self._slot("w", column) for key, column in weights.items()},
        }
        taus = {(task.name, PROPENSITY): task.tau for task in tasks}
        bounds = {key: 1.0 / tau for key in weights if (tau := taus.get(key)) is not None}
        protecting = tuple(task.name for task in tasks if task.kind != "regression")
        return StoreSource(self.shards, self.lists, wanted, bounds, protecting, limit, random)

    def contents(self, schema: Schema) -> dict[str, dict[str, Any]]:
        """What the inputs of the whole split contain."""
        self.check(schema)
        found: dict[str, dict[str, Any]] = self.about["inputs"]
        return {name: found[name] for feature in schema.features for name in feature.raw if name in found}

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the whole split."""
        return self._of_all("fingerprint")

    @property
    def order(self) -> str:
        """The digest of the order of the whole split."""
        return self._of_all("order")

    def check(self, schema: Schema) -> None:
        """Compares features with those of the store.

        Raises:
            ValueError: for a feature that the store does not have, or has with another vocabulary or other options.
        """
        known = {feature.name: feature for feature in self._schema.features}
        for feature in schema.features:
            if feature.name not in known:
                raise InputError(f"feature {feature.name!r}: the store {self.manifest.folder} has no such feature; its "
                                 f"features: {', '.join(known)}. Prepare the data again")
            if not feature.looks_up_as(known[feature.name]):
                raise InputError(f"feature {feature.name!r}: the store {self.manifest.folder} was prepared with "
                                 "another vocabulary or other options of it. Prepare the data again; a training with "
                                 "start.from can take the store's vocabularies (start.statistics = \"refit\")")

    def as_lists(self) -> Lists:
        """The split. Its columns can be named, but not read."""
        count = int(self.shards.first_items[-1])
        columns: Mapping[str, Any] = {name: Elsewhere(name, count, str(self.manifest.folder))
                                      for name in self.about["columns"]}
        ids = _ids(self.manifest.folder / self.about["ids"]) if self.about["ids"] else None
        source = Source(tuple((path, rows) for path, rows in self.about["source"]))
        return Lists(columns, self.shards.offsets, ids, tuple(self.about["context"]), self.about["list_id"],
                     source=source, prepared=self)

    @functools.cached_property
    def _schema(self) -> Schema:
        return self.manifest.schema

    def _slot(self, part: str, key: str) -> Slot:
        for slots in self.shards.packs.values():
            for slot in slots:
                if (slot.part, slot.key) == (part, key):
                    return slot
        what = {"x": "input", "y": "label", "w": "column of weights"}[part]
        raise InputError(f"the store {self.manifest.folder} has no {what} {key!r}: prepare the data again")

    def _of_all(self, what: str) -> str:
        if self.lists is not None:
            raise InputError(f"the {what} of a part of the {self.split} split of {self.manifest.folder} is not known")
        found: str = self.about[what]
        return found


def _ids(path: Path) -> np.ndarray:
    try:
        found: np.ndarray = np.load(path, mmap_mode="r")
        return found
    except ValueError as error:  # Python objects, which would have to be unpickled
        raise DamagedError(f"{path} is damaged ({error}): make the store again") from error


def stored_lists(manifest: Manifest, split: str) -> Lists:
    """The lists of a split of a store, after a check of all its files.

    Raises:
        ValueError: for a missing, truncated or changed file, with its name.
    """
    manifest.check(split)
    return StoredSplit(manifest, split, Shards(manifest, split)).as_lists()
