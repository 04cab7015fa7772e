"""The epoch of a pass over a data set.

A data set cannot know whether a pass over it is an epoch of a training, a look at the first batch or an evaluation. The
training therefore owns the number of the epoch, and a data set asks for it at the start of each pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

_ATTRIBUTE = "tfmtl2r_passes"


class Passes:
    """The number of the epoch that the next pass over a data set reads.

    Args:
        epoch: the number of the epoch of every pass, or a function that returns it. None stands for the epoch of the
            training that reads the data (:func:`following`), and for 0 outside of trainings.
    """

    def __init__(self, epoch: int | Callable[[], int] | None):
        self.leader: Callable[[], int] | None = None
        self._epoch = epoch

    def __call__(self) -> int:
        """The number for a pass that starts now."""
        if self._epoch is None:
            return 0 if self.leader is None else int(self.leader())
        return int(self._epoch()) if callable(self._epoch) else int(self._epoch)

    def mark(self, data: Any) -> Any:
        """Makes :func:`following` find this object in a data set, and in data sets that are made from it."""
        setattr(data, _ATTRIBUTE, self)
        return data


@contextlib.contextmanager
def following(data: Any, epoch: Callable[[], int]) -> Iterator[None]:
    """While the context is open, passes over a data set have the epoch of a training.

    Args:
        data: a data set of :func:`tfmtl2r.data.batches`, or a data set that ``map``, ``take`` and the like made from
            it. Other data have no epochs, and are not changed.
        epoch: returns the number of the epoch.
    """
    found = _passes(data)
    before = [passes.leader for passes in found]
    for passes in found:
        passes.leader = epoch
    try:
        yield
    finally:
        for passes, leader in zip(found, before, strict=True):
            passes.leader = leader


def is_unchanged(data: Any) -> bool:
    """Whether a data set is one of :func:`tfmtl2r.data.batches` itself, and not made from it."""
    return isinstance(getattr(data, _ATTRIBUTE, None), Passes)


def _passes(data: Any) -> list[Passes]:
    """The objects in the data set and in all data sets that it reads."""
    waiting, found = [data], []
    while waiting:
        one = waiting.pop()
        if isinstance(passes := getattr(one, _ATTRIBUTE, None), Passes):
            found.append(passes)
        if original := getattr(one, "_original_dataset", None):  # of a data set that a strategy has distributed
            waiting.append(original)
        elif inputs := getattr(one, "_inputs", None):
            waiting += inputs()
    return found
