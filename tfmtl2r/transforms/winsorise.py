"""A label whose extreme values are replaced by quantiles of the training split."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal, Self

import numpy as np

from tfmtl2r.errors import InputError
from tfmtl2r.registry import Card
from tfmtl2r.transforms.base import Reversible, quantile
from tfmtl2r.transforms.clip import clipped
from tfmtl2r.types import Tensor

CARD = Card(title="Winsorised label", note="clips at quantiles of the training split: {name = \"winsorise\", "
            "upper = 0.95}")
__all__ = ["Winsorise"]


@dataclasses.dataclass(frozen=True)
class Winsorise(Reversible):
    """``min(max(y, q_lower), q_upper)`` with quantiles of the training split, weighted if the rows have weights.

    Args:
        lower: share of the lower quantile; None for no bound below.
        upper: share of the upper quantile; None for no bound above.
        method: method of ``numpy.quantile`` for rows without weights. With few rows, "linear" mixes an outlier into the
            bound, and "lower" does not.
        edges: the two bounds, of which one may be None; fitted if not given.

    Raises:
        ValueError: without a share, or for shares that do not increase from 0 to 1.

    >>> Winsorise(0.1, 0.9).fit(np.array([0.0, 1, 2, 3, 4, 5, 6, 7, 8, 100]), None).edges
    (0.9, 17...)
    """

    fitted = ("edges",)

    lower: float | None = None
    upper: float | None = 0.99
    method: Literal["linear", "lower", "higher", "nearest", "hazen", "median_unbiased"] = "linear"
    edges: tuple[float | None, float | None] | None = None

    def __post_init__(self) -> None:
        shares = [share for share in (self.lower, self.upper) if share is not None]
        if not shares or not all(0 <= share <= 1 for share in shares) or shares != sorted(set(shares)):
            raise InputError("winsorise needs lower, upper or both, from 0 to 1 and in this order, such as {name = "
                             f"\"winsorise\", upper = 0.95}}; got lower={self.lower}, upper={self.upper}")
        if self.edges is not None:
            object.__setattr__(self, "edges", tuple(self.edges))

    def fit(
        self, labels: np.ndarray, weights: np.ndarray | None, columns: Mapping[str, np.ndarray] | None = None
    ) -> Self:
        if self.edges is not None:
            return self
        edges = [None if share is None else float(quantile(labels, [share], weights, self.method)[0])
                 for share in (self.lower, self.upper)]
        return dataclasses.replace(self, edges=(edges[0], edges[1]))

    def forward(self, labels: Tensor) -> Tensor:
        if self.edges is None:
            raise InputError("winsorise has no edges yet: they come from the training split (tfmtl2r.data.fit_tasks)")
        return clipped(labels, *self.edges)

    def inverse(self, values: Tensor) -> Tensor:
        return values
