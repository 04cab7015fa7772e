"""The rank of a watch time among those of equally long items."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Self

import numpy as np

from tfmtl2r.registry import Card
from tfmtl2r.transforms._durations import Grouped

CARD = Card(
    title="Quantile within a duration group (D2Q)",
    paper="Zhan et al., Deconfounding Duration Bias in Watch-time Prediction for Video Recommendation, KDD 2022, "
    "https://arxiv.org/abs/2206.06003",
    aliases=("d2q",),
    note="for watch times: {name = \"duration_quantile\", duration = \"duration_s\", groups = 10}",
)
__all__ = ["DurationQuantile"]
POINTS = 200
"""The largest number of values of a group's table."""


@dataclasses.dataclass(frozen=True)
class DurationQuantile(Grouped):
    """``q = (less + equal / 2) / n`` among the labels of the item's group of durations, a number from 0 to 1.

    Between the labels of the training split, q is interpolated; outside of them, it is constant. A group whose labels
    are all equal has q = .5. Labels ``value_<task>`` and metrics are in this unit; :meth:`back` converts q to the unit
    of the label by the table of the item's own group.

    Args:
        tables: for each group, labels and their q, both increasing; fitted if not given. A table contains at most 200
            labels.

    >>> watch, seconds = np.array([2.0, 4, 4, 8, 10, 20, 30, 60]), np.repeat([5.0, 50.0], 4)
    >>> fitted = DurationQuantile("s", groups=2).fit(watch, None, {"s": seconds})
    >>> fitted.apply(watch, {"s": seconds}).tolist()
    [0.125, 0.5, 0.5, 0.875, 0.125, 0.375, 0.625, 0.875]
    >>> fitted.back(np.array([0.5, 0.5]), {"s": np.array([5.0, 50.0])}).tolist()
    [4.0, 25.0]

    Source: see ``CARD``.
    """

    fitted = ("edges", "tables")
    unit = "a quantile, 0 to 1, among labels of a similar {}"

    tables: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tables is not None:
            tables = tuple((tuple(labels), tuple(shares)) for labels, shares in self.tables)
            object.__setattr__(self, "tables", tables)

    def with_groups(self, groups: list[tuple[np.ndarray, np.ndarray]]) -> Self:
        tables = []
        for labels, weights in groups:
            found, place = np.unique(labels, return_inverse=True)
            mass = np.bincount(place, weights)
            shares = (np.cumsum(mass) - mass / 2) / mass.sum()
            kept = np.unique(np.linspace(0, len(found) - 1, min(POINTS, len(found))).round().astype(int))
            tables.append((tuple(found[kept].tolist()), tuple(shares[kept].tolist())))
        return dataclasses.replace(self, tables=tuple(tables))

    def apply(self, labels: np.ndarray, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        return self.by_group(labels, columns, lambda group, values: np.interp(values, *self._table(group)))

    def back(self, values: np.ndarray, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        return self.by_group(values, columns, lambda group, shares: np.interp(shares, *self._table(group)[::-1]))

    def _table(self, group: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        assert self.tables is not None  # group() raises before
        return self.tables[group]
