"""The share of a duration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tfmtl2r.errors import InputError
from tfmtl2r.registry import Card
from tfmtl2r.transforms.base import Transform

CARD = Card(title="Ratio to a duration", note="for watch times: {name = \"ratio\", duration = \"duration_s\", cap = 5}")
__all__ = ["Ratio"]


@dataclasses.dataclass(frozen=True)
class Ratio(Transform):
    """``min(y / duration, cap)``. Without a duration above 0 the label is missing, not 0.

    The ratio favours short items as the watch time favours long items. Both columns have the same unit. Metrics and
    ``value_<task>`` are ratios; :meth:`back` multiplies a ratio by the duration.

    Args:
        duration: the column with the duration. It may be a feature, too.
        cap: the highest ratio, such as 1 for completion, or 5 to keep replays; None for no bound.

    Raises:
        ValueError: for a cap that is not a finite number above 0.

    >>> Ratio("seconds", cap=1).apply(np.array([3.0, 30.0, 5.0]), {"seconds": np.array([10.0, 20.0, 0.0])}).tolist()
    [0.3, 1.0, nan]
    """

    unit: ClassVar[str] = "a share of {}"

    duration: str
    cap: float | None = None

    def __post_init__(self) -> None:
        if self.cap is not None and not 0 < self.cap < np.inf:
            raise InputError(f"ratio: cap must be a finite number above 0, or left out, not {self.cap!r}")

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.duration,)

    def apply(self, labels: np.ndarray, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        duration = columns[self.duration]
        there = duration > 0
        ratio = np.where(there, labels / np.where(there, duration, 1.0), np.nan)
        return ratio if self.cap is None else np.minimum(ratio, self.cap)

    def back(self, values: np.ndarray, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        duration = columns[self.duration]
        return np.where(duration > 0, values * duration, np.nan)
