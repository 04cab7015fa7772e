"""The manifest of a store: what was prepared, of what, and how every file of the store must be."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from tfmtl2r.data.store.tasks import described
from tfmtl2r.errors import DamagedError, InputError, MissingFileError
from tfmtl2r.reading import EACH, file_within, read_json
from tfmtl2r.schema import Schema
from tfmtl2r.task import Task
from tfmtl2r.writing import write_text

NAME = "manifest.json"
FORMAT = 1
_TYPES = ("float32", "float64", "int32", "int64", "bool")
_FILE = {"file": str, "bytes": int, "sha256": str}
_SHAPE = {
    "format": int, "preparation": str, "settings": dict, "tasks": [dict], "schema": {"features": [dict]},
    "splits": {EACH: {
        "is_rows": bool, "lists": int, "columns": [str], "context": [str], "list_id": (str, type(None)),
        "source": [list], "sizes": str, "ids": (str, type(None)), "slots": [list], "files": [_FILE],
        "shards": [{**_FILE, "lists": int, "items": int}],
    }},
}


@dataclasses.dataclass(frozen=True)
class Slot:
    """A place in the rows of a shard.

    Args:
        part: ``"x"`` for an input, ``"y"`` for a label, ``"w"`` for a weight.
        key: the input, the number of the task in the manifest, or the column of weights.
        per: ``"item"``, or ``"list"`` for a value of the whole list.
        dtype: type of the numbers.
        shape: shape of a value.
    """

    part: str
    key: str
    per: str
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, values: Sequence[Any]) -> Self:
        """The slot that a file holds as the list of its fields."""
        part, key, per, dtype, shape = values
        return cls(part, key, per, dtype, tuple(shape))

    @property
    def width(self) -> int:
        """Count of numbers."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def fill(self) -> float:
        """The value of padded places."""
        return np.nan if self.part == "y" else 0


def packs(slots: list[Slot]) -> dict[tuple[str, str], list[Slot]]:
    """Slots that lie side by side in a row: those of the same type, per item or per list."""
    found: dict[tuple[str, str], list[Slot]] = {}
    for slot in slots:
        found.setdefault((slot.per, slot.dtype), []).append(slot)
    return found


def digest(path: Path) -> str:
    """The SHA-256 digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A store that is whole.

    Args:
        folder: its folder.
        content: what the file contains.
    """

    folder: Path
    content: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Reads a manifest.

        Raises:
            FileNotFoundError: for a folder without a manifest.
            ValueError: for a damaged manifest, or one of another version.
        """
        path = Path(folder) / NAME
        if not path.is_file():
            raise MissingFileError(f"{folder}: the folder holds no whole store, since it has no {NAME}; make the store "
                                   f"with tfmtl2r prepare EXPERIMENT.toml --to {folder}")
        content = read_json(path, "make the store again", _SHAPE)
        if content.get("format") != FORMAT:
            raise InputError(f"{path}: the store has the format {content.get('format')}, and this version reads "
                             f"{FORMAT}: make the store again")
        try:
            for split in content["splits"].values():
                _check_split(Path(folder), split)
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedError(f"{path} is damaged ({error}): make the store again") from error
        return cls(Path(folder), content)

    def write(self) -> None:
        """Writes the manifest, which makes the store whole."""
        write_text(self.folder / NAME, json.dumps(self.content, indent=1) + "\n")

    def check(self, split: str) -> None:
        """Compares all files of a split with their sizes and digests.

        Raises:
            ValueError: for a missing, truncated or changed file, with its name.
        """
        for shard in self.content["splits"][split]["files"]:
            check_file(self.folder / shard["file"], shard)

    @property
    def schema(self) -> Schema:
        """The fitted features."""
        return Schema.from_config(self.content["schema"])

    def number(self, task: Task) -> int:
        """The number of a task with the same label.

        Raises:
            ValueError: if the store was not prepared for the task.
        """
        for number, known in enumerate(self.content["tasks"]):
            mine = described(task)
            if mine["transform"] in (known["transform"], known["fitted"]) and all(
                    mine[key] == known[key] for key in ("label", "kind", "only_where")):
                return number
        known = ", ".join(f"{one['label']} ({one['kind']})" for one in self.content["tasks"])
        raise InputError(f"the store {self.folder} was not prepared for the task {task.name!r} with the label "
                         f"{task.label!r} ({task.kind}), its transform and only_where. It holds these labels: {known}. "
                         "Prepare the data again with this task")


def _check_split(folder: Path, split: dict[str, Any]) -> None:
    """Checks the slots and the names of files of a split."""
    for slot in map(Slot.of, split["slots"]):
        if slot.per not in ("item", "list") or slot.dtype not in _TYPES or min(slot.shape, default=1) < 0:
            raise ValueError(f"it has the slot {slot}")
    for name in (split["sizes"], split["ids"], *(one["file"] for one in (*split["shards"], *split["files"]))):
        if name is not None:
            file_within(folder, name)


def check_file(path: Path, expected: dict[str, Any]) -> None:
    """Compares a file with its size and digest.

    Raises:
        ValueError: for a missing, truncated or changed file.
    """
    advice = "remove the file and run the preparation again with the same folder"
    if not path.is_file():
        raise DamagedError(f"{path}: the file of the store is missing: run the preparation again with the same folder")
    if (size := path.stat().st_size) != expected["bytes"]:
        raise DamagedError(f"{path}: the file of the store has {size} bytes, but {expected['bytes']} were written: "
                           f"{advice}")
    if digest(path) != expected["sha256"]:
        raise DamagedError(f"{path}: the file of the store has changed since it was written: {advice}")


def facts(path: Path) -> dict[str, Any]:
    """What :func:`check_file` expects of a file."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": digest(path)}


def is_store(place: Any) -> bool:
    """Whether a value of ``data.files`` is the folder of one store."""
    return isinstance(place, str) and (Path(place) / NAME).is_file()
