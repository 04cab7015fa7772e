"""Groups of items by their duration, for labels that are compared with those of equally long items."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from tfmtl2r.errors import InputError, not_defined
from tfmtl2r.transforms.base import Transform, quantile


@dataclasses.dataclass(frozen=True)
class Grouped(Transform):
    """A transform with statistics of each of several equally frequent groups of durations.

    The G - 1 edges are quantiles of the durations of the training split; equal edges are dropped. The group of an item
    is the number of edges strictly below its duration. Without a duration above 0 the label is missing.

    Args:
        duration: the column with the duration. It may be a feature, too.
        groups: number G of groups.
        edges: increasing bounds between the groups; fitted if not given.

    Raises:
        ValueError: for less than one group.
    """

    fitted: ClassVar[tuple[str, ...]] = ("edges",)

    duration: str
    groups: int = 10
    edges: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise InputError(f"{type(self).__name__}: groups must be at least 1, not {self.groups!r}")
        if self.edges is not None:
            object.__setattr__(self, "edges", tuple(sorted(set(self.edges))))

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.duration,)

    def fit(
        self, labels: np.ndarray, weights: np.ndarray | None, columns: Mapping[str, np.ndarray] | None = None
    ) -> Self:
        if self.edges is not None:
            return self
        duration = (columns or {})[self.duration]
        there = duration > 0
        if not there.any():
            raise InputError(f"no row with a label has a {self.duration!r} above 0 in the training split")
        labels, duration = labels[there], duration[there]
        weights = np.ones(len(labels)) if weights is None else weights[there]
        edges = quantile(duration, [i / self.groups for i in range(1, self.groups)], weights)
        grouped = dataclasses.replace(self, edges=tuple(edges.tolist()))
        group = grouped.group(duration)
        # A group that no item is in has the statistics of the next one that has items.
        filled = np.unique(group)
        nearest = filled[np.minimum(np.searchsorted(filled, np.arange(len(grouped.edges or ()) + 1)), len(filled) - 1)]
        return grouped.with_groups([(labels[group == one], weights[group == one]) for one in nearest])

    def with_groups(self, groups: list[tuple[np.ndarray, np.ndarray]]) -> Self:
        """Returns the transform with the statistics of the labels and weights of each group."""
        raise not_defined(self, "with_groups")

    def group(self, duration: np.ndarray) -> np.ndarray:
        """The group of each duration, ``int64[N]``."""
        if self.edges is None:
            raise InputError(f"{type(self).__name__} has no groups yet: they come from the training split "
                             "(tfmtl2r.data.fit_tasks)")
        found: np.ndarray = np.searchsorted(np.asarray(self.edges), duration, side="left")
        return found

    def by_group(self, values: np.ndarray, columns: Mapping[str, np.ndarray], convert: Any) -> np.ndarray:
        """Converts the values of each group; NaN without a duration above 0.

        Args:
            values: ``float64[N]``.
            columns: the durations.
            convert: function of a group's number and its values.
        """
        duration = columns[self.duration]
        found = np.full(len(values), np.nan)
        there = (duration > 0) & ~np.isnan(values)
        group = self.group(duration)
        for one in np.unique(group[there]):
            mine = there & (group == one)
            found[mine] = convert(int(one), values[mine])
        return found
