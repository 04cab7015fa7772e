"""Numbers: transformed, and standardised with the statistics of the training split."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tfmtl2r.errors import InputError
from tfmtl2r.features.base import Columns, Feature, Values, names_things
from tfmtl2r.registry import Card

CARD = Card(title="Number", aliases=("number",), note="a number or a vector per item")
__all__ = ["Dense"]

LOG_OFFSET = 0.01
"""The constant that ``"log"`` adds, so that 0 has a logarithm; the value is allRank's."""
log = logging.getLogger("tfmtl2r")


@dataclasses.dataclass(frozen=True)
class _Transform:
    """A transform before the standardisation. Values of the sign ``sign`` are refused."""

    forward: Callable[[Any, Any], Any] = lambda x, math: x
    inverse: Callable[[Any], Any] = lambda z: z
    refused: int = 0


# numpy computes the statistics, tf.math the graph; both have functions of these names.
_FEW = 3
"""Number of extreme values that a warning looks beyond."""
_TRANSFORMS = {
    "none": _Transform(),
    "log1p": _Transform(
        lambda x, math: math.log1p(math.maximum(x, 0.0)), lambda z: np.expm1(np.maximum(z, 0.0)), -1),
    "signed_log1p": _Transform(
        lambda x, math: math.sign(x) * math.log1p(math.abs(x)), lambda z: np.sign(z) * np.expm1(np.abs(z))),
    "log": _Transform(
        lambda x, math: math.log(math.maximum(x, 0.0) + LOG_OFFSET), lambda z: np.maximum(np.exp(z) - LOG_OFFSET, 0.0),
        -1),
    "log_negative": _Transform(
        lambda x, math: math.log(math.maximum(-x, 0.0) + LOG_OFFSET), lambda z: np.minimum(LOG_OFFSET - np.exp(z), 0.0),
        1),
}


@dataclasses.dataclass(frozen=True)
class Dense(Feature):
    """A numeric feature.

    Args:
        name: column and serving input.
        shape: ``()`` for a number, ``(D,)`` for a vector per item.
        context: True for a feature of the whole list (``[B]``), False for a feature of each item (``[B, L]``).
        transform: transform before the standardisation: ``"none"``, ``"log1p"`` (x >= 0), ``"signed_log1p"``
            (sign(x) log(1 + |x|)), ``"log"`` (log(x + .01), x >= 0) or ``"log_negative"`` (log(.01 - x), x <= 0). One
            transform for all components, or a tuple with one per component.
        mean, variance: statistics after the transform, one number per component; fitted on the training split.
        clip: standardised values are clipped to this number of standard deviations.
        quantiles: ``(0.01, 0.99)`` fits ``low`` and ``high`` as these quantiles of the training split.
        low, high: raw values are clipped to these bounds before the transform, one number per component.
        missing: add a component that is 1 for a missing value: for a vector, if any component is missing.
    """

    name: str
    shape: tuple[int, ...] = ()
    context: bool = False
    transform: str | tuple[str, ...] = "none"
    mean: tuple[float, ...] | None = None
    variance: tuple[float, ...] | None = None
    clip: float = 10.0
    quantiles: tuple[float, float] | None = None
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    missing: bool = False

    file_keys: ClassVar[tuple[str, ...]] = ("transform", "missing")
    fitted: ClassVar[tuple[str, ...]] = ("mean", "variance", "low", "high")

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(d) for d in self.shape))
        if len(self.shape) > 1:
            raise InputError(f"feature {self.name!r}: shape must be () or (D,), not {self.shape}")
        object.__setattr__(self, "clip", float(self.clip))
        self._check_transform()
        for field in ("mean", "variance", "low", "high"):
            values = getattr(self, field)
            if values is not None:
                values = tuple(float(v) for v in values)
                if len(values) != self.components:
                    raise InputError(f"feature {self.name!r}: {field} has {len(values)} numbers, expected "
                                     f"{self.components}")
                object.__setattr__(self, field, values)
        self._check_bounds()

    def _check_transform(self) -> None:
        if not isinstance(self.transform, str):
            object.__setattr__(self, "transform", tuple(self.transform))
            if len(self.transform) != self.components:
                raise InputError(f"feature {self.name!r}: transform has {len(self.transform)} entries, expected one "
                                 f"per component, {self.components}")
        for transform in self.transforms:
            if transform not in _TRANSFORMS:
                raise InputError(f"feature {self.name!r}: transform must be one of {', '.join(_TRANSFORMS)}, "
                                 f"not {transform!r}")

    def _check_bounds(self) -> None:
        if self.quantiles is not None:
            low, high = (float(q) for q in self.quantiles)
            object.__setattr__(self, "quantiles", (low, high))
            if not 0 <= low < high <= 1:
                raise InputError(f"feature {self.name!r}: quantiles must be two increasing numbers from 0 to 1, such "
                                 f"as (0.01, 0.99), not {self.quantiles}")
            if (self.low is None) != (self.high is None):
                raise InputError(f"feature {self.name!r}: with quantiles, give both low and high or neither")
        for component, (least, most) in enumerate(zip(self.low or (), self.high or (), strict=False)):
            if not least <= most:
                raise InputError(f"feature {self.name!r}: low is above high in component {component}: {least}, {most}")

    @property
    def components(self) -> int:
        """Number of components."""
        return math.prod(self.shape)

    @property
    def width(self) -> int:
        """Number of components, and one for the indicator."""
        return self.components + self.missing

    @property
    def transforms(self) -> tuple[str, ...]:
        """The transform of each component."""
        return (self.transform,) * self.components if isinstance(self.transform, str) else self.transform

    @property
    def is_fitted(self) -> bool:
        """Whether all statistics that the options require are known."""
        bounded = self.quantiles is None or (self.low is not None and self.high is not None)
        return self.mean is not None and self.variance is not None and bounded

    @property
    def raw(self) -> dict[str, Values]:
        """A number or a vector."""
        return {self.name: Values("float32", self.shape)}

    @classmethod
    def inferred(
        cls, name: str, values: np.ndarray, context: bool, sizes: np.ndarray | None = None
    ) -> Dense | None:
        """A feature for numbers that are no names (:func:`tfmtl2r.features.base.names_things`), or for lists of floats
        of one length."""
        if sizes is not None and values.dtype.kind == "f" and sizes[0] > 0 and (sizes == sizes[0]).all():
            return cls(name, shape=(int(sizes[0]),), context=context)
        if sizes is not None or values.dtype.kind not in "iufb" or names_things(values):
            return None
        return cls(name, shape=values.shape[1:], context=context)

    @classmethod
    def of_entry(cls, name: str, values: np.ndarray, context: bool, options: Mapping[str, Any]) -> Dense:
        """The transform ``"zscore"`` stands for ``"none"``, since every number is standardised."""
        transform = options.get("transform", "zscore")
        return cls(name, values.shape[1:], context, "none" if transform == "zscore" else transform,
                   missing=options.get("missing", False))

    def read(self, columns: Columns) -> dict[str, np.ndarray]:
        """Reads the column as float32; missing values are NaN."""
        found = super().read(columns)
        values, (transforms, chosen) = found[self.name], (self.transforms, np.reshape(self.transforms, self.shape))
        for name in dict.fromkeys(transforms):
            if refused := _TRANSFORMS[name].refused:
                what = f"feature {self.name!r} is {'negative' if refused < 0 else 'positive'} under {name}"
                columns.refuse((values * refused > 0) & (chosen == name), values, what, "use transform='signed_log1p'")
        return found

    def fit(self, columns: Columns, min_count: int) -> Dense:
        """Fits the bounds for given quantiles, then mean and variance after the transform, without missing values."""
        if self.is_fitted:
            return self
        values = self.read(columns)[self.name]
        # Statistics use the original column in float64: float64 or integer values lose digits as float32.
        exact = columns.numbers(self.name)
        bounds, moments = [], []
        for component, column in enumerate(np.asarray(exact).reshape(len(values), -1).T):
            known = column.astype(np.float64)  # one component at a time: a copy of all would double the memory
            known = known[np.isfinite(known)]
            bounds.append(self._bounds(component, known))
            known = _TRANSFORMS[self.transforms[component]].forward(np.clip(known, *bounds[-1]), np)
            moments.append((float(known.mean()), float(known.var())) if len(known) else (0.0, 0.0))
            self._warn(component, known, *moments[-1])
        mean, variance = zip(*moments, strict=True)
        if self.quantiles is None:
            return dataclasses.replace(self, mean=mean, variance=variance)
        low, high = zip(*bounds, strict=True)
        return dataclasses.replace(self, mean=mean, variance=variance, low=low, high=high)

    def _bounds(self, component: int, known: np.ndarray) -> tuple[float, float]:
        """The bounds of raw values."""
        if self.quantiles is not None and self.low is None and self.high is None:
            if not len(known):
                return 0.0, 0.0
            low, high = np.quantile(known, self.quantiles)
            return float(low), float(high)
        return (self.low[component] if self.low else -np.inf, self.high[component] if self.high else np.inf)

    def _warn(self, component: int, known: np.ndarray, mean: float, variance: float) -> None:
        name = f"feature {self.name!r}" + (f" (component {component})" if self.shape else "")
        if not len(known):
            log.warning("%s has no value in the training split: it is useless; exclude it", name)
        elif variance <= 1e-12:
            log.warning("%s is constant (%g) in the training split: it is useless; exclude it", name, mean)
        elif abs(mean) > 1e5 * variance**0.5:
            log.warning("%s varies by %g around %g: its values are equal in float32; subtract an offset first",
                        name, variance**0.5, mean)
        else:
            far = np.abs(known - mean)
            if far.max() > 10 * variance**0.5:  # rarely true, and sorting takes long
                rest = np.partition(far, -_FEW)[:-_FEW] if len(far) > 10 * _FEW else far[:0]
                if len(rest) and 0 < np.ptp(rest) < 1e-4 * far.max():
                    log.warning("%s: values up to %g lie so far from all others that these are nearly equal for the "
                                "ranker; set a transform such as signed_log1p, or clip the values", name,
                                np.abs(known).max())

    @classmethod
    def encode_all(
        cls, features: Sequence[Dense], tensors: Mapping[str, Any], layers: Mapping[str, Any]
    ) -> list[Any]:
        """Encodes all numbers at once, ``float32[n, sum of widths]``. An indicator comes after the components."""
        from tfmtl2r._backend import tf

        numbers = [tf.cast(tensors[f.name], tf.float32) for f in features]
        columns = [number if f.shape else number[..., None] for f, number in zip(features, numbers, strict=True)]
        normalised = _normalised(features, tf.concat(columns, axis=-1))
        if not any(f.missing for f in features):
            return [normalised]
        pieces = tf.split(normalised, [f.components for f in features], axis=-1)
        marks = {f.name: tf.cast(~f.known(tensors), tf.float32)[:, None] for f in features if f.missing}
        return [tf.concat([part for f, piece in zip(features, pieces, strict=True)
                           for part in (piece, *([marks[f.name]] if f.missing else []))], axis=-1)]

    def known(self, tensors: Mapping[str, Any]) -> Any:
        """True if all components are finite."""
        from tfmtl2r._backend import tf

        value = tensors[self.name]
        return tf.reduce_all(tf.math.is_finite(tf.reshape(value, [tf.shape(value)[0], self.components])), axis=-1)

    def example(self, shape: tuple[int, ...], random: np.random.Generator) -> dict[str, np.ndarray]:
        """Raw values that are normally distributed after the transform."""
        mean = np.reshape(self.mean or (0.0,) * self.components, self.shape)
        std = np.sqrt(np.reshape(self.variance or (1.0,) * self.components, self.shape))
        values = mean + std * random.standard_normal((*shape, *self.shape))
        chosen = np.reshape(self.transforms, self.shape)
        for name in dict.fromkeys(self.transforms):
            values = np.where(chosen == name, _TRANSFORMS[name].inverse(values), values)
        highest = np.finfo(np.float32).max
        return {self.name: np.clip(values, -highest, highest).astype(np.float32)}

    def written(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Replaces missing numbers by the mean, since JSON has no NaN."""
        mean = np.reshape(self.mean or (0.0,) * self.components, self.shape)
        return {name: np.where(np.isfinite(value), value, mean) for name, value in values.items()}


def _normalised(features: Sequence[Dense], value: Any) -> Any:
    """Applies bounds, transform, (x - mean) / std in float32, and clip. Missing numbers become the mean."""
    from tfmtl2r._backend import tf

    known = tf.math.is_finite(value)
    value = tf.where(known, value, 0.0)  # before the transform, since gradients through tf.where would still be NaN
    if any(f.low or f.high for f in features):
        low = [v for f in features for v in f.low or (float("-inf"),) * f.components]
        high = [v for f in features for v in f.high or (float("inf"),) * f.components]
        value = tf.clip_by_value(value, tf.constant(low, tf.float32), tf.constant(high, tf.float32))
    transforms = [t for f in features for t in f.transforms]
    raw = value
    for name, transform in _TRANSFORMS.items():
        if name != "none" and name in transforms:
            value = tf.where([t == name for t in transforms], transform.forward(raw, tf.math), value)
    mean = [m for f in features for m in f.mean or (0.0,) * f.components]
    variance = [v for f in features for v in f.variance or (1.0,) * f.components]
    # A constant feature has variance 0 and no information: it becomes 0.
    scale = [v**-0.5 if v > 1e-12 else 0.0 for v in variance]
    clip = tf.constant([f.clip for f in features for _ in range(f.components)], tf.float32)
    value = (value - tf.constant(mean, tf.float32)) * tf.constant(scale, tf.float32)
    return tf.where(known, tf.clip_by_value(value, -clip, clip), 0.0)
