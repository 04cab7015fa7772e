"""What the ranker is trained for: one :class:`Task` per goal."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

from tfmtl2r.errors import InputError
from tfmtl2r.names import checked_task

KINDS = ("binary", "graded", "regression")


@dataclasses.dataclass(frozen=True)
class Task:
    """One goal of a ranker.

    Args:
        name: names the score, the metrics and the exported outputs; letters, digits and underscores.
        label: the column that holds the label; the name of the task if not given.
        kind: ``"binary"`` (0 or 1), ``"graded"`` (relevance grades 0, 1, 2, ...) or ``"regression"`` (any number).
            A missing label is NaN; for binary and graded tasks a negative number too.
        loss: name of a loss, ``{"name": ..., option: value}``, or a ready one; by default softmax for binary and
            graded lists, binary cross-entropy for binary rows, mean squared error for the rest.
        metrics: names such as ``"ndcg@5"``, or ready metrics; by default NDCG@5 and, for binary tasks, AUC on lists.
        weight: importance, the default preference of every method; >= 0.
        priority: 1 is the most important; used by prioritised training only.

    Raises:
        ValueError: for a name that cannot be an output or that logs and exports use themselves
            (:func:`tfmtl2r.names.checked_task`), an unknown kind, or a weight that is not a finite number >= 0.

    >>> Task("click", label="is_click", kind="binary").label
    'is_click'
    """

    name: str
    label: str = ""
    kind: str = "graded"
    loss: Any = None
    metrics: tuple[Any, ...] | None = None
    weight: float = 1.0
    priority: int | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z]\w*", checked_task(self.name)):
            raise InputError(f"task name {self.name!r}: expected a letter, then letters, digits or underscores")
        if self.kind not in KINDS:
            raise InputError(f"task {self.name!r}: kind must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise InputError(f"task {self.name!r}: weight must be a finite number >= 0, not {self.weight!r}")
        if self.priority is not None and self.priority < 1:
            raise InputError(f"task {self.name!r}: priority must be 1 (most important) or more, not {self.priority!r}")
        object.__setattr__(self, "label", self.label or self.name)
        if self.metrics is not None:
            object.__setattr__(self, "metrics", tuple(self.metrics))


def validated(tasks: Any) -> tuple[Task, ...]:
    """The tasks as a tuple; at least one, with distinct names, not all of weight 0.

    Raises:
        ValueError: otherwise, naming the offender.
    """
    tasks = tuple(Task(t) if isinstance(t, str) else t for t in tasks)
    names = [task.name for task in tasks]
    if not names:
        raise InputError("a ranker needs at least one task")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"two tasks are called {twice[0]!r}; names must differ")
    if not any(task.weight > 0 for task in tasks):
        raise InputError("all task weights are 0; at least one must be above 0")
    return tasks
