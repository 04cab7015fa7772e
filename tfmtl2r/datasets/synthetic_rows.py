"""Plain rows with two or more related regression tasks, as in the MMoE paper."""

from __future__ import annotations

import dataclasses

from tfmtl2r.data.lists import Lists
from tfmtl2r.data.synthetic import mmoe_rows
from tfmtl2r.datasets.base import DataSet
from tfmtl2r.errors import InputError
from tfmtl2r.registry import Card
from tfmtl2r.task import Task

CARD = Card(
    title="Synthetic rows with a given task correlation",
    paper="Ma et al., Modeling Task Relationships in Multi-task Learning with MMoE, KDD 2018, "
    "https://doi.org/10.1145/3219819.3220007",
    note="plain rows without lists; the correlation is the cosine of the tasks' directions, not of their labels",
)
__all__ = ["SyntheticRows"]


@dataclasses.dataclass(frozen=True)
class SyntheticRows(DataSet):
    """Rows with one feature vector and a regression label per task; see :func:`tfmtl2r.data.synthetic.mmoe_rows`.

    Args:
        rows: number of training rows; vali and test each have a quarter of it.
        correlation: cosine between the directions of any two tasks, from -1 / (num_tasks - 1) to 1.
        num_tasks: number of tasks T.
        dim: length of the feature vector.
        seed: seed of all random numbers.

    Raises:
        ValueError: for a number out of its range.

    >>> SyntheticRows(rows=8, dim=4).lists("train").columns["features"].shape
    (8, 4)
    """

    rows: int = 10_000
    correlation: float = 0.5
    num_tasks: int = 2
    dim: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rows < 4:
            raise InputError(f"rows must be at least 4, not {self.rows}")

    def tasks(self) -> tuple[Task, ...]:
        """``task_1`` to ``task_T``, all regression."""
        return tuple(Task(f"task_{t + 1}", f"label_{t + 1}", "regression") for t in range(self.num_tasks))

    def read(self, split: str) -> Lists:
        rows = self.rows if split == "train" else self.rows // 4
        return mmoe_rows(rows, num_tasks=self.num_tasks, correlation=self.correlation, dim=self.dim, seed=self.seed,
                         split=split)
