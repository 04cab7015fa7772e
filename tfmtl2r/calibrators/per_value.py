"""A calibrator for each value of some columns, such as one per device."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.calibrators.base import Calibrator, NotCalibratedError
from tfmtl2r.errors import InputError
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor

CARD = Card(
    title="One calibrator per value of columns",
    note="for levels that differ between devices, countries or surfaces: [calibration] by = [\"device\"]",
)
__all__ = ["PerValue"]


@dataclasses.dataclass(frozen=True)
class PerValue(Calibrator):
    """A calibrator of all items, and one for each frequent value of the columns, or combination of their values.

    The fit of a value reads the items with this value and, as a prior, all items with the total weight of ``prior``
    items. A value with few items is therefore calibrated nearly like all items, and a value with many by its own. Any
    other value has the calibrator of all items: a rare or new one, and one whose own fit cannot be used. The scores of
    two items with different values may swap their order in the probabilities; within a value the order stays.

    Args:
        columns: names of categorical features.
        calibrator: the calibrator of a value: a name, ``{"name": ..., option: value}``, or a calibrator.
        prior: number of items that the prior counts as.
        most: largest number of values with their own fit, the most frequent ones.

    Raises:
        ValueError: without columns, for a prior below 0, ``most`` below 1, or a calibrator that fits nothing.

    >>> scores, labels = np.tile([-1.0, 1.0], 500), np.array([0.0, 1.0] * 250 + [0.0, 0.0] * 245 + [0.0, 1.0] * 5)
    >>> both = PerValue(("device",), "platt", prior=1)
    >>> fitted = both.fit(scores, labels, columns=np.repeat([[1], [2]], 500, axis=0))
    >>> ids = np.float32([[1], [2], [9]])  # 9 is new
    >>> both.apply(np.float32([1.0, 1.0, 1.0]), np.float32(fitted), ids).numpy().astype(float).round(2).tolist()
    [1.0, 0.02, 0.51]
    """

    columns: tuple[str, ...]
    calibrator: Any = "platt"
    prior: float = 100.0
    most: int = 32

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        if not self.columns or self.prior < 0 or self.most < 1:
            raise InputError("PerValue needs columns, prior of 0 or more, and most of 1 or more; got "
                             f"columns = {list(self.columns)}, prior = {self.prior!r}, most = {self.most!r}")
        if not self._each.shape or self._each.reads:
            raise InputError(f"PerValue: {self.calibrator!r} is no calibrator of a value: choose \"platt\" or "
                             "\"isotonic\"")

    @property
    def _each(self) -> Calibrator:
        from tfmtl2r import calibrators  # the registry imports the files of calibrators

        found: Calibrator = calibrators.get(self.calibrator)
        return found

    @property
    def reads(self) -> tuple[str, ...]:
        return self.columns

    @property
    def shape(self) -> tuple[int, ...]:
        """A row for all items, then one for each value: its ids in the columns, and the numbers of its calibrator.

        The ids of the first row and of unused rows are NaN, which equals no id.
        """
        return (1 + self.most, len(self.columns) + math.prod(self._each.shape))

    def fit(self, scores: Any, labels: Any, weights: Any = None, columns: Any = None) -> np.ndarray:
        each = self._each
        everything = each.fit(scores, labels, weights)  # checks shapes, too
        labels, ids = np.asarray(labels, np.float64), np.asarray(columns, np.float64)
        weights = np.ones(labels.shape) if weights is None else np.asarray(weights, np.float64)
        if ids.shape != (len(labels), len(self.columns)):
            raise InputError(f"PerValue: columns must be [N, {len(self.columns)}], not {ids.shape}")
        known = (labels >= 0) & (weights > 0)
        values, counts = np.unique(ids[known], axis=0, return_counts=True)
        fitted = np.full(self.shape, np.nan)
        fitted[:, len(self.columns):] = everything.ravel()
        prior = weights * self.prior / known.sum()
        for row, value in enumerate(values[np.argsort(-counts, kind="stable")][:self.most], start=1):
            mine = (ids == value).all(axis=1)
            try:
                found = each.fit(scores, labels, np.where(mine, weights, 0.0) + prior)
            except NotCalibratedError:
                continue
            fitted[row] = [*value, *found.ravel()]
        return fitted

    def apply(self, scores: Any, fitted: Any, columns: Any = None) -> Tensor:
        known, numbers = fitted[:, :len(self.columns)], fitted[:, len(self.columns):]
        equal = tf.reduce_all(tf.equal(columns[..., None, :], known), axis=-1)  # [..., rows]
        row = tf.argmax(tf.cast(equal, tf.int32), axis=-1, output_type=tf.int32)  # 0, that of all items, without one
        row = tf.broadcast_to(row, tf.shape(scores))
        return self._each.apply_rows(scores, tf.reshape(numbers, [-1, *self._each.shape]), row)
