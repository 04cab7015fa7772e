"""Calendar arithmetic in a graph: epoch numbers to days and seconds, and to the day of the year."""

from __future__ import annotations

import datetime
import zoneinfo
from collections.abc import Sequence
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.types import Tensor

UNITS = {"D": 0, "s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}
"""Unit -> parts of a second; 0 for whole days."""
_FIRST, _LAST = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC), datetime.datetime(2038, 1, 1, tzinfo=datetime.UTC)


class Moments(keras.layers.Layer):
    """Epoch numbers to ``float32[..., 3]``: local days since 1970-01-01, seconds of the local day, and the seconds by
    which the local time is later than UTC. All three are NaN for a missing moment.

    The arithmetic is in integers, since a float32 has a resolution of two minutes at today's seconds.

    Args:
        unit: a key of :data:`UNITS`.
        changes: pairs (second, seconds): from this second of UTC on, the local time is later by these seconds more.

    >>> Moments("s")(tf.constant([1_700_000_000, -1, -2], tf.int64)).numpy().tolist()
    [[19675.0, 80000.0, 0.0], [nan, nan, nan], [-1.0, 86398.0, 0.0]]
    """

    def __init__(self, unit: str, changes: Sequence[tuple[int, int]] = (), **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        self.parts, self.changes = UNITS[unit], tuple(changes)

    def call(self, epoch: Tensor) -> Tensor:
        """``epoch`` is ``int64[...]``; -1 is a missing one."""
        shift = tf.zeros_like(epoch)
        if not self.parts:
            days, seconds, rest = epoch, tf.zeros_like(epoch), 0.0
        else:
            whole, part = _divided(epoch, self.parts)
            rest = tf.cast(part, tf.float32) / self.parts
            if self.changes:
                starts, shifts = (tf.constant(values, tf.int64) for values in zip(*self.changes, strict=True))
                shift = tf.reduce_sum(tf.where(whole[..., None] >= starts, shifts, tf.zeros_like(shifts)), axis=-1)
            days, seconds = _divided(whole + shift, 86400)
        days, seconds, shift = (tf.cast(whole, tf.float32) for whole in (days, seconds, shift))
        found = tf.stack([days, seconds + rest, shift], axis=-1)
        return tf.where((epoch == -1)[..., None], float("nan"), found)


def _divided(values: Tensor, by: int) -> tuple[Tensor, Tensor]:
    """Quotient and remainder, which is never negative."""
    remainder = tf.math.floormod(values, tf.constant(by, tf.int64))
    return (values - remainder) // by, remainder


def changes_of(zone: str) -> tuple[tuple[int, int], ...]:
    """The changes of a time zone against UTC, for :class:`Moments`, from 1970 to 2037.

    Args:
        zone: a name such as ``"Europe/Berlin"``, or an offset such as ``"+05:30"``.

    Raises:
        ValueError: for an unknown zone.

    >>> changes_of("-01:30")
    ((-9223372036854775808, -5400),)
    >>> changes_of("Europe/Berlin")[:3]
    ((-9223372036854775808, 3600), (323830800, 3600), (338950800, -3600))
    """
    everything = -(2**63)
    if zone[:1] in "+-":
        offset = datetime.datetime.strptime(zone, "%z").utcoffset()
        assert offset is not None
        return ((everything, int(offset.total_seconds())),)
    try:
        place = zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, IsADirectoryError) as error:
        raise ValueError(f"there is no time zone {zone!r}") from error

    def offset_at(second: int) -> int:
        moment = datetime.datetime.fromtimestamp(second, place).utcoffset()
        return int(moment.total_seconds()) if moment else 0

    found, before = [], int(_FIRST.timestamp())
    found.append((everything, offset_at(before)))
    for after in range(before + 7 * 86400, int(_LAST.timestamp()), 7 * 86400):
        if offset_at(after) != (old := offset_at(before)):
            low, high = before, after
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset_at(middle) == old else (low, middle)
            found.append((high, offset_at(high) - old))
        before = after
    return tuple(found)


def seconds_between(earlier: Tensor, later: Tensor) -> Tensor:
    """The seconds from one moment to another, ``float32[...]``, both as :class:`Moments` returns them.

    The clocks of a zone do not matter: a change of the clocks is no time that passes.
    """
    whole = (later[..., 0] - earlier[..., 0]) * 86400.0
    return whole + (later[..., 1] - later[..., 2]) - (earlier[..., 1] - earlier[..., 2])


def age_buckets(seconds: Tensor, count: int) -> Tensor:
    """``floor(log2(1 + seconds))`` as a one-hot vector, ``float32[..., count]``; the last bucket has no upper bound.

    >>> tf.argmax(age_buckets(tf.constant([0.0, 1.0, 3600.0, 86400.0]), 32), axis=-1).numpy().tolist()
    [0, 1, 11, 16]
    """
    bounds = tf.constant([2.0**k for k in range(1, count)])  # a logarithm would be rounded at the bounds
    bucket = tf.reduce_sum(tf.cast(1.0 + seconds[..., None] >= bounds, tf.int32), axis=-1)
    return tf.one_hot(bucket, count)


def day_of_year(days: Tensor) -> Tensor:
    """The day of the year, from 0, of whole days since 1970-01-01.

    >>> day_of_year(tf.constant([0.0, 364.0, 365.0, 19675.0, 19782.0, -1.0])).numpy().tolist()
    [0.0, 364.0, 0.0, 317.0, 59.0, 364.0]
    """
    year = tf.floor(days / 365.2425) + 1970.0
    year += tf.cast(days >= _before(year + 1.0), days.dtype) - tf.cast(days < _before(year), days.dtype)
    return days - _before(year)


def _before(year: Tensor) -> Tensor:
    """Days from 1970-01-01 to the first day of a year."""
    leap = tf.floor((year - 1969.0) / 4.0) - tf.floor((year - 1901.0) / 100.0) + tf.floor((year - 1601.0) / 400.0)
    return 365.0 * (year - 1970.0) + leap
