"""Paired statistics that compare two rankings on the same lists: bootstrap, permutation test, Holm's correction."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tfmtl2r.errors import InputError
from tfmtl2r.types import Array

DRAWS = 10_000
"""Default number of random sign vectors in a permutation test."""
_EXACT = 32  # up to this number of lists, the test uses all 2^n sign vectors
_CHUNK = 4096  # sign vectors per matrix product; bounds memory


def paired_differences(ours: Array, theirs: Array, weights: Array | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns the difference and the weight of each list that counts in both rankings; both arrays are ``[M]``.

    Args:
        ours, theirs: the metric of each list, for the same lists; a list with NaN in either array is left out.
        weights: how many times each list counts in the mean; None counts every list once.

    Raises:
        ValueError: when the arrays have different lengths, a weight is negative or not finite, or no list counts in
            both rankings.
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
    """Returns the mean difference of two rankings over lists, with a paired bootstrap percentile interval.

    Lists are drawn with replacement. Each draw takes the same lists from both rankings, so that differences between
    lists cancel out. The mean is ``sum(w d) / sum(w)`` over the drawn lists, because the metric is the same weighted
    mean.

    Args:
        ours, theirs: the metric of each list, for the same lists; a list with NaN in either array is left out.
        level: confidence level of the interval.
        draws: number of bootstrap samples.
        seed: seed of the draws.
        weights: how many times each list counts in the mean, for example :attr:`Score.counts`; None counts every list
            once.

    Returns:
        The mean of ``ours - theirs``, and the lower and upper end of the interval.

    Raises:
        ValueError: when the arrays have different lengths, or no list counts in both rankings.

    >>> bootstrap(np.array([1.0, 1.0]), np.array([0.5, 0.5]))
    (0.5, 0.5, 0.5)
    >>> bootstrap(np.array([1.0, 0.0]), np.array([0.0, 0.0]), weights=[3, 1])[0]
    0.75

    Source: Efron, Bootstrap Methods: Another Look at the Jackknife, 1979, https://doi.org/10.1214/aos/1176344552.
    """
    difference, weight = paired_differences(ours, theirs, weights)
    means = bootstrap_means(difference[None], weight[None], draws, seed)[:, 0]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float((difference * weight).sum() / weight.sum()), float(low), float(high)


def bootstrap_means(values: np.ndarray, weights: np.ndarray, draws: int = 2000, seed: int = 0) -> np.ndarray:
    """Returns the weighted means of bootstrap samples, ``[draws, T]``. Each sample takes the same lists for all rows.

    Args:
        values: ``[T, M]``, T values of M lists; NaN where a list does not count.
        weights: ``[T, M]``, how many times each list counts.
        draws: number of samples.
        seed: seed of the draws.

    Returns:
        The means; NaN where a sample contains no list that counts in a row.
    """
    counted = ~np.isnan(values) & (weights > 0)
    some = counted.any(axis=0)
    weight = np.where(counted, weights, 0.0)[:, some]
    parts = np.where(counted, values, 0.0)[:, some] * weight
    rng, count = np.random.default_rng(seed), parts.shape[1]
    means = np.empty((draws, len(parts)))
    with np.errstate(invalid="ignore"):
        for draw in range(draws):
            lists = rng.integers(0, count, count)
            means[draw] = parts[:, lists].sum(axis=1) / weight[:, lists].sum(axis=1)
    return means


def permutation_test(
    ours: Array, theirs: Array, draws: int = DRAWS, seed: int = 0, weights: Array | None = None
) -> float:
    """Two-sided p-value of the paired sign-flip test: how often chance alone gives a mean difference of this size.

    If the two rankings are equally good, the sign of each list's term ``w d`` in the weighted mean is random. The test
    is exact, over all sign vectors, when at most 32 lists have different values. Otherwise the p-value is
    ``(1 + hits) / (1 + draws)`` over random sign vectors, which is never 0.

    Args:
        ours, theirs: the metric of each list, for the same lists; a list with NaN in either array is left out.
        draws: maximum number of random sign vectors; drawing stops after 10,000 if at least 1 % of them are hits.
        seed: seed of the draws.
        weights: how many times each list counts in the mean; None counts every list once.

    Raises:
        ValueError: when the arrays have different lengths, or no list counts in both rankings.

    Source: Fisher, The Design of Experiments, 1935, section 21; Smucker, Allan and Carterette, A Comparison of
    Statistical Significance Tests for Information Retrieval Evaluation, 2007, https://doi.org/10.1145/1321440.1321528.

    >>> permutation_test([1.0, 1.0, 1.0], [0.0, 0.0, 0.0])  # 2 of 8 sign vectors
    0.25
    """
    difference, weight = paired_differences(ours, theirs, weights)
    difference = difference * weight
    difference = difference[difference != 0]  # the sign of 0 changes nothing
    if not len(difference):
        return 1.0
    seen = abs(difference.sum()) - 1e-12 * abs(difference).sum()  # equal sums may differ by rounding
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

    Every sum is a sum over the first half of the lists plus a sum over the second half. A binary search in the sorted
    sums of the second half counts the pairs.
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
    """Holm's correction of p-values for testing several hypotheses.

    If results with an adjusted p-value below 5 % are called significant, the probability of any false one is at most
    5 %. The i-th smallest of m p-values becomes the largest of ``(m - j + 1) p_j`` over ``j <= i``, at most 1.

    Args:
        p_values: ``[m]``.

    Raises:
        ValueError: when a number is not between 0 and 1.

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
