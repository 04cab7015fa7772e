"""STL: train one task alone."""

from __future__ import annotations

import dataclasses

from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import Scalarisation, Signals, State
from tfmtl2r.registry import Card
from tfmtl2r.types import Losses, Tensor

__all__ = ["STL"]

CARD = Card(
    title="STL (single-task learning)",
    paper="Caruana 1997 (the baseline), https://doi.org/10.1023/A:1007379606734",
    promises=("has_a_main_task",),
    note="The reference for every comparison; needs one run per task.",
)


@dataclasses.dataclass(frozen=True)
class STL(Scalarisation):
    """Minimises the loss of one task, with weight 1; the losses of the others are only reported.

    A batch without this task changes nothing.

    Args:
        task: position of the task.

    >>> from tfmtl2r import methods
    >>> methods.combine(methods.get("stl", task=1), [[1., 2.], [3., 4.]]).tolist()
    [3.0, 4.0]
    """

    task: int = 0

    def __post_init__(self) -> None:
        if self.task < 0:
            raise InputError(f"stl: task must be >= 0, not {self.task}")

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """An empty state; refuses a task that does not exist."""
        if self.task >= num_tasks:
            raise InputError(f"stl: task {self.task} does not exist, there are {num_tasks} (counted from 0)")
        return {}

    def objective(self, losses: Losses, signals: Signals, state: State) -> tuple[Tensor, State]:
        """The loss of the task."""
        return losses[self.task], state
