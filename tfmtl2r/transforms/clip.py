"""Bounds on a label."""

from __future__ import annotations

import dataclasses
import math

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.registry import Card
from tfmtl2r.transforms.base import Reversible
from tfmtl2r.types import Tensor

CARD = Card(title="Clipped label", note="{name = \"clip\", lower = 0, upper = 3600}, in the unit of the label")
__all__ = ["Clip"]


@dataclasses.dataclass(frozen=True)
class Clip(Reversible):
    """``min(max(y, lower), upper)``.

    Args:
        lower: the lowest label, or None.
        upper: the highest label, or None.

    Raises:
        ValueError: without a bound, for a bound that is not finite, or a lower bound above the upper bound.

    >>> import numpy as np
    >>> Clip(upper=5.0).apply(np.array([3.0, 90.0, np.nan]), {}).tolist()
    [3.0, 5.0, nan]
    """

    lower: float | None = None
    upper: float | None = None

    def __post_init__(self) -> None:
        bounds = [bound for bound in (self.lower, self.upper) if bound is not None]
        if not bounds or not all(map(math.isfinite, bounds)) or bounds != sorted(bounds):
            raise InputError("clip needs lower, upper or both, finite and in this order, such as {name = \"clip\", "
                             f"upper = 3600}}; got lower={self.lower}, upper={self.upper}")

    def forward(self, labels: Tensor) -> Tensor:
        return clipped(labels, self.lower, self.upper)

    def inverse(self, values: Tensor) -> Tensor:
        return values


def clipped(labels: Tensor, lower: float | None, upper: float | None) -> Tensor:
    """Labels between two bounds, of which either may be None; NaN stays NaN."""
    labels = labels if lower is None else tf.where(labels < lower, tf.constant(lower, labels.dtype), labels)
    return labels if upper is None else tf.where(labels > upper, tf.constant(upper, labels.dtype), labels)
