"""Sums over the pairs of a list, a bounded number of pairs at a time.

A pair matrix is ``[B, L, L]``, and a gradient keeps several of them. Here blocks of its rows are made one after the
other, and the gradient is summed along with the value, so that nothing of size L^2 is kept for later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from tfmtl2r._backend import tf
from tfmtl2r.types import Count, Features, Labels, Mask, PerList, Tensor, Weights

Block: TypeAlias = tuple[Count, Count]
"""The first of a block's rows and their number."""
Pairs: TypeAlias = Callable[[Features, Features], tuple[Mask, Tensor]]
Link: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
Carried: TypeAlias = tuple[Tensor, ...]

# Pairs that exist at once, over all lists of the batch: 16 MB for each matrix of float32.
MOST_PAIRS = 4_000_000

# How much an ordered pair counts by its labels; None is 1.
LABEL_WEIGHINGS: dict[str | None, Callable[[Tensor, Tensor], Tensor]] = {
    None: lambda better, worse: tf.ones_like(better - worse),
    "label_diff": lambda better, worse: tf.abs(better - worse),
    "squared_label_diff": lambda better, worse: tf.abs(tf.square(better) - tf.square(worse)),
}


def sums(values: Tensor, items: Features, pairs: Pairs, link: Link) -> tuple[PerList, PerList]:
    """``sum_{i, j} w_ij f(x_i - x_j)`` over the pairs of every list, and how many pairs there are.

    Args:
        values: x, ``float32[B, L]``; the gradient goes to them alone.
        items: tensors ``[B, L]`` that pairs are chosen and weighed by.
        pairs: takes ``items`` as ``[B, C, 1]`` for i and as ``[B, 1, L]`` for j; returns which of them are pairs,
            ``bool[B, C, L]``, and their weights ``float32[B, C, L]``, which may be anything finite elsewhere.
        link: takes the differences and returns f and its derivative there.

    Returns:
        The sum and the number of pairs, both ``float32[B]``.
    """

    @tf.custom_gradient
    def summed(values: Tensor) -> tuple[tuple[PerList, PerList], Callable[..., Tensor]]:
        total, count, slope = _sums_and_slope(values, items, pairs, link)
        return (total, count), lambda upstream, _: upstream[:, None] * slope

    return summed(values)


def logistic(scale: float = 1.0) -> Link:
    """The link ``f(d) = log(1 + exp(-scale d))``."""
    return lambda d: (tf.math.softplus(-scale * d), -scale * tf.sigmoid(-scale * d))


def hinge(margin: float) -> Link:
    """The link ``f(d) = max(0, margin - d)``."""
    return lambda d: (tf.nn.relu(margin - d), -tf.cast(d < margin, tf.float32))


def ordered(i: Features, j: Features) -> Tensor:
    """Which pairs have an order: both items known, and the label of i above that of j."""
    return (i["labels"] > j["labels"]) & i["known"] & j["known"]


def items_of(labels: Labels, known: Mask, weights: Weights | None) -> Features:
    """What every pair is chosen and weighed by; without item weights they are 1."""
    return {"labels": labels, "known": known, "weights": tf.ones_like(labels) if weights is None else weights}


def block_rows(lists: Count, length: Count) -> Tensor:
    """How many rows of the pair matrices are made at once, so that there are at most ``MOST_PAIRS`` pairs.

    >>> [int(block_rows(lists, length)) for lists, length in ((64, 100), (1, 5000), (64, 5000), (9, 1_000_000))]
    [100, 800, 12, 1]
    """
    return tf.clip_by_value(MOST_PAIRS // tf.maximum(lists * length, 1), 1, tf.maximum(length, 1))


def over_blocks(shape: Tensor, body: Callable[..., Carried], start: Carried) -> Carried:
    """Runs over the rows of a pair matrix block by block.

    Args:
        shape: ``int32[2]``: B, L.
        body: takes the block as the pair (first row, number of rows) and the carried tensors; returns them anew.
        start: the carried tensors at first.

    Returns:
        The carried tensors at last.
    """
    rows = block_rows(shape[0], shape[1])

    def step(first: Tensor, *carried: Tensor) -> Carried:
        carried = body((first, tf.minimum(rows, shape[1] - first)), *carried)
        return (first + rows, *(tf.ensure_shape(new, old.shape) for new, old in zip(carried, start, strict=True)))

    loop = (tf.constant(0), *start)
    # One block at a time: several at once would take the memory that blocks are there to save.
    _, *carried = tf.while_loop(lambda first, *_: first < shape[1], step, loop, parallel_iterations=1)
    return carried


def rows_of(tensor: Tensor, block: Block) -> Tensor:
    """The rows of a block of a tensor ``[B, L, ...]``."""
    return tensor[:, block[0] : block[0] + block[1]]


def at_rows(tensor: Tensor, block: Block, length: Count) -> Tensor:
    """A block's ``[B, C]`` at its place in ``[B, L]``, zeros elsewhere."""
    return tf.pad(tensor, [[0, 0], [block[0], length - block[0] - block[1]]])


def _sums_and_slope(values: Tensor, items: Features, pairs: Pairs, link: Link) -> tuple[PerList, PerList, Tensor]:
    """Sum ``[B]``, number of pairs ``[B]``, and derivative of the sum with respect to the values ``[B, L]``."""
    shape = tf.shape(values)

    def add(block: Block, total: PerList, count: PerList, slope: Tensor) -> Carried:
        first = {name: rows_of(item, block)[:, :, None] for name, item in items.items()}
        there, weights = pairs(first, {name: item[:, None, :] for name, item in items.items()})
        loss, change = link(rows_of(values, block)[:, :, None] - values[:, None, :])
        weights = tf.where(there, weights, 0.0)
        change *= weights
        slope += at_rows(tf.reduce_sum(change, axis=2), block, shape[1]) - tf.reduce_sum(change, axis=1)
        total += tf.reduce_sum(loss * weights, axis=[1, 2])
        return total, count + tf.reduce_sum(tf.cast(there, tf.float32), axis=[1, 2]), slope

    slope = tf.zeros_like(values)
    zero = tf.reduce_sum(slope, axis=1)
    total, count, slope = over_blocks(shape, add, (zero, zero, slope))
    return total, count, slope


def mean(values: Tensor, items: Features, pairs: Pairs, link: Link) -> PerList:
    """:func:`sums` divided by the number of pairs, ``float32[B]``: 0 for a list without a pair."""
    total, count = sums(values, items, pairs, link)
    return tf.math.divide_no_nan(total, count)
