"""Plain rows with a primary and an auxiliary binary task that cooperate or conflict, as in the DRGrad paper."""

from __future__ import annotations

import dataclasses

from tfmtl2r.data.conflict import conflict_rows
from tfmtl2r.data.lists import Lists
from tfmtl2r.datasets.base import DataSet
from tfmtl2r.errors import InputError
from tfmtl2r.registry import Card
from tfmtl2r.task import Task

CARD = Card(
    title="Synthetic rows with cooperating or conflicting tasks",
    paper="Liu et al. 2025, Direct Routing Gradient, https://arxiv.org/abs/2510.09643",
    note="plain rows without lists; mix='literal' is the recipe of the paper, where only the sign of the cosine has an "
    "effect",
)
__all__ = ["SyntheticConflict"]


@dataclasses.dataclass(frozen=True)
class SyntheticConflict(DataSet):
    """Rows with one feature vector and two binary labels; see :func:`tfmtl2r.data.conflict.conflict_rows`.

    Args:
        rows: number of training rows (100,000 in the paper); vali and test each have a tenth of it.
        cosine: from -1 (conflict) to 1 (cooperation).
        mix: ``"orthogonal"`` (gradual) or ``"literal"`` (as printed in the paper).
        seed: seed of all random numbers.

    Raises:
        ValueError: for a number out of its range or an unknown mix.

    >>> SyntheticConflict(rows=20).lists("vali").columns["label_1"].shape
    (2,)
    """

    rows: int = 20_000
    cosine: float = 0.5
    mix: str = "orthogonal"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rows < 20:
            raise InputError(f"rows must be at least 20, not {self.rows}")

    def tasks(self) -> tuple[Task, ...]:
        """``label1``, the primary task, and ``label2``, the auxiliary task."""
        return (Task("label1", "label_1", "binary"), Task("label2", "label_2", "binary"))

    def read(self, split: str) -> Lists:
        rows = self.rows if split == "train" else self.rows // 10
        return conflict_rows(rows, cosine=self.cosine, mix=self.mix, seed=self.seed, split=split)
