"""Whether the mean gradients of two tasks oppose each other, beyond the noise of batches.

``g_sb`` is the gradient of task s on batch b of B. The inner product of two mean gradients is estimated by pairs of
different batches::

    p_st = 1 / (B (B - 1)) sum_{b != c} <g_sb, g_tc>

Noise that two tasks share in one batch, such as an unusual item, enters no such pair, so that ``p_st`` is 0 on average
for tasks with nothing in common. ``p_ss`` is the squared length of a mean gradient without the noise that a plain
square adds. The cosine is ``p_st / sqrt(p_ss p_tt)``. Standard errors are jackknife estimates over batches.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class Opposition:
    """Two tasks' mean gradients.

    Args:
        cosine: their cosine; NaN if a gradient cannot be told from noise.
        error: standard error of the cosine.
        p: p-value of the one-sided test that their inner product is not below 0.
        batches: number of batches.
    """

    cosine: float
    error: float
    p: float
    batches: int


def oppositions(gradients: np.ndarray) -> dict[tuple[int, int], Opposition]:
    """Compares every two tasks.

    Args:
        gradients: ``[B, T, P]``, a gradient of each task on each batch.

    >>> rng = np.random.default_rng(1)
    >>> noise = rng.normal(size=[20, 2, 50])
    >>> mean = np.outer([1.0, -1.0], np.ones(50))
    >>> found = oppositions(mean + noise)[0, 1]
    >>> round(found.cosine, 1), found.p < 1e-6
    (-1.0, True)
    >>> oppositions(noise + rng.normal(size=[20, 1, 50]))[0, 1].p > 0.05  # the noise of a batch is shared
    True
    """
    batches, tasks, _ = gradients.shape
    flat = gradients.reshape(batches * tasks, -1).astype(np.float64)
    inner = (flat @ flat.T).reshape(batches, tasks, batches, tasks)
    whole = _products(inner)
    left = np.array([_products(np.delete(np.delete(inner, b, 0), b, 2)) for b in range(batches)])
    found = {}
    for s in range(tasks):
        for t in range(s + 1, tasks):
            z = _ratio(whole[s, t], _jackknife(left[:, s, t]))
            cosine = _cosine(whole, s, t)
            each = np.array([_cosine(one, s, t) for one in left])
            error = _jackknife(each) if np.isfinite(each).all() else math.nan
            found[s, t] = Opposition(cosine, error, t_tail(-z, batches - 1), batches)
    return found


def lengths(gradients: np.ndarray) -> np.ndarray:
    """The lengths of the mean gradients ``[B, T, P]`` without noise, ``[T]``; 0 if there is only noise."""
    batches, tasks, _ = gradients.shape
    flat = gradients.reshape(batches * tasks, -1).astype(np.float64)
    inner = (flat @ flat.T).reshape(batches, tasks, batches, tasks)
    return np.sqrt(np.maximum(np.diag(_products(inner)), 0.0))


def noise_ratio(gradients: np.ndarray) -> np.ndarray:
    """The variance of one batch's gradient over the squared length of the mean gradient, ``[T]``.

    Times the batch size, this is the simple noise scale of McCandlish et al., An empirical model of large-batch
    training, 2018, https://arxiv.org/abs/1812.06162: a batch of this size has as much noise as signal.
    """
    squares = (gradients.astype(np.float64) ** 2).sum(axis=2).mean(axis=0)
    signal = lengths(gradients) ** 2
    return np.divide(squares - signal, signal, out=np.full(len(signal), np.inf), where=signal > 0)


def t_tail(t: float, freedom: int) -> float:
    """The probability that a t-distributed number exceeds t; 1 for NaN.

    >>> round(t_tail(2.0, 10), 4), t_tail(float("nan"), 10)
    (0.0367, 1.0)
    """
    if math.isnan(t):
        return 1.0
    if math.isinf(t):
        return 0.0 if t > 0 else 1.0
    # x = tan(u) makes the range finite.
    u = np.linspace(math.atan(abs(t)), math.pi / 2, 20_001)[:-1]
    log = (math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - 0.5 * math.log(freedom * math.pi)
           - (freedom + 1) / 2 * np.log1p(np.tan(u) ** 2 / freedom) + 2 * np.log(1 / np.cos(u)))
    tail = min(0.5, float(np.trapezoid(np.exp(log), u)))
    return tail if t >= 0 else 1.0 - tail


def _products(inner: np.ndarray) -> np.ndarray:
    """``p`` of all tasks, ``[T, T]``, from inner products ``[B, T, B, T]``."""
    batches = len(inner)
    same = np.einsum("bsbt->st", inner)
    return (inner.sum(axis=(0, 2)) - same) / (batches * (batches - 1))


def _cosine(products: np.ndarray, s: int, t: int) -> float:
    if products[s, s] <= 0 or products[t, t] <= 0:
        return math.nan
    return float(np.clip(products[s, t] / math.sqrt(products[s, s] * products[t, t]), -1, 1))


def _jackknife(left: np.ndarray) -> float:
    return float(np.sqrt((len(left) - 1) / len(left) * ((left - left.mean()) ** 2).sum()))


def _ratio(value: float, error: float) -> float:
    if error > 0:
        return value / error
    return math.nan if value == 0 else math.copysign(math.inf, value)
