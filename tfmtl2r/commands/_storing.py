"""Makes a store of the data of an experiment file (``tfmtl2r prepare EXPERIMENT.toml --to FOLDER``)."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmtl2r.errors import InputError

if TYPE_CHECKING:
    from tfmtl2r.data.store.manifest import Manifest
    from tfmtl2r.experiment import Experiment
    from tfmtl2r.task import Task

SHARD_ITEMS = 1 << 17


def store(experiment: Experiment, folder: Path, shard_items: int = SHARD_ITEMS) -> Manifest:
    """Makes the store, or continues a preparation that was interrupted.

    Args:
        experiment: its files, features and tasks.
        folder: an empty or missing folder, or one with the same preparation.
        shard_items: a shard ends with the list that reaches this number of items.

    Raises:
        ValueError: for a registered data set, or a folder with something else.
    """
    from tfmtl2r.data.leaks import suspected_leaks
    from tfmtl2r.data.store.writing import begin, write_store
    from tfmtl2r.data.targets import fit_tasks
    from tfmtl2r.datasets.store import Store
    from tfmtl2r.datasets.table import Table

    dataset = experiment.dataset()
    if not isinstance(dataset, Table) or isinstance(dataset, Store):
        raise InputError("prepare --to makes a store of files of your own (data.files, or data.train, vali and test), "
                         "not of a registered data set or of another store")
    if shard_items < 1:
        raise InputError(f"--shard-items must be at least 1, not {shard_items}")
    preparation = dataset.preparation(shard_items)
    if (whole := begin(folder, preparation)) is not None:
        return whole
    given = _tasks(experiment, dataset)
    tasks = fit_tasks(dataset.lists("train"), given)
    schema = dataset.schema(tasks)
    dataset.check(tasks, schema)
    print(*(f"  {line}\n" for line in suspected_leaks(dataset.lists("train"), schema, tasks)), sep="", end="")
    splits = {split: functools.partial(dataset.lists, split) for split in dataset.splits}
    about = {split: dataset.about(split) for split in dataset.splits}
    return write_store(folder, preparation, splits, list(zip(given, tasks, strict=True)), schema, about)


def _tasks(experiment: Experiment, dataset: Any) -> list[Task]:
    """All tasks of the experiment, trained or not."""
    chosen = experiment.select(dataset)
    names = [task.name for task in chosen]
    return [*chosen, *(task for task in dataset.tasks() if task.name not in names)]


def lines(manifest: Manifest) -> Iterator[str]:
    """What a store contains, as lines of text."""
    for split, about in manifest.content["splits"].items():
        size = f"{about['lists']} rows" if about["is_rows"] else f"{about['lists']} lists, {about['items']} items"
        megabytes = sum(one["bytes"] for one in about["files"]) / 2**20
        yield f"{split} split: {size} in {len(about['shards'])} shards, {megabytes:.1f} MiB"
