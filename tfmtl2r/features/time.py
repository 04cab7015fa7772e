"""Times: a timestamp or a date as points on circles, and as an age."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from tfmtl2r.errors import InputError
from tfmtl2r.features.base import MISSING, Columns, Feature, Values
from tfmtl2r.registry import Card

CARD = Card(title="Time", note="a timestamp or date as sine and cosine of hour, weekday and day of the year; an age")
__all__ = ["Time"]

_UNITS = ("s", "ms", "us", "ns", "D")
_PERIODS = {"hour": 24.0, "weekday": 7.0, "day_of_year": 365.2425}
_DAY = 86400.0
_BUCKETS = 32


@dataclasses.dataclass(frozen=True)
class Time(Feature):
    """A moment: ``sin, cos(2 pi v / period)`` for hour, weekday and day of the year, and the age ``log(1 + seconds)``.

    The hour has minutes, the weekday and the day of the year have hours; weeks begin on Monday. A missing time is 0 in
    every component, and has an indicator. An age is standardised; a moment after its reference has the age 0. Ages are
    seconds that have passed, whatever the clocks of the zone did.

    A column may contain dates and times (``datetime64``, pandas' with or without time zone, Arrow's), ISO 8601 text, or
    epoch numbers in ``unit``. Text that is all digits is an epoch number and no date. Times without a zone are in UTC.
    A request contains epoch numbers, ``int64``, in ``unit`` or in seconds; -1 is a missing one.

    Args:
        name: column and serving input.
        context: True for a feature of the whole list.
        parts: which circles: ``"hour"``, ``"weekday"``, ``"day_of_year"``.
        unit: unit of epoch numbers: ``"s"``, ``"ms"``, ``"us"``, ``"ns"`` or ``"D"`` (days); required for a column of
            numbers, otherwise seconds after the fit.
        zone: time zone of the calendar, such as ``"Europe/Berlin"`` or ``"+05:30"``; UTC if empty.
        reference: a column with the moment of the request, from which the age is counted; empty for no age. Several
            features may have the same reference, which may be a time itself.
        half_life: adds the component ``2^(-age / half_life)``, with this half-life in days.
        age_buckets: adds a one-hot vector of ``floor(log2(1 + seconds))``, of 32 components.
        missing: add a component that is 1 for a missing time.
        mean, variance: statistics of the age, fitted on the training split.

    >>> Time("shown", reference="now").width
    8
    """

    name: str
    context: bool = False
    parts: tuple[str, ...] = tuple(_PERIODS)
    unit: str | None = None
    zone: str = ""
    reference: str = ""
    half_life: float | None = None
    age_buckets: bool = False
    missing: bool = True
    mean: float | None = None
    variance: float | None = None

    file_keys: ClassVar[tuple[str, ...]] = (
        "unit", "zone", "reference", "half_life", "age_buckets", "missing", "parts")
    fitted: ClassVar[tuple[str, ...]] = ("mean", "variance")
    after_lookup: ClassVar[tuple[str, ...]] = fitted

    def __post_init__(self) -> None:
        parts = (self.parts,) if isinstance(self.parts, str) else tuple(self.parts)
        object.__setattr__(self, "parts", parts)
        if wrong := [part for part in parts if part not in _PERIODS]:
            raise InputError(f"feature {self.name!r}: parts must be among {', '.join(_PERIODS)}, not {wrong[0]!r}")
        if self.unit is not None and self.unit not in _UNITS:
            raise InputError(f"feature {self.name!r}: unit must be one of {', '.join(_UNITS)}, not {self.unit!r}")
        if not parts and not self.reference:
            raise InputError(f"feature {self.name!r}: give parts, or a reference for the age")
        if self.half_life is not None and not 0 < self.half_life < math.inf:
            raise InputError(f"feature {self.name!r}: half_life must be a number of days above 0, not "
                             f"{self.half_life!r}")
        if (self.half_life is not None or self.age_buckets) and not self.reference:
            raise InputError(f"feature {self.name!r}: half_life and age_buckets read the age: give a reference")

    @property
    def raw(self) -> dict[str, Values]:
        """Epoch numbers."""
        return {name: Values("int64") for name in (self.name, *([self.reference] if self.reference else []))}

    @property
    def looked_up(self) -> dict[str, Values]:
        """Days since 1970 and seconds of the day in the time zone, and the zone's difference from UTC."""
        return {name: Values("float32", (3,)) for name in self.raw}

    def reading_of(self, name: str) -> Any:
        """Several times may have one reference, in one unit. Its zone does not matter."""
        return self.context, self.raw[name], self.unit or "s"

    @property
    def borrowed(self) -> tuple[str, ...]:
        """The reference."""
        return (self.reference,) if self.reference else ()

    @property
    def width(self) -> int:
        """Two numbers per circle, the readings of the age and the indicator."""
        ages = bool(self.reference) + (self.half_life is not None) + _BUCKETS * self.age_buckets
        return 2 * len(self.parts) + ages + self.missing

    def read(self, columns: Columns) -> dict[str, np.ndarray]:
        """Reads moments as epoch numbers."""
        return {name: self._epochs(columns, name) for name in self.raw}

    def _epochs(self, columns: Columns, name: str) -> np.ndarray:
        """A column as epoch numbers, ``int64[N]``."""
        found = columns.identities(name)
        if found.dtype.kind == "f" and np.isnan(found).all():
            found = np.full(len(found), "NaT", "datetime64[s]")
        if found.dtype.kind in "OU":
            found = self._of_text(columns, name, found)
        if found.dtype.kind == "M":
            return np.where(np.isnat(found), -1, found.astype(f"datetime64[{self.unit or 's'}]").astype(np.int64))
        if self.unit is None:
            raise InputError(f"feature {self.name!r}: {name!r} contains numbers ({found.dtype}): set unit to the unit "
                             "of these epoch numbers, such as 's' or 'ms'")
        if found.dtype.kind in "iu":
            return found.astype(np.int64)
        columns.refuse(np.isinf(found), found, f"feature {self.name!r}: {name!r} is infinite", "leave it empty")
        return np.where(np.isnan(found), -1, np.floor(np.nan_to_num(found))).astype(np.int64)

    def _of_text(self, columns: Columns, name: str, texts: np.ndarray) -> np.ndarray:
        """Text as numbers, if there is a unit and all cells spell numbers, or else as times."""
        if self.unit is not None:
            try:
                return columns.numbers(name)
            except InputError:
                pass
        return self._parsed(columns, name, texts)

    def _parsed(self, columns: Columns, name: str, texts: np.ndarray) -> np.ndarray:
        """Text as times."""
        import pandas as pd

        # Digits without a separator could be a number as well, and would be one in a table where all cells are digits.
        cells = pd.Series(texts.astype(object))
        cells = cells.where(~cells.astype(str).str.fullmatch(r"\s*[+-]?\d+\s*"), "digits")
        found = pd.to_datetime(cells, utc=True, format="ISO8601", errors="coerce")
        advice = "write times like 2024-05-31 or 2024-05-31T08:15:00+02:00; for epoch numbers, set unit"
        wrong = found.isna().to_numpy() & ~np.isin(texts.astype(str), (*MISSING, "NaT"))
        columns.refuse(wrong, texts, f"feature {self.name!r}: {name!r} is no ISO 8601 time", advice)
        return found.dt.tz_localize(None).to_numpy()

    def fit(self, columns: Columns, min_count: int) -> Self:
        """Fits mean and variance of the age. A column without numbers gets the unit of seconds, if there is none."""
        epochs = self.read(columns)
        if self.unit is None:
            return dataclasses.replace(self, unit="s").fit(columns, min_count)
        if not self.reference or self.mean is not None:
            return self
        known = (epochs[self.name] != -1) & (epochs[self.reference] != -1)
        parts = {"D": 1 / _DAY, "s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[self.unit]
        seconds = (epochs[self.reference][known] - epochs[self.name][known]) / parts
        ages = np.log1p(np.maximum(seconds, 0.0))
        mean, variance = (float(ages.mean()), float(ages.var())) if len(ages) else (0.0, 0.0)
        return dataclasses.replace(self, mean=mean, variance=variance)

    def lookups(self) -> dict[str, Any]:
        """The split of epoch numbers into days and seconds."""
        from tfmtl2r.layers.calendar import Moments, changes_of

        try:
            changes = changes_of(self.zone) if self.zone else ()
        except ValueError as error:
            raise InputError(f"feature {self.name!r}: zone is a name such as 'Europe/Berlin' or an offset such as "
                             f"'+05:30', not {self.zone!r}") from error
        key = f"moments_{self.key}"
        found = {self.name: Moments(self.unit or "s", changes, name=key)}
        if self.reference:
            found[self.reference] = Moments(self.unit or "s", changes, name=f"{key}_reference")
        return found

    def encode(self, tensors: Mapping[str, Any], layers: Mapping[str, Any]) -> Any:
        """Sine and cosine of each part, the age, and the indicator."""
        from tfmtl2r._backend import tf
        from tfmtl2r.layers.calendar import day_of_year

        known = self.known(tensors)
        days, seconds, _ = tf.unstack(tf.where(known[:, None], tensors[self.name], 0.0), axis=-1)
        values = {
            "hour": seconds / 3600.0, "weekday": tf.math.floormod(days + 3.0, 7.0) + seconds / _DAY,
            "day_of_year": day_of_year(days) + seconds / _DAY,
        }
        angles = [2.0 * math.pi / _PERIODS[part] * values[part] for part in self.parts]
        pieces = [circle(angle) for angle in angles for circle in (tf.sin, tf.cos)]
        pieces = [tf.where(known, piece, 0.0) for piece in pieces]
        found = [tf.stack(pieces, axis=-1)] if pieces else []
        found += self._ages(tensors) if self.reference else []
        if self.missing:
            found.append(tf.cast(~known, tf.float32)[:, None])
        return tf.concat(found, axis=-1)

    def _ages(self, tensors: Mapping[str, Any]) -> list[Any]:
        """The readings of the age, each ``[n, ...]``; 0 without a time or a reference."""
        from tfmtl2r._backend import tf
        from tfmtl2r.layers.calendar import age_buckets, seconds_between

        seconds = seconds_between(tensors[self.name], tensors[self.reference])
        both = tf.math.is_finite(seconds)
        seconds = tf.maximum(tf.where(both, seconds, 0.0), 0.0)
        scale = (self.variance or 0.0) ** -0.5 if (self.variance or 0.0) > 1e-12 else 1.0
        readings = [((tf.math.log1p(seconds) - (self.mean or 0.0)) * scale)[:, None]]
        if self.half_life is not None:
            readings.append(tf.pow(2.0, -seconds / (_DAY * self.half_life))[:, None])
        if self.age_buckets:
            readings.append(age_buckets(seconds, _BUCKETS))
        return [tf.where(both[:, None], reading, 0.0) for reading in readings]

    def known(self, tensors: Mapping[str, Any]) -> Any:
        """True for a time that is not missing."""
        from tfmtl2r._backend import tf

        return tf.math.is_finite(tensors[self.name][:, 0])

    def example(self, shape: tuple[int, ...], random: np.random.Generator) -> dict[str, np.ndarray]:
        """Moments of 2024, and later references."""
        moments = random.integers(19_723, 20_089, shape) * 86400 + random.integers(0, 86400, shape)
        parts = {"ms": 1000, "us": 10**6, "ns": 10**9}.get(self.unit or "s", 1)
        found = {}
        for number, name in enumerate(self.raw):
            later = moments + number * random.integers(0, 10**6, shape)
            found[name] = (later // 86400 if self.unit == "D" else later * parts).astype(np.int64)
        return found
