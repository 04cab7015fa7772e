"""The workers of a run: which processes train it together, how they start, and what they leave for the run.

The workers only train (:mod:`tfmtl2r.worker`). The process that has started the chief then goes on from its last
checkpoint as if it had trained alone: it evaluates, and writes the run. Any number of workers may continue a training.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfmtl2r import cluster, plugins
from tfmtl2r.errors import InputError, WorkerError
from tfmtl2r.runs import places
from tfmtl2r.settings import Settings
from tfmtl2r.training import distributed, on_ray, processes
from tfmtl2r.training.workers import Workers
from tfmtl2r.writing import write_json

_MEASURED = "workers.json"


@dataclasses.dataclass(frozen=True)
class Team:
    """The workers of a training.

    Args:
        count: number of all workers.
        place: number of the worker that this process starts, in a cluster that has set ``TF_CONFIG``; None if this
            process starts all workers.
        on: ``training.on``, where this process starts all workers.
    """

    count: int
    place: int | None = None
    on: str = "local"

    @property
    def leads(self) -> bool:
        """Whether the chief starts here, and this process writes the run."""
        return not self.place

    def train(self, settings: Mapping[str, Any], folder: Path | None = None, verbose: int | str = 0,
              data: Mapping[str, str] | None = None) -> None:
        """Starts the workers of this process, and waits until the training has ended.

        Args:
            settings: the experiment as a tree.
            folder: the working folder of the run, in which the chief writes checkpoints and logs.
            verbose: ``verbose`` of Keras' ``fit``, for the chief.
            data: fingerprint of each split.

        Raises:
            WorkerError: if a worker ends too early.
            KeyboardInterrupt: after Ctrl-C and SIGTERM.
        """
        job = {"experiment": {**settings}, "folder": None if folder is None else str(folder), "verbose": verbose,
               "plugins": plugins.files(), "data": data}
        arguments = ["-m", "tfmtl2r.worker", json.dumps(job)]
        if self.on == "ray":
            if verbose:
                print(f"{self.count} workers on Ray; {folder}/{places.LOG} has a line for each epoch")
            on_ray.run(arguments, self.count, Path() if folder is None else folder)
            return
        command = [sys.executable, *arguments]
        if self.place is None:
            processes.run(command, processes.here(self.count))
            return
        try:
            processes.run(command, [{}], self.place, self.count)
        except WorkerError as error:
            raise WorkerError(f"{error}; if it gives no reason, another worker has ended first") from error


def of(settings: Settings) -> Team | None:
    """The team of an experiment; None if one process trains it alone.

    Raises:
        InputError: for settings that one process alone can train, or another number of workers than in ``TF_CONFIG``.
    """
    wanted, on, placed = settings.training.workers, settings.training.on, distributed.place()
    if placed is None and on == "local" and (wanted or 1) == 1:
        return None
    if placed is not None and on != "local":
        raise InputError(f"training.on is {on!r}, but {distributed.CONFIG} describes a cluster already: leave one of "
                         "them out")
    if on == "ray":
        cluster.check()
    if placed is not None and wanted not in (None, placed[1]):
        raise InputError(f"training.workers is {wanted}, but {distributed.CONFIG} has {placed[1]} workers: leave one "
                         "of them out")
    alone = {"teacher.from": settings.teacher.from_, "staged": settings.staged, "constraints": settings.in_stages,
             "ensemble.batches": settings.ensemble.draws > 1}
    for key, value in alone.items():
        if value:
            raise InputError(f"{key} is not built for several workers yet: leave it out, or train with one")
    return Team(wanted or 1, on=on) if placed is None else Team(placed[1], placed[0])


def measured(folder: Path) -> dict[str, Any]:
    """What the chief has measured: ``step_ms`` and ``peak_memory_mb``. The file is removed."""
    path = folder / places.MARK / _MEASURED
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    return found


def measure(folder: Path, values: Mapping[str, Any]) -> None:
    """Writes what the chief has measured."""
    write_json(folder / places.MARK / _MEASURED, {**values})


def same_data(workers: Workers, known: Mapping[str, str], own: Mapping[str, str]) -> None:
    """Refuses workers that read other data than the run.

    Args:
        workers: the workers.
        known: fingerprint of each split; that of the chief counts.
        own: fingerprint of each split that this worker has read.

    Raises:
        InputError: naming the split.
    """
    theirs = json.loads(workers.text_of_chief(json.dumps({**known}).encode()))
    for split, fingerprint in theirs.items():
        if own[split] != fingerprint:
            raise InputError(f"worker {workers.seat.worker} reads another {split} split than the run: all workers must "
                             "read the same data by the settings of the experiment")
