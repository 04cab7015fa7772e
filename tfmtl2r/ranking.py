"""Ranks, gains, discounts and masks, shared by losses and metrics.

B is the number of lists, L the number of items of the longest list. Tensors are ``[B, L]``; B and L may be unknown
until the graph runs. An item that is not ``valid`` is ranked last, has discount 0 and does not influence other items.

>>> import tensorflow as tf
>>> scores, valid = tf.constant([[1.0, 3.0, 3.0, 9.0]]), tf.sequence_mask([3], 4)
>>> ranks(scores, valid, seed=(0, 7)).numpy().tolist()
[[3, 2, 1, 4]]
>>> expected_discount(scores, valid).numpy().astype(float).round(4).tolist()
[[0.5, 0.8155, 0.8155, 0.0]]
"""

from __future__ import annotations

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.task import KINDS
from tfmtl2r.types import Count, Mask, PerList, Seed, Tensor, TensorLike

__all__ = [
    "check_grades", "discounts", "expected_discount", "gains", "gumbel", "known", "ranks", "relative", "uniform",
]

GAINS = ("exp2", "linear")
MAX_GRADE = 31
NO_SEED = (0, 0)


def known(labels: TensorLike, valid: TensorLike, kind: str = "graded") -> Mask:
    """Which items have a label.

    Args:
        labels: float ``[B, L]``; missing where NaN, and where negative if the kind is ``"binary"`` or ``"graded"``.
        valid: ``bool[B, L]``.
        kind: ``"binary"``, ``"graded"`` or ``"regression"``.

    Returns:
        ``bool[B, L]``.

    Raises:
        ValueError: for an unknown kind.

    >>> known([[1.0, -1.0, float("nan"), 0.0]], [[True, True, True, False]]).numpy().tolist()
    [[True, False, False, False]]
    >>> known([[-1.0, float("nan")]], [[True, True]], "regression").numpy().tolist()
    [[True, False]]
    """
    if kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    # A comparison with NaN is false, so >= excludes NaN as well as negative labels.
    there = ~tf.math.is_nan(labels) if kind == "regression" else tf.greater_equal(labels, 0)
    return tf.logical_and(valid, there)


def relative(weights: TensorLike, known: TensorLike) -> tuple[Tensor, PerList]:
    """Weights relative to their list, and what the list itself counts.

    This is the one place that defines importance weights, for losses and metrics: a constant weight in a list changes
    how much the list counts, and nothing inside the list.

    Args:
        weights: item weights ``[B, L]``, >= 0; weights of items that are not ``known`` do not matter.
        known: ``bool[B, L]``.

    Returns:
        ``float32[B, L]``, the weights divided by their mean over the known items of the list, and ``float32[B]``, this
        mean. Both are 0 in a list whose weights are all 0.

    >>> inside, mean = relative([[3.0, 1.0, 9.0]], [[True, True, False]])
    >>> inside.numpy().tolist(), mean.numpy().tolist()
    ([[1.5, 0.5, 0.0]], [2.0])
    """
    weights = tf.where(known, tf.cast(weights, tf.float32), 0.0)
    count = tf.reduce_sum(tf.cast(known, tf.float32), axis=1)
    mean = tf.math.divide_no_nan(tf.reduce_sum(weights, axis=1), count)
    return tf.math.divide_no_nan(weights, mean[:, None]), mean


def gains(labels: TensorLike, gain: str = "exp2") -> Tensor:
    """The gain of each item, its value at rank 1: ``2^y - 1`` or ``y``.

    Args:
        labels: float ``[B, L]``, >= 0.
        gain: ``"exp2"`` or ``"linear"``.

    Raises:
        ValueError: for an unknown gain.

    >>> gains([[0.0, 1.0, 3.0]]).numpy().tolist()
    [[0.0, 1.0, 7.0]]
    """
    if gain not in GAINS:
        raise InputError(f"gain must be one of {', '.join(GAINS)}, not {gain!r}")
    grades = tf.cast(labels, tf.float32)
    return tf.pow(2.0, grades) - 1.0 if gain == "exp2" else grades


def check_grades(labels: np.ndarray, whose: str) -> None:
    """Refuses labels for which the gain ``2^y - 1`` has no meaning.

    A graph cannot raise this error, so the data are checked before training.

    Args:
        labels: any shape; NaN and negative values are missing and pass.
        whose: name of the loss or metric, for the error message.

    Raises:
        ValueError: for a label above 31, which is a count and not a grade.

    >>> check_grades(np.array([4.0, 250.0]), "ndcg")
    Traceback (most recent call last):
    tfmtl2r.errors.InputError: ndcg uses the gain 2^label - 1, but a label is 250: ... Convert the labels to grades ...
    """
    highest = np.nanmax(labels, initial=-np.inf)
    if highest > MAX_GRADE:
        raise InputError(
            f"{whose} uses the gain 2^label - 1, but a label is {highest:g}: above {MAX_GRADE} a label is not a grade, "
            "and one item outweighs all others. Convert the labels to grades first, for example 0 to 4 by quantile or "
            "floor(log2(1 + count)), or choose a linear gain or a regression loss"
        )


def discounts(rank: TensorLike) -> Tensor:
    """The factor of a gain at a 1-based rank: ``1 / log2(1 + rank)``.

    Args:
        rank: numbers >= 1, any shape.

    >>> discounts([1, 3]).numpy().tolist()
    [1.0, 0.5]
    """
    return np.float32(np.log(2.0)) / tf.math.log1p(tf.cast(rank, tf.float32))


def expected_discount(scores: TensorLike, valid: TensorLike, k: int | None = None) -> Tensor:
    """The discount of every item, averaged over all orders of the items whose scores tie.

    Let ``a`` items have a higher score than an item, and ``t`` items, itself included, the same score. Its discount is
    the mean discount of the ranks ``a + 1`` to ``a + t``. The sum of gain times this discount is the exact expectation
    of DCG when ties are broken uniformly at random. The cost is O(L log L).

    Args:
        scores: float ``[B, L]``; NaN counts as the lowest.
        valid: ``bool[B, L]``.
        k: the cutoff; ranks beyond it have discount 0.

    Returns:
        ``float32[B, L]``, 0 for items that are not valid.

    Source: McSherry and Najork, Computing information retrieval performance measures efficiently in the presence of
    tied scores, ECIR 2008, https://doi.org/10.1007/978-3-540-78646-7_38

    >>> expected_discount([[5.0, 5.0, 1.0]], [[True, True, True]], k=1).numpy().tolist()
    [[0.5, 0.5, 0.0]]
    """
    keys = -_sortable(scores, valid)
    ascending = tf.sort(keys, axis=-1)
    above = tf.searchsorted(ascending, keys, side="left")
    upto = tf.searchsorted(ascending, keys, side="right")
    length = tf.shape(keys)[1]
    by_rank = discounts(tf.range(1, length + 1))
    if k is not None:
        by_rank = tf.where(tf.range(length) < k, by_rank, 0.0)
    # Differences of cumulative sums lose digits, too many of them in float32.
    running = tf.cumsum(tf.concat([[0.0], tf.cast(by_rank, tf.float64)], axis=0))
    mean = (tf.gather(running, upto) - tf.gather(running, above)) / tf.cast(tf.maximum(upto - above, 1), tf.float64)
    return tf.where(valid, tf.cast(mean, tf.float32), 0.0)


def ranks(scores: TensorLike, valid: TensorLike, seed: Seed = NO_SEED) -> Tensor:
    """The 1-based rank of every item; ties are broken at random, items that are not valid come last.

    Args:
        scores: float ``[B, L]``; NaN counts as the lowest.
        valid: ``bool[B, L]``.
        seed: ``int32[2]``; the same seed breaks the same ties in the same way, however long the padding is.

    Returns:
        ``int32[B, L]``, a permutation of 1 to L in every list.

    >>> ranks([[0.1, 0.9, 0.5]], [[True, True, True]]).numpy().tolist()
    [[3, 1, 2]]
    """
    keys = _sortable(scores, valid)
    size = tf.shape(keys)
    shuffle = tf.argsort(uniform(size[0], size[1], seed))
    order = tf.argsort(tf.gather(keys, shuffle, batch_dims=1), direction="DESCENDING", stable=True)
    return tf.argsort(tf.gather(shuffle, order, batch_dims=1)) + 1


def uniform(lists: Count, length: Count, seed: Seed | None = NO_SEED, samples: int | None = None) -> Tensor:
    """Random numbers in (0, 1) that depend on the seed only.

    The number of an item does not depend on the amount of padding.

    Args:
        lists: B.
        length: L.
        seed: ``int32[2]``, or None for a fixed seed.
        samples: S; None for one sample without a sample axis.

    Returns:
        ``float32[B, L]`` or ``[S, B, L]``.

    >>> bool(tf.reduce_all(uniform(2, 3, (1, 2)) == uniform(2, 9, (1, 2))[:, :3]))
    True
    """
    seed = tf.convert_to_tensor(NO_SEED if seed is None else seed, tf.int32)
    tiny = float(np.finfo(np.float32).tiny)
    drawn = tf.random.stateless_uniform([length, samples or 1, lists], seed, minval=tiny, maxval=1.0)
    drawn = tf.transpose(drawn, [1, 2, 0])
    return drawn[0] if samples is None else drawn


def gumbel(lists: Count, length: Count, seed: Seed | None = NO_SEED, samples: int | None = None) -> Tensor:
    """Standard Gumbel noise ``-log(-log(u))``.

    Sorting scores plus this noise draws an order from the Plackett-Luce model of the scores.

    Args:
        lists: B.
        length: L.
        seed: ``int32[2]``, or None for a fixed seed.
        samples: S; None for one sample without a sample axis.

    Returns:
        ``float32[B, L]`` or ``[S, B, L]``.

    >>> round(float(tf.reduce_mean(gumbel(1000, 10))), 1)  # Euler's constant, 0.577
    0.6
    """
    return -tf.math.log(-tf.math.log(uniform(lists, length, seed, samples)))


def _sortable(scores: TensorLike, valid: TensorLike) -> Tensor:
    """Sort keys: finite for valid items, where NaN counts as the lowest score; minus infinity for other items."""
    scores = tf.cast(scores, tf.float32)
    scores = tf.where(tf.math.is_nan(scores), tf.float32.min, scores)
    scores = tf.clip_by_value(scores, tf.float32.min, tf.float32.max)
    return tf.where(valid, scores, -np.inf)
