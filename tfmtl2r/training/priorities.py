"""Constraints on losses, and the stages that result from constraints or priorities."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfmtl2r.errors import InputError
from tfmtl2r.names import did_you_mean


@dataclasses.dataclass(frozen=True)
class Constraint:
    """An upper bound on a task's training loss: ``at_most``, or ``best + relative |best| + absolute``.

    Args:
        relative: allowed increase above the task's best loss, relative to the best loss.
        absolute: allowed increase above the task's best loss, in units of the loss.
        at_most: the bound itself. No stage is then needed to find the best loss.

    Raises:
        ValueError: for a number that is negative or not finite, or ``at_most`` together with another field.

    >>> Constraint(relative=.01).bound(2.)
    2.02
    >>> Constraint.read("1%"), Constraint.read("+0.5"), Constraint.read(0.7).at_most
    (Constraint(relative=0.01, absolute=0.0, at_most=None), Constraint(relative=0.0, absolute=0.5, at_most=None), 0.7)
    """

    relative: float = 0.0
    absolute: float = 0.0
    at_most: float | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.relative < math.inf and 0 <= self.absolute < math.inf):
            raise InputError(f"a constraint needs finite numbers >= 0, not relative={self.relative} and "
                             f"absolute={self.absolute}")
        if self.at_most is not None and (not math.isfinite(self.at_most) or self.relative or self.absolute):
            raise InputError(f"at_most={self.at_most} must be a finite number, without relative and absolute")

    @classmethod
    def read(cls, text: Any) -> Constraint:
        """A constraint from its short form or from a mapping of its fields.

        The short forms are ``"1%"`` or ``"+0.02"`` above the task's best loss, or a number, the bound itself.

        Raises:
            ValueError: for any other text.
        """
        if isinstance(text, Constraint):
            return text
        if isinstance(text, Mapping):
            return cls(**text)
        short = str(text).strip()
        try:
            value = float(short.removesuffix("%"))
        except ValueError:
            raise InputError(f"a constraint is '1%' or '+0.02' (above the task's best loss) or a number (the highest "
                             f"loss allowed), not {text!r}") from None
        if short.endswith("%"):
            return cls(relative=value / 100)
        return cls(absolute=value) if short.startswith("+") else cls(at_most=value)

    def bound(self, best: float) -> float:
        """The bound for a given best loss."""
        return self.at_most if self.at_most is not None else best + self.relative * abs(best) + self.absolute


@dataclasses.dataclass(frozen=True)
class Plan:
    """Stages in order.

    Args:
        levels: for each stage, the positions of the tasks that it minimises.
        constraints: position of a task -> its constraint in the stages after its own. A constraint with ``at_most``
            holds from the first stage on.
    """

    levels: tuple[tuple[int, ...], ...]
    constraints: dict[int, Constraint]


def prioritised(levels: Iterable[int], tolerance: float) -> Plan:
    """Plans one stage per level of priority, with a bound on the loss of each earlier task.

    Args:
        levels: level of each task, 0 for the most important.
        tolerance: allowed increase above the loss that a task reached in its stage, relative to this loss.
    """
    levels = [*map(int, levels)]
    stages = [tuple(task for task, own in enumerate(levels) if own == level) for level in sorted(set(levels))]
    return Plan(tuple(stages), {task: Constraint(relative=tolerance) for stage in stages[:-1] for task in stage})


def constrained(names: Sequence[str], constraints: Mapping[str, Any]) -> Plan:
    """Plans one stage per constraint that is relative to a task's best loss, and one for all tasks without constraint.

    Args:
        names: names of all tasks.
        constraints: task -> constraint or its short form.
    """
    positions = {name: position for position, name in enumerate(names)}
    read: dict[int, Constraint] = {}
    for name, constraint in constraints.items():
        if name not in positions:
            raise InputError(f"constraint on an unknown task {name!r}{did_you_mean(name, names)}; the tasks: "
                             f"{', '.join(names)}")
        try:
            read[positions[name]] = Constraint.read(constraint)
        except ValueError as error:
            raise InputError(f"constraint on task {name!r}: {error}") from error
    goals = tuple(task for task in range(len(names)) if task not in read)
    if not goals:
        raise InputError(f"all tasks ({', '.join(names)}) are constrained: leave at least one to minimise")
    own = [(task,) for task, constraint in read.items() if constraint.at_most is None]
    return Plan((*own, goals), read)
