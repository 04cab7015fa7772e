"""Makes a store: all values of a split column by column, then shards of whole lists, and the manifest at the end."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tfmtl2r.data.columns import label_values, weight_values
from tfmtl2r.data.contents import described
from tfmtl2r.data.lists import Lists
from tfmtl2r.data.sources import looked_up_chunks
from tfmtl2r.data.store import tasks as records
from tfmtl2r.data.store.digests import digests_of
from tfmtl2r.data.store.manifest import FORMAT, NAME, Manifest, Slot, check_file, facts, packs
from tfmtl2r.errors import InputError
from tfmtl2r.schema import Schema
from tfmtl2r.task import Task
from tfmtl2r.writing import remove_parts, write_json, write_text, written

WORK = "work"
"""The folder inside a store with unfinished work."""
SHARD_ITEMS = 1 << 17
"""The number of items that fills a shard, by default."""
_BLOCK = 1 << 22
"""The count of numbers that are written to a shard together."""
_PLAN = "preparation.json"
log = logging.getLogger("tfmtl2r")


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What a store is made of.

    Args:
        settings: everything that decides about the content; the store is refused for other settings.
        files: the files that are read, each with size and time of its last change.
        shard_items: a shard ends with the list that reaches this number of items.
    """

    settings: Mapping[str, Any]
    files: Sequence[Sequence[Any]]
    shard_items: int

    @property
    def fingerprint(self) -> str:
        """A digest of the preparation."""
        content = json.dumps([FORMAT, dataclasses.asdict(self)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def settled(value: Any) -> Any:
    """An option as JSON holds it; a single text and a list of one text are the same."""
    plain = json.loads(json.dumps(value, default=lambda one: dict(one) if hasattr(one, "keys") else list(one)))
    return [plain] if isinstance(plain, str) else plain


def begin(folder: Path, preparation: Preparation) -> Manifest | None:
    """Prepares the folder of a store, and returns the manifest if the same store is whole already.

    Raises:
        ValueError: for a folder with anything but the same preparation.
    """
    if folder.is_dir() and any(folder.iterdir()):
        plan = folder / WORK / _PLAN
        whole = (folder / NAME).is_file()
        known = Manifest.open(folder).content["preparation"] if whole else \
            json.loads(plan.read_text())["preparation"] if plan.is_file() else None
        if known != preparation.fingerprint:
            raise InputError(f"{folder}: the folder holds "
                             + ("another preparation (other settings, or other files)" if known else "other files")
                             + ": remove it, or give another folder to --to")
        if whole:
            manifest = Manifest.open(folder)
            for split in manifest.content["splits"]:
                manifest.check(split)
            shutil.rmtree(folder / WORK, ignore_errors=True)
            return manifest
        remove_parts(folder)
        remove_parts(folder / WORK)
    write_json(folder / WORK / _PLAN, {"preparation": preparation.fingerprint})
    return None


def write_store(
    folder: Path, preparation: Preparation, splits: Mapping[str, Callable[[], Lists]],
    tasks: Sequence[tuple[Task, Task]], schema: Schema, about: Mapping[str, Mapping[str, Any]],
) -> Manifest:
    """Writes a store. A preparation that was interrupted continues: files that are whole stay.

    Args:
        folder: a folder that :func:`begin` has prepared.
        preparation: what the store is made of.
        splits: split -> a function that returns its lists.
        tasks: each task as given, and with its statistics.
        schema: the fitted features.
        about: split -> what a run card holds beside fingerprint and size.

    Raises:
        ValueError: if the shards do not hold as many lists and items as were read.
    """
    fitted = [one for _, one in tasks]
    found = {split: {**_write_split(folder, split, read(), fitted, schema, preparation.shard_items),
                     "about": dict(about.get(split, {}))} for split, read in splits.items()}
    Manifest(folder, {
        "format": FORMAT, "preparation": preparation.fingerprint, "settings": preparation.settings,
        "tasks": [records.recorded(*pair) for pair in tasks], "schema": schema.get_config(), "splits": found,
    }).write()
    shutil.rmtree(folder / WORK)
    return Manifest.open(folder)


def _write_split(
    folder: Path, split: str, lists: Lists, tasks: Sequence[Task], schema: Schema, shard_items: int
) -> dict[str, Any]:
    """Writes the files of a split, and returns its entry in the manifest."""
    slots = list(_columns(folder / WORK / split, lists, tasks, schema))
    cuts = shard_bounds(lists.sizes, shard_items)
    shards = [_shard(folder, split, number, slots, lists, range(first, last))
              for number, (first, last) in enumerate(itertools.pairwise(cuts))]
    if (sum(one["lists"] for one in shards), sum(one["items"] for one in shards)) != (lists.num_lists, lists.num_items):
        raise InputError(f"{folder}: the shards of {split} do not hold its {lists.num_lists} lists and "
                         f"{lists.num_items} items: remove the folder, and prepare again")
    sizes, ids = f"{split}-sizes.bin", f"{split}-ids.npy"
    with written(folder / sizes) as path:
        lists.sizes.astype(np.int32).tofile(path)
    others = [facts(folder / sizes)]
    if lists.ids is not None:
        with written(folder / ids) as path:
            values = schema.in_files(lists.list_id or "", np.asarray(lists.ids))
            np.save(path, values.astype(str) if values.dtype == object else values)
        others.append(facts(folder / ids))
    files = [*others, *({key: one[key] for key in ("file", "bytes", "sha256")} for one in shards)]
    return {
        **_described(folder / WORK / split, lists, schema), "is_rows": lists.is_rows, "lists": lists.num_lists,
        "columns": list(lists.columns), "context": list(lists.context), "list_id": lists.list_id,
        "source": [list(file) for file in lists.source.files], "sizes": sizes,
        "ids": None if lists.ids is None else ids, "slots": [list(dataclasses.astuple(slot)) for slot in slots],
        "shards": shards, "files": files,
    }


def _described(work: Path, lists: Lists, schema: Schema) -> dict[str, Any]:
    path = work / "described.json"
    if not path.is_file():
        fingerprint, order = digests_of(lists, work / "digests")
        write_text(path, json.dumps({**described(lists, schema, fingerprint), "order": order}))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _columns(work: Path, lists: Lists, tasks: Sequence[Task], schema: Schema) -> Iterator[Slot]:
    """Writes the values of a split, a file for each slot, and yields the slots. Files that are whole stay."""
    index = work / "slots.json"
    if index.is_file():
        yield from map(Slot.of, json.loads(index.read_text()))
        return
    made: list[Slot] = []
    for part, key, values in _values(lists, tasks, schema):
        dtype, shape = _save(_file(work, len(made)), values)
        per = "item" if shape[0] == lists.num_items and not _is_context(lists, schema, part, key) else "list"
        made.append(Slot(part, key, per, dtype.name, shape[1:]))
    write_json(index, [dataclasses.astuple(slot) for slot in made])
    yield from made


def _values(
    lists: Lists, tasks: Sequence[Task], schema: Schema
) -> Iterator[tuple[str, str, Iterator[np.ndarray]]]:
    """The values of a split, each as some rows after the other."""
    for name, chunks in looked_up_chunks(lists, schema):
        yield "x", name, chunks
    for number, task in enumerate(tasks):
        yield "y", str(number), iter([label_values(lists, task)])
    columns = {column: task.name for task in tasks for column in (task.weight_column, task.propensity_column) if column}
    for column, name in columns.items():
        yield "w", column, iter([weight_values(lists, name, column)])


def _save(path: Path, parts: Iterator[np.ndarray]) -> tuple[np.dtype, tuple[int, ...]]:
    """Writes some rows after the other as one array, and returns its type and shape."""
    rows = 0
    with written(path) as temporary, temporary.open("wb") as file:
        for part in parts:
            dtype, shape = part.dtype, part.shape[1:]
            if not rows:
                _write_header(file, dtype, (0, *shape))
            file.write(np.ascontiguousarray(part).data)
            rows += len(part)
        file.seek(0)
        _write_header(file, dtype, (rows, *shape))
    return dtype, (rows, *shape)


def _write_header(file: BinaryIO, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """The header of a .npy file, which has the same length for any number of rows."""
    np.lib.format.write_array_header_1_0(
        file, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})


def _is_context(lists: Lists, schema: Schema, part: str, key: str) -> bool:
    if lists.is_rows or part == "y":
        return False
    return schema.inputs[key].context if part == "x" else key in lists.context


def _file(work: Path, number: int) -> Path:
    return work / f"{number}.npy"


def _shard(
    folder: Path, split: str, number: int, slots: Sequence[Slot], lists: Lists, mine: range
) -> dict[str, Any]:
    """Writes a shard, unless the one of an earlier attempt is whole, and returns its entry in the manifest."""
    work, path = folder / WORK / split, folder / f"{split}-{number:05d}.bin"
    record = work / f"{number:05d}.json"
    if record.is_file():
        found: dict[str, Any] = json.loads(record.read_text())
        try:
            check_file(path, found)
            return found
        except InputError as error:
            log.warning("%s; it is written again", error)
    items = slice(mine.start, mine.stop) if lists.offsets is None else \
        slice(int(lists.offsets[mine.start]), int(lists.offsets[mine.stop]))
    places = {slot: place for place, slot in enumerate(slots)}
    with written(path) as temporary, temporary.open("wb") as file:
        for (per, _), pack in packs(list(slots)).items():
            rows = items if per == "item" else slice(mine.start, mine.stop)
            step = max(1, _BLOCK // sum(slot.width for slot in pack))
            for first in range(rows.start, rows.stop, step):
                some = slice(first, min(first + step, rows.stop))
                columns = [np.load(_file(work, places[slot]), mmap_mode="r")[some] for slot in pack]
                block = np.concatenate([column.reshape(len(column), slot.width)
                                        for column, slot in zip(columns, pack, strict=True)], axis=1)
                file.write(np.ascontiguousarray(block).data)
    found = {**facts(path), "lists": len(mine), "items": items.stop - items.start}
    write_json(record, found)
    return found


def shard_bounds(sizes: np.ndarray, shard_items: int) -> list[int]:
    """The first list of each shard, and the number of lists. A shard ends with the list that fills it.

    Args:
        sizes: the number of items of each list.
        shard_items: the number of items that fills a shard.

    >>> shard_bounds(np.array([4, 4, 4, 1, 1]), 6)
    [0, 2, 5]
    """
    ends = np.cumsum(sizes, dtype=np.int64)
    found = [0]
    while found[-1] < len(sizes):
        before = int(ends[found[-1] - 1]) if found[-1] else 0
        found.append(min(int(np.searchsorted(ends, before + shard_items)) + 1, len(sizes)))
    return found
