"""Logarithm of a label."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.registry import Card
from tfmtl2r.transforms.base import Reversible
from tfmtl2r.types import Tensor

CARD = Card(title="log(1 + label)", note="for counts and seconds with a heavy tail")
__all__ = ["Log1p"]


@dataclasses.dataclass(frozen=True)
class Log1p(Reversible):
    """``log(1 + y)``, for labels of 0 and more, such as counts and seconds.

    >>> import numpy as np
    >>> Log1p().apply(np.array([3.0, 0.0, np.nan]), {}).round(4).tolist()
    [1.3863, 0.0, nan]
    """

    lowest = 0.0

    def forward(self, labels: Tensor) -> Tensor:
        return tf.math.log1p(labels)

    def inverse(self, values: Tensor) -> Tensor:
        return tf.math.expm1(values)
