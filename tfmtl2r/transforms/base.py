"""Base classes of label transforms."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from tfmtl2r import returned
from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError, not_defined
from tfmtl2r.task import Task
from tfmtl2r.types import Tensor


@dataclasses.dataclass(frozen=True)
class Transform:
    """Makes another label of a label, such as a grade of a number of seconds.

    A missing label (NaN) stays missing. Statistics are options that :meth:`fit` fills in from the training split, as a
    category's vocabulary. The transformed label takes the place of the label everywhere: in losses, in metrics and in
    ``value_<task>``. Labels of a regression whose transform is :class:`Reversible` are an exception.

    Class attributes:
        reversible: whether the transform is a :class:`Reversible`.
        fitted: names of the options that :meth:`fit` fills in.
        unit: the unit of transformed labels, and so of ``value_<task>``; empty for the unit of the label.
    """

    reversible: ClassVar[bool] = False
    fitted: ClassVar[tuple[str, ...]] = ()
    unit: ClassVar[str] = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read beside the label."""
        return ()

    def fit(
        self, labels: np.ndarray, weights: np.ndarray | None, columns: Mapping[str, np.ndarray] | None = None
    ) -> Self:
        """Returns the transform with its statistics; statistics that are given stay.

        Args:
            labels: ``float64[N]``, the known labels of the training split.
            weights: ``float64[N]``, importance of the rows, or None.
            columns: :attr:`columns` by name, each ``float64[N]``; None for a transform that reads no columns.
        """
        return self

    def wrong(self, labels: np.ndarray) -> tuple[np.ndarray, str]:
        """Which labels cannot be transformed, ``bool[N]``, and advice for the error message."""
        return np.zeros(len(labels), bool), ""

    def apply(self, labels: np.ndarray, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Transforms labels.

        Args:
            labels: ``float64[N]``; NaN is missing.
            columns: :attr:`columns` by name, each ``float64[N]``.
        """
        raise not_defined(self, "apply")

    def back(self, values: np.ndarray, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Converts transformed labels, such as ``value_<task>``, to the unit of the label.

        Args:
            values: ``float64[N]``; NaN is missing.
            columns: :attr:`columns` by name, each ``float64[N]``.

        Raises:
            ValueError: for a transform without a way back.
        """
        raise InputError(f"{type(self).__name__} has no way back to the unit of the label")


@dataclasses.dataclass(frozen=True)
class Reversible(Transform):
    """A transform of each label alone that has a way back.

    A regression applies it inside the model: the loss reads transformed labels, while labels, metrics such as ``mse``
    and ``value_<task>`` keep the unit of the label.
    """

    lowest: ClassVar[float] = -np.inf
    """The lowest label that can be transformed."""
    reversible = True

    def forward(self, labels: Tensor) -> Tensor:
        """Transforms labels; NaN stays NaN."""
        raise not_defined(self, "forward")

    def inverse(self, values: Tensor) -> Tensor:
        """Transforms back to the unit of the label."""
        raise not_defined(self, "inverse")

    def wrong(self, labels: np.ndarray) -> tuple[np.ndarray, str]:
        return labels < self.lowest, f"{type(self).__name__} takes numbers from {self.lowest:g} on; mark a missing " \
            "label with NaN or an empty cell"

    def apply(self, labels: np.ndarray, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.asarray(self._each(self.forward, labels))

    def back(self, values: np.ndarray, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.asarray(self._each(self.inverse, values))

    def _each(self, way: Callable[[Tensor], Tensor], values: np.ndarray) -> Any:
        """A way of every value, checked."""
        source = f"{type(self).__name__}.{way.__name__}"
        return returned.tensor(way(tf.constant(values, tf.float64)), values.shape, source, "one value for each label")


def of_task(task: Task) -> Transform | None:
    """The transform of a task; None without one."""
    from tfmtl2r import transforms  # the registry imports the files of transforms, which import this file

    return None if task.transform is None else transforms.get(task.transform)


def unit_of(task: Task) -> str:
    """The unit of ``value_<task>``, for cards and metadata; empty for the unit of the label.

    >>> unit_of(Task("share", kind="regression", transform={"name": "ratio", "duration": "duration_s"}))
    'a share of duration_s'
    """
    transform = of_task(task)
    return "" if transform is None else transform.unit.format(", ".join(transform.columns))


def quantile(
    values: np.ndarray, shares: Sequence[float], weights: np.ndarray | None = None, method: str = "linear"
) -> np.ndarray:
    """Quantiles of values, ``float64[len(shares)]``.

    Args:
        values: ``float64[N]``, without NaN.
        shares: numbers from 0 to 1.
        weights: ``float64[N]``; the quantile of q is then the smallest value whose cumulated weight reaches q times the
            sum of the weights. Equal weights, like None, give the quantiles of ``numpy.quantile``.
        method: method of ``numpy.quantile``.

    >>> quantile(np.arange(5.0), [0.5, 0.6]).tolist()
    [2.0, 2.4]
    >>> quantile(np.arange(3.0), [0.5], np.array([1.0, 1.0, 9.0])).tolist()
    [2.0]
    """
    if weights is None or (weights == weights[:1]).all():
        found: np.ndarray = np.quantile(values, shares, method=method)  # type: ignore[call-overload]
        return found
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    # Sums of equal weights are rounded, so that a share is reached up to the rounding.
    wanted = np.asarray(shares) * reached[-1] * (1 - 1e-12)
    return values[order][np.searchsorted(reached, wanted, side="left")]
