"""What losses over pairs of items take in memory, compared before the training with the memory that is available."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfmtl2r import losses
from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.losses.base import Loss
from tfmtl2r.task import Task
from tfmtl2r.training.readings import loss_of

__all__ = ["available", "check_data", "check_memory"]
WORTH = 2**30
"""Bytes from which on a training says what its losses take."""
_CGROUPS = (("memory.max", "memory.current", "memory.stat"),
            ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"))
"""The files with the limit and the use of the memory of a container, in both versions of Linux's cgroups."""
log = logging.getLogger("tfmtl2r")


def check_memory(tasks: Sequence[Task], lists: int, longest: int, *, warn: bool = True) -> None:
    """Compares what the pairs of items take in a training step with the memory that is available.

    The estimate is an upper bound. Tasks with the same loss are computed together, so that their lists count as those
    of one batch; the losses of different groups may be computed at the same time.

    Args:
        tasks: the tasks.
        lists: number of lists of a batch.
        longest: number of items of the longest list.
        warn: whether an estimate of 1 GiB or more that fits is logged.

    Raises:
        InputError: if the losses may take more than the available memory.
    """
    shares: dict[Loss, list[str]] = {}
    for task in tasks:
        shares.setdefault(loss_of(task, has_lists=True), []).append(task.name)
    taken = {loss: loss.memory(lists * len(names), longest) for loss, names in shares.items()}
    whole, free = sum(taken.values()), available()
    if whole < WORTH and (free is None or whole <= free):
        return
    parts = "; ".join(f"task{'s' * (len(names) > 1)} {', '.join(names)} with the loss "
                      f"{losses.registry.name_of(type(loss))}: {_gib(taken[loss])}"
                      for loss, names in shares.items() if taken[loss])
    smaller = sum(loss.memory(len(names), longest) for loss, names in shares.items())
    batch = "make training.batch_size smaller, " if smaller < whole else ""
    text = (f"the losses compare all pairs of the items of a list, and for lists of {longest} items in batches of "
            f"{lists} lists they take up to {_gib(whole)} of memory ({parts}). "
            f"{'Available memory: ' + _gib(free) + '. ' if free is not None else ''}To need less, cut the lists "
            f"(data.max_list_size, or list_limit of batches), {batch}or choose a loss whose memory does not grow with "
            "the pairs, such as softmax")
    if free is not None and whole > free:
        raise InputError(text)
    if warn:
        log.warning("%s", text)


def check_data(model: Any, *data: Any) -> None:
    """Calls :func:`check_memory` for the largest batches of data sets of :func:`tfmtl2r.data.batches`.

    Args:
        model: a ranker. Its losses see a list once for each member of an ensemble.
        data: the data sets. Other data do not tell how large their batches are, and are not checked.
    """
    found = [one.largest for one in data if hasattr(one, "largest")]
    if found and model.has_lists is not False:
        lists, longest = (max(sizes) for sizes in zip(*found, strict=True))
        check_memory(model.tasks, -(-lists // model.parts_of_a_batch) * model.num_members, longest)


def available() -> int | None:
    """The bytes that this process can still take on this machine and in its container.

    None if this is not known: where the system is not Linux, or where a GPU with memory of its own computes.
    """
    if tf.config.list_physical_devices("GPU"):
        return None
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    except OSError:
        return None
    free = 1024 * int(lines["MemAvailable"].split()[0])
    for names in _CGROUPS:
        try:
            limit, used, stat = (Path("/sys/fs/cgroup", name).read_text(encoding="ascii") for name in names)
            # Files that were read and can be forgotten count as used.
            kept = {key: int(value) for key, value in (line.split() for line in stat.splitlines())}
            free = min(free, max(int(limit) - int(used) + kept.get("inactive_file", 0), 0))
        except (OSError, ValueError):  # no container of this version, or "max" for no limit
            continue
    return free


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
