"""Transforms of numbers before the standardisation, and what they fit in the training split."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfmtl2r.errors import InputError

CLIP = (0.001, 0.999)
"""The quantiles of ``"quantile_clip"``."""
RANKED = "rank_gauss"
LOG_OFFSET = 0.01
"""The constant that ``"log"`` adds, so that 0 has a logarithm; the value is allRank's."""
_MOST_POINTS = 1000
"""The largest number of points at which ranks are kept."""


@dataclasses.dataclass(frozen=True)
class _Transform:
    """A transform before the standardisation. Values of the sign ``sign`` are refused."""

    forward: Callable[[Any, Any], Any] = lambda x, math: x
    inverse: Callable[[Any], Any] = lambda z: z
    refused: int = 0


# numpy computes the statistics, tf.math the graph; both have functions of these names.
TRANSFORMS = {
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
    "quantile_clip": _Transform(),
    RANKED: _Transform(),
}


def ranked(known: np.ndarray) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Distinct values of a column and, for each of them, the numbers of values below it and up to it.

    A column with many distinct values keeps the values at equally spaced quantiles.

    Args:
        known: the column without missing values.

    >>> ranked(np.array([2.0, 1.0, 5.0, 2.0]))
    ((1.0, 2.0, 5.0), (0, 1, 1, 3, 3, 4))
    """
    points, counts = np.unique(known.astype(np.float32), return_counts=True)  # float32, as in the graph
    upto = counts.cumsum()
    if len(points) > _MOST_POINTS:
        places = np.linspace(0, len(known) - 1, _MOST_POINTS).astype(np.int64)
        kept = np.unique(np.searchsorted(upto, places, side="right"))
    else:
        kept = np.arange(len(points))
    ranks = np.stack([(upto - counts)[kept], upto[kept]], axis=-1)
    return tuple(float(str(point)) for point in points[kept]), tuple(ranks.ravel().tolist())


def heights(points: Sequence[Sequence[float]], ranks: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """The tables of :func:`tfmtl2r.layers.numbers.rank_gauss` for the results of :func:`ranked`, one per column.

    With n values in the training split, u = (below + up to) / 2n, clipped to [1 / 2n, 1 - 1 / 2n], and the height is
    the normal quantile of u. Between two points, u counts from the lower one's ``up to`` to the upper one's ``below``.
    """
    from tfmtl2r._backend import tf

    width = 1 + max(map(len, points))
    shares = np.full((len(points), 2 * width + 1), 0.5)
    table = np.full((len(points), width), np.inf, np.float32)
    for number, (mine, counts) in enumerate(zip(points, ranks, strict=True)):
        table[number, :len(mine)] = mine
        if mine:
            edges = np.array([0, *counts, counts[-1]], np.float64)  # 0, below, up to, below, up to, ..., n
            u = (edges[:-1] + edges[1:]) / 2 / counts[-1]
            u[0], u[-1] = 0.0, 1.0
            shares[number, :len(u)] = np.clip(u, 0.5 / counts[-1], 1 - 0.5 / counts[-1])
    with tf.init_scope():  # numbers, not operations of the graph in which this is called
        normal = tf.math.ndtri(tf.constant(shares)).numpy()
    return table, normal.astype(np.float32)


def at_quantiles(known: np.ndarray, number: int) -> tuple[float, ...]:
    """At most ``number`` distinct thresholds at equally spaced quantiles of a column, without its largest value.

    >>> at_quantiles(np.arange(8.0), 3)
    (1.0, 3.0, 5.0)
    """
    if not len(known):
        return ()
    levels = np.arange(1, number + 1) / (number + 1)
    found = np.unique(np.quantile(known, levels, method="inverted_cdf"))
    return tuple(found[found < known.max()].tolist())


def in_float32(threshold: float) -> float:
    """The largest float32 that is not above a threshold: exactly the same float32 numbers lie above both.

    >>> in_float32(0.5), in_float32(0.1) < 0.1
    (0.5, True)
    """
    near = np.float32(threshold)
    return float(near if float(near) <= float(threshold) else np.nextafter(near, np.float32(-np.inf)))


def checked_steps(steps: Any, of: str) -> Any:
    """Returns the option ``steps`` as a tuple of thresholds, a number of quantiles, a mapping, or None.

    Args:
        steps: the option.
        of: the feature, for messages.

    Raises:
        ValueError: for anything else.

    >>> checked_steps([3, 1.5], "x"), checked_steps({"from": "quantiles", "number": 4}, "x")
    ((1.5, 3.0), 4)
    """
    expected = (f"{of}: steps must be a list of thresholds such as [0.5, 2.0], a number of quantiles such as 8, or "
                f"{{from = \"lightgbm\", number = 512}}, not {steps!r}")
    if isinstance(steps, Mapping):
        if set(steps) != {"from", "number"} or steps["from"] not in ("quantiles", "lightgbm"):
            raise InputError(expected)
        number = checked_steps(steps["number"], of)
        if not isinstance(number, int):
            raise InputError(expected)
        return number if steps["from"] == "quantiles" else {"from": "lightgbm", "number": number}
    if isinstance(steps, (list, tuple)):
        numbers = [float(one) for one in steps if isinstance(one, (int, float)) and not isinstance(one, bool)]
        if not steps or len(numbers) < len(steps) or not np.isfinite(numbers).all():
            raise InputError(expected)
        return tuple(sorted(set(numbers)))
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise InputError(expected)
    return steps
