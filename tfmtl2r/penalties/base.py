"""Base class of penalties: a term of the training objective that reads the scores of several tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from tfmtl2r.errors import InputError, not_defined
from tfmtl2r.types import Mask, Tensor


@dataclasses.dataclass(frozen=True)
class Penalty:
    """Base class of all penalties.

    A training step adds ``weight * sum / count`` to its objective, with sum and count over the whole batch. The
    balancing method neither sees nor weighs the term. A task without labels in a batch stays absent for the method.

    Args:
        weight: factor of the term, above 0.

    Raises:
        ValueError: for a weight that is not above 0.
    """

    weight: float = dataclasses.field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise InputError(f"{type(self).__name__}: weight must be above 0, not {self.weight!r}")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that the penalty reads."""
        raise not_defined(self, "tasks")

    @property
    def probabilities(self) -> tuple[str, ...]:
        """Names of the tasks of whose scores the penalty uses ``sigmoid(score)`` as a probability; none by default.

        These tasks must be binary, with a loss whose link is the sigmoid.
        """
        return ()

    def fit(self, labels: Mapping[str, Any]) -> Self:
        """Returns the penalty with numbers that are counted on the training split; by default itself.

        Args:
            labels: the labels of the tasks that the penalty reads, by name, each ``[N]``; NaN is missing.
        """
        return self

    def check(self) -> None:
        """Checks before training that all numbers are known; by default there is nothing to fit.

        Raises:
            ValueError: for a penalty that must be fitted first.
        """

    def compute(
        self, scores: Mapping[str, Tensor], labels: Mapping[str, Tensor], valid: Mask
    ) -> tuple[Tensor, Tensor]:
        """Sum and count of the term over a batch, both ``float32[]``.

        Args:
            scores: the raw scores of every task, ``float32[B, L]``. Plain rows are lists of one item.
            labels: the labels of every task, ``float32[B, L]``; NaN is missing.
            valid: ``bool[B, L]``, False for padding.
        """
        raise not_defined(self, "compute")
