"""The data set for a store, which ``tfmtl2r prepare EXPERIMENT.toml --to FOLDER`` has made of your own files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tfmtl2r.data.lists import Lists
from tfmtl2r.data.prepared import Prepared
from tfmtl2r.data.store.manifest import Manifest
from tfmtl2r.data.store.split import stored_lists
from tfmtl2r.data.store.writing import SHARD_ITEMS, settled
from tfmtl2r.datasets.table import Table
from tfmtl2r.errors import InputError
from tfmtl2r.features.base import Feature
from tfmtl2r.registry import Card
from tfmtl2r.schema import Schema
from tfmtl2r.settings import Data
from tfmtl2r.task import Task

CARD = Card(title="A store of your own files (tfmtl2r prepare --to)",
            note="files=FOLDER, and the [[tasks]] with which the store was made")
__all__ = ["Store"]


@dataclasses.dataclass(frozen=True)
class Store(Table):
    """Lists from a store.

    Schema, statistics of the tasks and splits are those of the preparation. Options of
    :class:`tfmtl2r.datasets.table.Table` may be left out; an option that is given must be that of the preparation.

    Raises:
        ValueError: for a folder without a whole store, or another option than that of the preparation.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        given = {key: getattr(self, key) for key in (*Data.own_table, "only_where", "columns")
                 if key not in ("files", "kind")}
        for key, value in given.items():
            known = self._manifest.content["settings"].get(key)
            default = next(field.default for field in dataclasses.fields(self) if field.name == key)
            if value and value != default and settled(value) != known:
                raise InputError(f"the store {self.files} was prepared with {_shown(key)} = {json.dumps(known)}, not "
                                 f"{json.dumps(settled(value))}: leave it out, or prepare the data again")

    def features(self) -> tuple[str | Feature, ...]:
        """The fitted features of the store."""
        return self._manifest.schema.features

    def exclude(self) -> tuple[str, ...]:
        """Nothing, since the features are known."""
        return ()

    def about(self, split: str) -> dict[str, Any]:
        """What the preparation found of a split."""
        found: dict[str, Any] = self._manifest.content["splits"][split]["about"]
        return found

    def read(self, split: str) -> Lists:
        return stored_lists(self._manifest, split)

    def to_store(
        self, folder: str | Path, tasks: Iterable[str | Task] | None = None, shard_items: int = SHARD_ITEMS,
        on: str = "local",
    ) -> Manifest:
        raise InputError(f"{self.files} is a store already: set data.files to files of your own")

    def pooled(self) -> Lists:
        raise InputError(f"the splits of the store {self.files} are fixed: set data.files to the files of which the "
                         "store was made to divide them anew")

    def schema(self, tasks: Iterable[str | Task] | None = None) -> Schema:
        """The fitted schema of the store, from which the columns of all its tasks are left out."""
        for task in self.select(tasks):
            self._manifest.number(task)
        if "schema" not in self._cache:
            self._cache["schema"] = self._manifest.schema
        found: Schema = self._cache["schema"]
        return found

    def check(self, tasks: Iterable[Task], schema: Schema) -> None:
        """Checks the files of all splits, and that they were prepared for the tasks and the features."""
        for split in self.splits:
            prepared: Prepared | None = self.lists(split).prepared
            assert prepared is not None
            prepared.contents(schema)
            for task in tasks:
                prepared.fitted(task)

    @property
    def _manifest(self) -> Manifest:
        if "manifest" not in self._cache:
            if not isinstance(self.files, str):
                raise InputError(f"a store is one folder, not {self.files!r}")
            self._cache["manifest"] = Manifest.open(self.files)
        found: Manifest = self._cache["manifest"]
        return found


def _shown(key: str) -> str:
    return "features" if key == "columns" else f"data.{key}"
