"""Grades of a label by quantiles of the training split."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Self

import numpy as np

from tfmtl2r.errors import InputError
from tfmtl2r.registry import Card
from tfmtl2r.transforms.base import Transform, quantile

CARD = Card(title="Quantile grades", note="grades 0, 1, 2, ... of equal frequency: {name = \"grades\", grades = 4}")
__all__ = ["Grades"]
log = logging.getLogger("tfmtl2r")


@dataclasses.dataclass(frozen=True)
class Grades(Transform):
    """The number of edges that are strictly below a label. The G - 1 edges are quantiles of the training split.

    A value that equals an edge has the lower grade: if half of the labels are 0, these have the grade 0. Equal edges
    are dropped, and the log contains how many grades remain.

    Args:
        grades: number G of grades, 2 to 31.
        zeros_apart: give the grade 0 to labels of 0 and less, and grades 1 to G - 1 by quantiles of the labels above 0.
        edges: increasing bounds between the grades; fitted if not given.

    Raises:
        ValueError: for another number of grades.

    >>> label = np.array([0.0, 0, 0, 0, 1, 2, 3, 5, 8, 20])
    >>> Grades().fit(label, None).edges, Grades().fit(label, None).apply(label, {}).astype(int).tolist()
    ((0.0, 1.5, 4.5), [0, 0, 0, 0, 1, 2, 2, 3, 3, 3])
    """

    fitted = ("edges",)
    unit = "a grade"

    grades: int = 4
    zeros_apart: bool = False
    edges: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.grades <= 31:
            raise InputError(f"grades must be 2 to 31 grades, not {self.grades}: gains are 2^grade - 1")
        if self.edges is not None:
            edges = tuple(sorted(set(self.edges)))
            object.__setattr__(self, "edges", edges)

    def fit(
        self, labels: np.ndarray, weights: np.ndarray | None, columns: Mapping[str, np.ndarray] | None = None
    ) -> Self:
        if self.edges is not None:
            return self
        first: list[float] = []
        count = self.grades
        if self.zeros_apart:
            above, first, count = labels > 0, [0.0], self.grades - 1
            if not above.any():
                raise InputError("grades with zeros_apart need a label above 0 in the training split")
            labels, weights = labels[above], None if weights is None else weights[above]
        shares = [i / count for i in range(1, count)]
        edges = [*first, *(quantile(labels, shares, weights).tolist() if shares else [])]
        fitted = dataclasses.replace(self, edges=tuple(edges))
        assert fitted.edges is not None
        # An edge that no label exceeds is no bound between two grades either.
        left = 1 + sum(edge < labels.max() for edge in fitted.edges)
        if left < self.grades:
            log.warning("grades: edges of the training split are equal, so that %d of %d grades remain", left,
                        self.grades)
        return fitted

    def apply(self, labels: np.ndarray, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        if self.edges is None:
            raise InputError("grades have no edges yet: they come from the training split (tfmtl2r.data.fit_tasks)")
        found = np.searchsorted(np.asarray(self.edges), labels, side="left").astype(np.float64)
        return np.where(np.isnan(labels), np.nan, found)  # searchsorted puts NaN above all edges
