"""A watch time, standardised among those of equally long items."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from tfmtl2r.registry import Card
from tfmtl2r.transforms._durations import Grouped

CARD = Card(
    title="Watch-time gain (WTG)",
    paper="Zheng et al., DVR: Micro-Video Recommendation Optimizing Watch-Time-Gain under Duration Bias, MM 2022, "
    "https://arxiv.org/abs/2208.05190",
    aliases=("wtg",),
    note="for watch times: {name = \"watch_time_gain\", duration = \"duration_s\", groups = 10}",
)
__all__ = ["WatchTimeGain"]


@dataclasses.dataclass(frozen=True)
class WatchTimeGain(Grouped):
    """``(y - mean) / sd`` with mean and standard deviation of the labels of the item's group of durations.

    A group whose labels are all equal has a gain of 0. Metrics and ``value_<task>`` are in this unit; :meth:`back`
    converts a gain to the unit of the label. Gains are negative, so that the task must be a regression.

    Args:
        means, sds: statistics of each group (the deviation is divided by n); fitted if not given.

    >>> watch, seconds = np.array([2.0, 4, 4, 8, 10, 20, 30, 60]), np.repeat([5.0, 50.0], 4)
    >>> fitted = WatchTimeGain("s", groups=2).fit(watch, None, {"s": seconds})
    >>> fitted.apply(watch, {"s": seconds}).round(4).tolist()[:4]
    [-1.1471, -0.2294, -0.2294, 1.6059]
    >>> fitted.back(np.array([0.0, 1.0]), {"s": np.array([5.0, 50.0])}).round(4).tolist()
    [4.5, 48.7083]

    Source: see ``CARD``.
    """

    fitted = ("edges", "means", "sds")
    unit = "standard deviations from the mean label of a similar {}"

    means: tuple[float, ...] | None = None
    sds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("means", "sds"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))

    def with_groups(self, groups: list[tuple[np.ndarray, np.ndarray]]) -> Self:
        means = [float(np.average(labels, weights=weights)) for labels, weights in groups]
        sds = [float(np.sqrt(np.average((labels - mean) ** 2, weights=weights)))
               for (labels, weights), mean in zip(groups, means, strict=True)]
        sds = [sd if sd > 1e-9 * abs(mean) else 0.0 for sd, mean in zip(sds, means, strict=True)]
        return dataclasses.replace(self, means=tuple(means), sds=tuple(sds))

    def apply(self, labels: np.ndarray, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        def gain(group: int, values: np.ndarray) -> np.ndarray:
            mean, sd = self._statistics(group)
            return (values - mean) / sd if sd else np.zeros(len(values))

        return self.by_group(labels, columns, gain)

    def back(self, values: np.ndarray, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        def label(group: int, gains: np.ndarray) -> Any:
            mean, sd = self._statistics(group)
            return mean + sd * gains

        return self.by_group(values, columns, label)

    def _statistics(self, group: int) -> tuple[float, float]:
        assert self.means is not None  # group() raises before
        assert self.sds is not None
        return self.means[group], self.sds[group]
