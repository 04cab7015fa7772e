"""Numbers: transformed, and standardised with the statistics of the training split."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from tfmtl2r.errors import InputError
from tfmtl2r.features._columns_of_numbers import encoded
from tfmtl2r.features._transforms import CLIP, RANKED, TRANSFORMS, at_quantiles, checked_steps, in_float32, ranked
from tfmtl2r.features.base import Columns, Feature, Values, names_things
from tfmtl2r.registry import Card

if TYPE_CHECKING:
    from tfmtl2r.batch import Batch

CARD = Card(title="Number", aliases=("number",), note="a number or a vector per item")
__all__ = ["Dense"]

_FEW = 3
"""Number of extreme values that a warning looks beyond."""
log = logging.getLogger("tfmtl2r")


@dataclasses.dataclass(frozen=True)
class Dense(Feature):
    """A numeric feature.

    Args:
        name: column and serving input.
        shape: ``()`` for a number, ``(D,)`` for a vector per item.
        context: True for a feature of the whole list (``[B]``), False for a feature of each item (``[B, L]``).
        transform: transform before the standardisation: ``"none"``, ``"log1p"`` (x >= 0), ``"signed_log1p"``
            (``sign(x) log(1 + |x|)``), ``"log"`` (log(x + .01), x >= 0), ``"log_negative"`` (log(.01 - x), x <= 0),
            ``"quantile_clip"`` (bounds at the .001 and .999 quantiles) or ``"rank_gauss"`` (the normal quantile of the
            mid-rank in the training split, which is not standardised again). One transform for all components, or a
            tuple with one per component.
        mean, variance: statistics after the transform, one number per component, first those of ``transform``, then
            those of each of ``copies``; fitted on the training split.
        clip: standardised values are clipped to this number of standard deviations.
        quantiles: ``(0.01, 0.99)`` fits ``low`` and ``high`` as these quantiles of the training split.
        low, high: raw values are clipped to these bounds before the transform. One number per component, or one for
            each number of ``mean``.
        missing: add a component that is 1 for a missing value: for a vector, if any component is missing.
        copies: further transforms, each for all components. Their results follow the result of ``transform``.
        within_list: add every standardised number again, standardised within its list: (x - mean) / sd over the list's
            known values, clipped to 5. A list of equal values becomes 0. Scores then depend on the list.
        steps: add step inputs ``(x > threshold) - share``, where ``share`` of the training split lies above the
            threshold. A tuple of thresholds for all components; a number of quantiles of each component; or
            ``{"from": "lightgbm", "number": 512}``: the best thresholds of tree models on the training labels.
        noise: standard deviation of Gaussian noise on the standardised numbers in training.
        points, ranks: what ``"rank_gauss"`` keeps of the training split: values of each component, and how many values
            are below and up to each of them.
        thresholds, above: thresholds of each component, and the shares of the training split above them.

    >>> Dense("price", transform="signed_log1p", copies=("none",), within_list=True, missing=True).width
    5
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
    copies: tuple[str, ...] = ()
    within_list: bool = False
    steps: Any = None
    noise: float = 0.0
    points: tuple[tuple[float, ...], ...] | None = None
    ranks: tuple[tuple[int, ...], ...] | None = None
    thresholds: tuple[tuple[float, ...], ...] | None = None
    above: tuple[tuple[float, ...], ...] | None = None

    by_component: ClassVar[bool] = True
    file_keys: ClassVar[tuple[str, ...]] = ("transform", "missing", "within_list", "steps", "noise")
    fitted: ClassVar[tuple[str, ...]] = ("mean", "variance", "low", "high", "points", "ranks", "thresholds", "above")
    after_lookup: ClassVar[tuple[str, ...]] = fitted

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
                if field in ("low", "high") and len(values) == self.components:
                    values *= 1 + len(self.copies)
                if len(values) != len(self.copied):
                    raise InputError(f"feature {self.name!r}: {field} has {len(values)} numbers, expected "
                                     f"{len(self.copied)}")
                object.__setattr__(self, field, values)
        self._check_bounds()
        self._check_inputs()
        for field in ("points", "ranks", "thresholds", "above"):
            self._check_tables(field, getattr(self, field))

    def _check_transform(self) -> None:
        if not isinstance(self.transform, str):
            object.__setattr__(self, "transform", tuple(self.transform))
            if len(self.transform) != self.components:
                raise InputError(f"feature {self.name!r}: transform has {len(self.transform)} entries, expected one "
                                 f"per component, {self.components}; further transforms of all components are copies")
        copies = (self.copies,) if isinstance(self.copies, str) else tuple(self.copies)
        object.__setattr__(self, "copies", copies)
        for transform in self.copied:
            if transform not in TRANSFORMS:
                raise InputError(f"feature {self.name!r}: transform must be one of {', '.join(TRANSFORMS)}, "
                                 f"not {transform!r}")
        for transform in copies:
            if copies.count(transform) > 1 or transform in self.transforms:
                raise InputError(f"feature {self.name!r}: the transform {transform!r} is given twice")

    def _check_inputs(self) -> None:
        object.__setattr__(self, "noise", float(self.noise))
        if not 0 <= self.noise < math.inf:
            raise InputError(f"feature {self.name!r}: noise must be a standard deviation of at least 0, not "
                             f"{self.noise}")
        if self.within_list and self.context:
            raise InputError(f"feature {self.name!r} has one value per list, which is constant within the list: leave "
                             "within_list out")
        object.__setattr__(self, "steps", checked_steps(self.steps, f"feature {self.name!r}"))
        if isinstance(self.steps, tuple) and self.thresholds is None:
            object.__setattr__(self, "thresholds", (self.steps,) * self.components)
        if self.steps is None and self.thresholds is not None:
            raise InputError(f"feature {self.name!r}: thresholds belong to steps: set steps, or leave them out")

    def _check_tables(self, field: str, values: Any) -> None:
        if values is None:
            return
        kind = int if field == "ranks" else in_float32 if field == "thresholds" else float
        table = tuple(tuple(kind(value) for value in row) for row in values)
        if len(table) != self.components:
            raise InputError(f"feature {self.name!r}: {field} has {len(table)} rows, expected one per component, "
                             f"{self.components}")
        object.__setattr__(self, field, table)

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
        """Number of components of all copies, twice if they are also standardised within the list, of steps, and one
        for the indicator."""
        if (RANKED in self.copied and self.ranks is None) or (self.steps is not None and self.above is None):
            raise InputError(f"feature {self.name!r} needs statistics of the training split: make the schema with "
                             "tfmtl2r.data.fit_schema")
        return len(self.copied) * (1 + self.within_list) + sum(map(len, self.thresholds or ())) + self.missing

    @property
    def list_context(self) -> bool:
        """Whether the feature is standardised within its list."""
        return self.within_list

    @property
    def transforms(self) -> tuple[str, ...]:
        """The transform of each component."""
        return (self.transform,) * self.components if isinstance(self.transform, str) else self.transform

    @property
    def copied(self) -> tuple[str, ...]:
        """The transform of each standardised number: all components, then all components of each copy."""
        return (*self.transforms, *(name for name in self.copies for _ in range(self.components)))

    @property
    def is_fitted(self) -> bool:
        """Whether all statistics that the options require are known."""
        bounded = not self._finds_bounds or (self.low is not None and self.high is not None)
        ranked = RANKED not in self.copied or (self.points is not None and self.ranks is not None)
        stepped = self.steps is None or (self.thresholds is not None and self.above is not None)
        return self.mean is not None and self.variance is not None and bounded and ranked and stepped

    @property
    def _finds_bounds(self) -> bool:
        return self.quantiles is not None or "quantile_clip" in self.copied

    @property
    def raw(self) -> dict[str, Values]:
        """A number or a vector."""
        return {self.name: Values("float32", self.shape)}

    def continued(self, earlier: Self, keep: bool) -> Self:
        """As for other features. Thresholds always stay, since each of them is an input of the network."""
        found = super().continued(earlier, keep)
        if keep or self.steps is None or self.steps != earlier.steps:
            return found
        return dataclasses.replace(found, thresholds=earlier.thresholds, above=earlier.above)

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
        """The transform ``"zscore"`` stands for ``"none"``, since every number is standardised. Of a list of
        transforms, the others are copies."""
        given = options.get("transform", "zscore")
        if not given:
            raise InputError(f"feature {name!r}: transform is an empty list: name a transform, or leave it out")
        first, *copies = ("none" if one == "zscore" else one for one in ([given] if isinstance(given, str) else given))
        others = {key: value for key, value in options.items() if key != "transform"}
        return cls(name, values.shape[1:], context, first, copies=tuple(copies), **others)

    def read(self, columns: Columns) -> dict[str, np.ndarray]:
        """Reads the column as float32; missing values are NaN."""
        found = super().read(columns)
        values, chosen = found[self.name], np.reshape(self.transforms, self.shape)
        for name in dict.fromkeys(self.copied):
            if refused := TRANSFORMS[name].refused:
                what = f"feature {self.name!r} is {'negative' if refused < 0 else 'positive'} under {name}"
                mine = (chosen == name) | (name in self.copies)
                columns.refuse((values * refused > 0) & mine, values, what, "use transform='signed_log1p'")
        return found

    def fit(self, columns: Columns, min_count: int) -> Dense:
        """Fits the bounds for given quantiles, then mean and variance after the transform, without missing values; then
        ranks, thresholds and shares.

        Raises:
            ValueError: for steps of tree models, whose thresholds :func:`tfmtl2r.data.fit_schema` finds.
        """
        if self.is_fitted:
            return self
        if isinstance(self.steps, Mapping) and self.thresholds is None:
            raise InputError(f"feature {self.name!r}: steps from tree models need the labels of the training split: "
                             "make the schema with tfmtl2r.data.fit_schema")
        columns.check(self)
        # Statistics use the original column in float64: float64 or integer values lose digits as float32.
        found: dict[str, dict[int, Any]] = {name: {} for name in self.fitted}
        for component, column in enumerate(columns.components(self.name)):
            known = column.astype(np.float64)  # one component at a time: a copy of all would double the memory
            known = known[np.isfinite(known)]
            for copy in range(component, len(self.copied), self.components):
                self._fit_copy(copy, known, found)
            if self.steps is not None:
                mine = at_quantiles(known, self.steps) if self.thresholds is None else self.thresholds[component]
                mine = tuple(map(in_float32, mine))
                known = np.sort(known.astype(np.float32))
                upto = np.searchsorted(known, mine, side="right")
                found["thresholds"][component] = mine
                found["above"][component] = tuple((1 - upto / max(len(known), 1)).tolist())
        sizes = {name: len(self.copied) if name in ("mean", "variance", "low", "high") else self.components
                 for name, values in found.items() if values and (self._finds_bounds or name not in ("low", "high"))}
        made: dict[str, Any] = {
            name: tuple(found[name].get(place, ()) for place in range(size)) for name, size in sizes.items()}
        return dataclasses.replace(self, **made)

    def _fit_copy(self, copy: int, known: np.ndarray, found: dict[str, dict[int, Any]]) -> None:
        """Adds the statistics of one transformed component to those of all, by their place."""
        name, bounds = self.copied[copy], self._bounds(copy, known)
        bounded = np.clip(known, *bounds)
        value = TRANSFORMS[name].forward(bounded, np)
        mean, variance = (float(value.mean()), float(value.var())) if len(value) else (0.0, 0.0)
        if copy < self.components:
            self._warn(copy, value, mean, variance)
        if name == RANKED:  # not standardised again; variance 0 makes a constant 0
            mean, variance = 0.0, float(variance > 0)
            found["points"][copy % self.components], found["ranks"][copy % self.components] = ranked(bounded)
        for key, one in {"low": bounds[0], "high": bounds[1], "mean": mean, "variance": variance}.items():
            found[key][copy] = one

    def _bounds(self, copy: int, known: np.ndarray) -> tuple[float, float]:
        """The bounds of raw values."""
        given = CLIP if self.copied[copy] == "quantile_clip" and self.quantiles is None else self.quantiles
        if given is not None and self.low is None and self.high is None:
            if not len(known):
                return 0.0, 0.0
            low, high = np.quantile(known, given)
            return float(low), float(high)
        return (self.low[copy] if self.low else -np.inf, self.high[copy] if self.high else np.inf)

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
        cls, features: Sequence[Dense], tensors: Mapping[str, Any], layers: Mapping[str, Any],
        batch: Batch | None = None, training: bool = False,
    ) -> list[Any]:
        """Encodes all numbers at once, ``float32[n, sum of widths]``.

        Raises:
            ValueError: for plain rows, if a feature is standardised within its list.
        """
        return [encoded(features, tensors, batch, training)]

    def known(self, tensors: Mapping[str, Any]) -> Any:
        """True if all components are finite."""
        from tfmtl2r._backend import tf

        value = tensors[self.name]
        return tf.reduce_all(tf.math.is_finite(tf.reshape(value, [tf.shape(value)[0], self.components])), axis=-1)

    def example(self, shape: tuple[int, ...], random: np.random.Generator) -> dict[str, np.ndarray]:
        """Raw values that are normally distributed after the transform."""
        mean = np.reshape(self._first("mean", 0.0), self.shape)
        std = np.sqrt(np.reshape(self._first("variance", 1.0), self.shape))
        values = mean + std * random.standard_normal((*shape, *self.shape))
        chosen = np.reshape(self.transforms, self.shape)
        for name in dict.fromkeys(self.transforms):
            values = np.where(chosen == name, TRANSFORMS[name].inverse(values), values)
        if RANKED in self.transforms and self.points is not None:
            drawn = [random.choice(points or (0.0,), shape) for points in self.points]
            values = np.where(chosen == RANKED, np.stack(drawn, axis=-1).reshape((*shape, *self.shape)), values)
        highest = np.finfo(np.float32).max
        return {self.name: np.clip(values, -highest, highest).astype(np.float32)}

    def _first(self, name: str, otherwise: float) -> tuple[float, ...]:
        """A statistic of the first copy."""
        values: tuple[float, ...] = getattr(self, name) or (otherwise,) * self.components
        return values[:self.components]

    def written(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Replaces missing numbers by the mean, since JSON has no NaN."""
        mean = np.reshape(self._first("mean", 0.0), self.shape)
        return {name: np.where(np.isfinite(value), value, mean) for name, value in values.items()}
