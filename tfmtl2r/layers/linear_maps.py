"""Linear maps of a pretrained vector."""

from __future__ import annotations

from typing import Any

from tfmtl2r._backend import keras
from tfmtl2r.layers.dense import dense
from tfmtl2r.types import Tensor


class LinearMaps(keras.layers.Layer):
    """``(x + x W) P``; W starts at 0, so that the first map starts as the identity.

    Args:
        width: width of x.
        adapted: whether there is a W.
        projection: width of the result; None for no P.
    """

    def __init__(self, width: int, adapted: bool, projection: int | None, **kwargs: Any):
        super().__init__(**kwargs)
        options = {"use_bias": False, "dtype": self.dtype_policy}
        self.change = dense(width, kernel_initializer="zeros", name="change", **options) if adapted else None
        self.project = dense(projection, name="project", **options) if projection else None
        for layer in (self.change, self.project):
            if layer is not None:
                layer.build((None, width))
        self.built = True

    def call(self, x: Tensor) -> Tensor:
        """``x`` is ``float32[n, width]``."""
        x = x if self.change is None else x + self.change(x)
        return x if self.project is None else self.project(x)
