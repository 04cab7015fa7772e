"""Synthetic data: directions of tasks with given angles, plain rows, and lists with conflicting grades."""

from __future__ import annotations

import math

import numpy as np

from tfmtl2r.data.lists import Lists
from tfmtl2r.errors import InputError

__all__ = ["GRADE_SHARES", "directions", "generator", "grade", "latent_lists", "mmoe_rows"]
GRADE_SHARES = (0.5425, 0.3013, 0.1352, 0.0167, 0.0043)
"""Shares of the grades 0 to 4 in MSLR-WEB."""
_STREAMS = {"parameters": 0, "train": 1, "vali": 2, "test": 3}


def generator(seed: int, stream: str) -> np.random.Generator:
    """The random generator of a stream: ``parameters`` (shared by all splits), ``train``, ``vali`` or ``test``."""
    if seed < 0:
        raise InputError(f"seed must be 0 or more, not {seed}")
    return np.random.default_rng([seed, _STREAMS[stream]])


def directions(count: int, dim: int, cosine: float, random: np.random.Generator) -> np.ndarray:
    """Unit vectors ``[count, dim]``; any two of them have the same cosine.

    ``W = C U`` with U orthonormal and ``C C' = (1 - p) I + p 11'``. For two vectors, these are ``u1`` and
    ``p u1 + sqrt(1 - p^2) u2`` of the MMoE paper.

    Args:
        count: number of vectors, at most ``dim``.
        dim: length of each vector.
        cosine: the cosine p, from ``-1 / (count - 1)`` (the smallest possible value) to 1.
        random: random generator for U.

    Raises:
        ValueError: for more vectors than ``dim``, or an impossible cosine.

    >>> w = directions(2, 5, cosine=-0.5, random=np.random.default_rng(0))
    >>> np.round(w @ w.T, 6).tolist()
    [[1.0, -0.5], [-0.5, 1.0]]
    """
    lowest = -1.0 / max(count - 1, 1)
    if not lowest - 1e-12 <= cosine <= 1.0:
        raise InputError(f"{count} directions can have any common cosine from {lowest:.4g} to 1, not {cosine}")
    if not 1 <= count <= dim:
        raise InputError(f"expected 1 to {dim} directions in {dim} dimensions, not {count}")
    basis, _ = np.linalg.qr(random.standard_normal((dim, count)))
    factor = np.zeros((count, count))
    for i in range(count):
        for j in range(i):
            rest = cosine - factor[i, :j] @ factor[j, :j]
            factor[i, j] = rest / factor[j, j] if factor[j, j] > 1e-6 else 0.0
        factor[i, i] = math.sqrt(max(0.0, 1.0 - float(factor[i, :i] @ factor[i, :i])))
    return factor @ basis.T


def mmoe_rows(
    rows: int, *, num_tasks: int, correlation: float, dim: int, seed: int, split: str, terms: int = 5
) -> Lists:
    """Makes plain rows by the recipe of the MMoE paper.

    ``y_t = w_t.x + sum_i sin(alpha_i w_t.x + beta_i) + eps`` with ``x ~ N(0, I)``, ``alpha, beta ~ N(0, 1)``,
    ``i = 1..terms``, ``eps ~ N(0, 0.01)`` (a variance), and ``cos(w_s, w_t) = correlation``.

    Args:
        rows: number of rows N.
        num_tasks: number of tasks T.
        correlation: the cosine p between the directions of two tasks. The labels are uncorrelated for p = 0, and their
            correlation grows with p. For p < 0, it depends on the seed, since the sines are not odd functions.
        dim: length of x.
        seed: seed of all random numbers.
        split: ``train``, ``vali`` or ``test``; splits have different rows of the same functions.
        terms: number of sine terms.

    Returns:
        columns ``features`` ``float32[N, dim]`` and ``label_1`` ... ``label_T`` ``float32[N]``.

    >>> mmoe_rows(4, num_tasks=2, correlation=0.5, dim=3, seed=0, split="train").columns["features"].shape
    (4, 3)
    """
    parameters = generator(seed, "parameters")
    weights = directions(num_tasks, dim, correlation, parameters)
    alpha, beta = parameters.standard_normal((2, terms))
    random = generator(seed, split)
    x = random.standard_normal((rows, dim))
    linear = x @ weights.T
    y = linear + np.sin(linear[..., None] * alpha + beta).sum(axis=-1) + 0.1 * random.standard_normal(linear.shape)
    labels = {f"label_{t + 1}": y[:, t].astype(np.float32) for t in range(num_tasks)}
    return Lists({"features": x.astype(np.float32), **labels})


def latent_lists(
    lists: int, *, num_tasks: int, features: int, conflict: float, max_length: int, seed: int, split: str
) -> tuple[Lists, np.ndarray]:
    """Makes lists shaped like those of MSLR, and the latent utility of each task before it is graded.

    The utility of an item is ``u_t = (w_t.x) (0.8 + 0.6 v.x) + 0.3 eps_t + 0.5 b_t``, with ``x ~ N(0, I)`` and
    ``eps ~ N(0, 1)`` per item, and ``b ~ N(0, 1)`` per list, so that some lists have no relevant item. ``v`` is
    orthogonal to all ``w``. Without noise, the correlation of two tasks' utilities is exactly
    ``cos(w_s, w_t) = 1 - conflict T / (T - 1)``. It is 1 without conflict, and ``-1 / (T - 1)``, the smallest common
    correlation of T tasks, at conflict 1. List lengths are lognormal with median 103 and mean 116, clipped to
    10..max_length.

    Args:
        lists: number of lists.
        num_tasks: number of tasks T.
        features: length of x, more than T.
        conflict: from 0 to 1.
        max_length: length of the longest list; 337 in MSLR.
        seed: seed of all random numbers.
        split: ``train``, ``vali`` or ``test``; splits have different lists of the same functions.

    Returns:
        Lists with the column ``features`` ``float32[N, features]``, and utilities ``[N, T]``.

    Raises:
        ValueError: for a number out of its range.
    """
    if not 0 <= conflict <= 1:
        raise InputError(f"conflict must be from 0 to 1, not {conflict}")
    if features <= num_tasks:
        raise InputError(f"{num_tasks} tasks need more than {num_tasks} features, got {features}")
    parameters = generator(seed, "parameters")
    cosine = 1.0 - conflict * num_tasks / max(num_tasks - 1, 1) if num_tasks > 1 else 1.0
    weights = directions(num_tasks, features, cosine, parameters)
    other = parameters.standard_normal(features)
    span, _ = np.linalg.qr(weights.T)
    other -= span @ (span.T @ other)
    other /= np.linalg.norm(other)
    random = generator(seed, split)
    # mean / median = exp(sigma^2 / 2)
    lengths = np.exp(random.normal(math.log(103), math.sqrt(2 * math.log(116 / 103)), lists))
    sizes = np.clip(np.round(lengths), min(10, max_length), max_length).astype(np.int64)
    x = random.standard_normal((int(sizes.sum()), features), np.float32)
    utility = (x @ weights.T) * (0.8 + 0.6 * (x @ other))[:, None]
    utility += 0.3 * random.standard_normal(utility.shape)
    utility += 0.5 * np.repeat(random.standard_normal((lists, num_tasks)), sizes, axis=0)
    ids = np.array([f"{split}-{i}" for i in range(lists)], dtype=object)
    return Lists({"features": x}, offsets=np.concatenate([[0], np.cumsum(sizes)]), ids=ids), utility


def grade(utility: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Grades 0 to 4: thresholds cut the reference ``[M, T]`` in the shares that MSLR's grades have.

    >>> np.bincount(grade(np.arange(10000.0)[:, None], np.arange(10000.0)[:, None])[:, 0].astype(int)).tolist()
    [5425, 3013, 1352, 167, 43]
    """
    shares = np.cumsum(GRADE_SHARES)[:-1]
    thresholds = np.quantile(reference, shares, axis=0)
    return (utility[:, None, :] >= thresholds).sum(axis=1).astype(np.float32)
