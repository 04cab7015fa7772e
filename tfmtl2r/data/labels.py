"""Makes labels from features, as is common in multi-objective ranking on LETOR data.

A feature that becomes a label is removed from the inputs, together with features that would reveal the label. Features
are counted from 1, as in LETOR.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tfmtl2r.data.lists import Lists
from tfmtl2r.errors import InputError


@dataclasses.dataclass(frozen=True)
class Invert:
    """``highest - x``, which reverses the order, for example for MSLR's quality scores, where low values are good.

    Args:
        highest: 255 for MSLR's quality scores; None takes the maximum of the training split.

    Raises:
        ValueError: when it is called before it is fitted, or a value is above ``highest`` (a negative label).

    >>> Invert(255.0)(np.array([3.0, 255.0])).tolist()
    [252.0, 0.0]
    """

    highest: float | None = None

    def fit(self, values: np.ndarray) -> Invert:
        """Sets ``highest`` to the maximum of training values, if it is None."""
        return self if self.highest is not None else dataclasses.replace(self, highest=float(np.max(values)))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        if self.highest is None:
            raise InputError("invert has no highest value yet: set one, as in Invert(255), or pass the training lists")
        above = values > self.highest
        if above.any():
            raise InputError(f"invert: {values[above][0]:g} is above the highest value, {self.highest:g}: its label "
                             "would be negative, which means missing; give a highest value that holds for all splits")
        return self.highest - values


@dataclasses.dataclass(frozen=True)
class LogGrade:
    """``min(top, ceil(log(1 + x) / step))``: converts counts with a heavy tail to grades.

    Args:
        step: width of a grade on the logarithmic scale.
        top: the highest grade.

    Raises:
        ValueError: for a negative count.

    >>> LogGrade()(np.array([0.0, 1.0, 5.0, 1e6])).tolist()
    [0.0, 1.0, 2.0, 4.0]
    """

    step: float = 1.0
    top: int = 4

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return np.minimum(self.top, np.ceil(log1p(values) / self.step))


@dataclasses.dataclass(frozen=True)
class Grade:
    """The number of edges that a value reaches (``numpy.digitize``).

    Args:
        edges: increasing edges between the grades.

    >>> Grade((3, 10, 50, 100))(np.array([2.0, 3.0, 254.0])).tolist()
    [0.0, 1.0, 4.0]
    """

    edges: tuple[float, ...]

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return np.digitize(values, self.edges).astype(np.float64)


@dataclasses.dataclass(frozen=True)
class QuantileGrade:
    """Grade 0 for x <= 0, and grades 1 to ``top`` by quantiles of the positive values in the training split.

    Clicks and dwell times are 0 for most items, so many quantiles of all values would be equal.

    Args:
        top: the highest grade.
        edges: ``top - 1`` increasing bounds between the grades above 0; fitted if not given.

    Raises:
        ValueError: when it is called before it is fitted, or fitted on values without any positive value.

    >>> QuantileGrade(2).fit(np.array([0.0, 1.0, 2.0, 3.0]))(np.array([0.0, 1.0, 9.0])).tolist()
    [0.0, 1.0, 2.0]
    """

    top: int = 4
    edges: tuple[float, ...] | None = None

    def fit(self, values: np.ndarray) -> QuantileGrade:
        """Computes the edges from training values, if they are None. If edges are equal, a grade is not used."""
        if self.edges is not None:
            return self
        positive = values[values > 0]
        if not len(positive):
            raise InputError("quantile grades need positive values in the training split, but there are none")
        edges = np.quantile(positive, np.arange(1, self.top) / self.top)
        return dataclasses.replace(self, edges=tuple(edges.tolist()))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        if self.edges is None:
            raise InputError("quantile grades have no edges yet: they come from the training lists (train=)")
        return np.where(values > 0, 1.0 + np.searchsorted(self.edges, values, side="left"), 0.0)


def log1p(values: np.ndarray) -> np.ndarray:
    """``log(1 + x)`` of counts; a negative count is an error."""
    if (values < 0).any():
        raise InputError(f"log1p of a negative number: {values[values < 0][0]:g}; expected counts")
    return np.log1p(values)


TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": np.array, "log1p": log1p, "invert": Invert(), "quantile": QuantileGrade()
}
Transform = str | Callable[[np.ndarray], np.ndarray]


def labels_from_features(
    lists: Lists, labels: Mapping[str, tuple[int, Transform]], *, leave: Iterable[int] = (),
    train: Lists | None = None, features: str = "features",
) -> Lists:
    """Makes labels from features, and removes these features and the features in ``leave`` from the inputs.

    Args:
        lists: any split.
        labels: name of the label column -> number of the feature (counted from 1) and transform.
        leave: numbers of features that would reveal a label.
        train: the training split as it was read; transforms that need fitting are fitted on it.
        features: the column of feature vectors.

    Returns:
        The lists with a ``float32[N]`` column per label and shorter feature vectors. The other features keep their
        order.

    Raises:
        ValueError: for an invalid number of a feature, a name that is already a column, an unknown transform, or values
            that a transform does not accept.
    """
    matrix = lists.column(features)
    width = matrix.shape[1] if matrix.ndim == 2 else 0
    gone = [*(index for index, _ in labels.values()), *leave]
    for index in gone:
        if not 1 <= index <= width:
            raise InputError(f"column {features!r} has features 1 to {width}, but a label or leave names feature "
                             f"{index}; features are counted from 1")
    columns: dict[str, Any] = dict(lists.stored.columns)
    for name, (index, transform) in labels.items():
        if name in columns:
            raise InputError(f"there is already a column {name!r}: rename the label of feature {index}")
        columns[name] = _label(matrix[:, index - 1], name, index, transform, train, features)
    columns[features] = np.delete(matrix, [index - 1 for index in gone], axis=1)
    return dataclasses.replace(lists, columns=columns)


def _label(
    values: np.ndarray, name: str, index: int, transform: Transform, train: Lists | None, features: str
) -> np.ndarray:
    if isinstance(transform, str) and transform not in TRANSFORMS:
        raise InputError(f"label {name!r}: transform must be one of {', '.join(TRANSFORMS)}, not {transform!r}")
    function = TRANSFORMS[transform] if isinstance(transform, str) else transform
    try:
        if train is not None and hasattr(function, "fit"):
            function = function.fit(train.column(features)[:, index - 1].astype(np.float64))
        return np.asarray(function(values.astype(np.float64)), np.float32)
    except ValueError as error:
        raise InputError(f"label {name!r} from feature {index}: {error}") from error
