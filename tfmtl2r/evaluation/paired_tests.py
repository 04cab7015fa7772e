"""Is one ranking better than another: paired statistics over the values of the same lists."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tfmtl2r.errors import InputError
from tfmtl2r.types import Array

DRAWS = 10_000
"""Random sign vectors of a permutation test, unless a caller asks for more."""
_EXACT = 32  # up to so many lists all 2^n signs count
_CHUNK = 4096  # sign vectors at a time: bounds memory


def paired_differences(ours: Array, theirs: Array, weights: Array | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Differences list by list and how much each list counts, both ``[M]``, of the lists that count in both rankings.

    Args:
        ours, theirs: a metric per list, the same lists; NaN in either leaves the list out.
        weights: how many times each list counts in the mean; once if None.

    Raises:
        ValueError: for arrays of different lists, a weight that is negative or not finite, or when no list counts in
            both.
    """
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    weights = np.ones_like(ours) if weights is None else np.asarray(weights, float)
    if ours.ndim != 1 or not ours.shape == theirs.shape == weights.shape:
        raise InputError("paired values and their weights must come from the same lists, got shapes "
                         f"{ours.shape}, {theirs.shape} and {weights.shape}")
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise InputError(f"a list counts a finite number of times >= 0, got {weights.tolist()}")
    counted = ~np.isnan(ours - theirs) & (weights > 0)
    if not counted.any():
        raise InputError("no list counts in both rankings")
    return (ours - theirs)[counted], weights[counted]


def bootstrap(
    ours: np.ndarray, theirs: np.ndarray, level: float = 0.95, draws: int = 2000, seed: int = 0,
    weights: Array | None = None,
) -> tuple[float, float, float]:
    """The mean difference of two rankings over lists, with a paired percentile interval.

    Lists are drawn with replacement, both rankings on the same lists, so that differences between lists cancel out.
    The mean is ``sum(w d) / sum(w)`` over the lists drawn, which is what the metric itself is a mean of.

    Args:
        ours, theirs: a metric per list, the same lists; NaN in either leaves the list out.
        level: of the interval.
        draws: bootstrap samples.
        seed: of the draws.
        weights: how many times each list counts in the mean, such as :attr:`Score.counts`; once if None.

    Returns:
        Mean of ``ours - theirs``, lower and upper end.

    Raises:
        ValueError: for arrays of different lists, or when no list counts in both.

    >>> bootstrap(np.array([1.0, 1.0]), np.array([0.5, 0.5]))
    (0.5, 0.5, 0.5)
    >>> bootstrap(np.array([1.0, 0.0]), np.array([0.0, 0.0]), weights=[3, 1])[0]
    0.75

    Source: Efron, Bootstrap Methods: Another Look at the Jackknife, 1979, https://doi.org/10.1214/aos/1176344552.
    """
    difference, weight = paired_differences(ours, theirs, weights)
    rng = np.random.default_rng(seed)
    parts, means = difference * weight, np.empty(draws)
    for draw in range(draws):
        lists = rng.integers(0, len(difference), len(difference))
        means[draw] = parts[lists].sum() / weight[lists].sum()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(parts.sum() / weight.sum()), float(low), float(high)


def permutation_test(
    ours: Array, theirs: Array, draws: int = DRAWS, seed: int = 0, weights: Array | None = None
) -> float:
    """Two-sided p-value of the paired sign-flip test: how often does chance alone give as large a mean difference?

    If the two rankings were equal, the sign of each list's difference would be random, and so would that of its part
    ``w d`` of the weighted mean. With at most 32 lists whose values differ all signs count; else
    ``(1 + hits) / (1 + draws)`` over random ones, which is never 0.

    Args:
        ours, theirs: a metric per list, the same lists; NaN in either leaves the list out.
        draws: random sign vectors, at most: after 10,000 there are no more where at least 1 % hit.
        seed: of the draws.
        weights: how many times each list counts in the mean; once if None.

    Raises:
        ValueError: for arrays of different lists, or when no list counts in both.

    Source: Fisher, The Design of Experiments, 1935, section 21; Smucker, Allan and Carterette, A Comparison of
    Statistical Significance Tests for Information Retrieval Evaluation, 2007, https://doi.org/10.1145/1321440.1321528.

    >>> permutation_test([1.0, 1.0, 1.0], [0.0, 0.0, 0.0])  # 2 of 8 sign vectors
    0.25
    """
    difference, weight = paired_differences(ours, theirs, weights)
    difference = difference * weight
    difference = difference[difference != 0]  # their sign changes nothing
    if not len(difference):
        return 1.0
    seen = abs(difference.sum()) - 1e-12 * abs(difference).sum()  # equal sums may round apart
    if seen <= 0:
        return 1.0
    if len(difference) <= _EXACT:
        return _exact(difference, seen)
    rng = np.random.default_rng(seed)
    hits = done = 0
    while done < draws and (done < DRAWS or 100 * hits < done):
        flips = rng.integers(0, 2, (min(_CHUNK, draws - done), len(difference)), dtype=np.int8) * 2.0 - 1
        hits += int((np.abs(flips @ difference) >= seen).sum())
        done += len(flips)
    return (1 + hits) / (1 + done)


def _exact(difference: np.ndarray, seen: float) -> float:
    """The share of all 2^n sign vectors whose sum is at least ``seen`` or at most ``-seen``.

    Every sum is one of the first half of the lists plus one of the second: a search in sorted sums counts them.
    """
    left, right = (np.sort(_signed_sums(part)) for part in np.array_split(difference, 2))
    above = len(right) - np.searchsorted(right, seen - left, side="left")
    below = np.searchsorted(right, -seen - left, side="right")
    return float(above.sum() + below.sum()) / 2.0 ** len(difference)


def _signed_sums(values: np.ndarray) -> np.ndarray:
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums - value, sums + value])
    return sums


def holm(p_values: Iterable[float]) -> np.ndarray:
    """p-values adjusted for testing several hypotheses: any of them below 5 % is false with at most 5 % chance.

    The i-th smallest of m becomes the largest of ``(m - j + 1) p_j`` over ``j <= i``, at most 1.

    Args:
        p_values: ``[m]``.

    Raises:
        ValueError: for a number that is no probability.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979, https://www.jstor.org/stable/4615733.

    >>> holm([0.04, 0.01, 0.03]).tolist()
    [0.06, 0.03, 0.06]
    """
    values = np.asarray(list(p_values), float)
    if not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"p-values must lie between 0 and 1, got {values.tolist()}")
    order = np.argsort(values, kind="stable")
    scaled = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(scaled, 1.0)
    return adjusted
