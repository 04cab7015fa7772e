"""Sums over the pairs of a list, with a bounded number of pairs at a time.

A matrix of pairs is ``[B, L, L]``, and automatic differentiation stores several of them. Here, blocks of rows are
computed one after another, and the gradient is summed together with the value, so that nothing of size L^2 is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from tfmtl2r._backend import tf
from tfmtl2r.losses.base import TOO_LONG
from tfmtl2r.types import Count, Features, Labels, Mask, PerList, Tensor, Weights

Block: TypeAlias = tuple[Count, Count]
"""A block of rows: its first row and its number of rows."""
Pairs: TypeAlias = Callable[[Features, Features], tuple[Mask, Tensor]]
Link: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
Carried: TypeAlias = tuple[Tensor, ...]

# Largest number of pairs at a time, over all lists of the batch: 16 MB for each matrix of float32.
MOST_PAIRS = 4_000_000
NUMBERS_IN_BLOCKS = 10
"""``numbers_per_pair`` of a loss that only calls :func:`sums`; measured as all others."""
LONGEST = 16_384
"""Largest list of a loss that makes whole matrices of pairs: 1 GiB for each matrix of one list."""

# The weight of an ordered pair as a function of its labels; None gives weight 1.
LABEL_WEIGHINGS: dict[str | None, Callable[[Tensor, Tensor], Tensor]] = {
    None: lambda better, worse: tf.ones_like(better - worse),
    "label_diff": lambda better, worse: tf.abs(better - worse),
    "squared_label_diff": lambda better, worse: tf.abs(tf.square(better) - tf.square(worse)),
}


def sums(values: Tensor, items: Features, pairs: Pairs, link: Link) -> tuple[PerList, PerList]:
    """``sum_{i, j} w_ij f(x_i - x_j)`` over the pairs of every list, and the number of pairs.

    Args:
        values: x, ``float32[B, L]``; only the values get a gradient.
        items: tensors ``[B, L]`` from which pairs are chosen and weighted.
        pairs: takes ``items`` as ``[B, C, 1]`` for i and as ``[B, 1, L]`` for j. Returns which combinations are pairs,
            ``bool[B, C, L]``, and their weights, ``float32[B, C, L]``; other weights may be any finite number.
        link: takes the differences; returns f and its derivative.

    Returns:
        The sum and the number of pairs, both ``float32[B]``.
    """

    @tf.custom_gradient
    def summed(values: Tensor) -> tuple[tuple[PerList, PerList], Callable[..., Tensor]]:
        total, count, slope = _sums_and_slope(values, items, pairs, link)
        return (total, count), lambda upstream, _: upstream[:, None] * slope

    return summed(values)


def by_lists(
    name: str, values: Tensor, items: Features, compute: Callable[[Tensor, Features], PerList], longest: int
) -> PerList:
    """A value of every list that needs matrices of all its pairs, for as many lists at a time as have ``MOST_PAIRS``.

    The gradient is computed together with the value, so that the matrices are gone before the next lists.

    Args:
        name: name of the loss, for the message.
        values: ``float32[B, L]``; only the values get a gradient.
        items: other tensors ``[B, L]``.
        compute: takes values and items of some lists; returns a value for each list.
        longest: the largest L; longer lists are an error.
    """
    shape = tf.shape(values)
    limit = tf.debugging.Assert(shape[1] <= longest, [f"{name} {TOO_LONG.format(longest)}"])

    @tf.custom_gradient
    def computed(values: Tensor) -> tuple[PerList, Callable[..., Tensor]]:
        size = tf.maximum(MOST_PAIRS // tf.maximum(shape[1] * shape[1], 1), 1)

        def step(first: Tensor, total: PerList, slope: Tensor) -> Carried:
            block = slice(first, tf.minimum(first + size, shape[0]))
            with tf.GradientTape() as tape:
                mine = values[block]
                tape.watch(mine)
                value = compute(mine, {key: item[block] for key, item in items.items()})
            before, after = block.start, shape[0] - block.stop
            change = tape.gradient(value, mine)
            total += tf.pad(value, [[before, after]])
            slope += tf.pad(change, [[before, after], [0, 0]])
            return first + size, tf.ensure_shape(total, values.shape[:1]), tf.ensure_shape(slope, values.shape)

        start = (tf.constant(0), tf.zeros_like(values[:, 0]), tf.zeros_like(values))
        _, total, slope = tf.while_loop(lambda first, *_: first < shape[0], step, start, parallel_iterations=1)
        return total, lambda upstream: upstream[:, None] * slope

    with tf.control_dependencies([] if limit is None else [limit]):
        return computed(values)


def most_in_blocks(lists: int, length: int) -> int:
    """The number of pairs that :func:`over_blocks` has in memory at a time.

    >>> [most_in_blocks(lists, length) for lists, length in ((64, 100), (1, 5000), (9, 1_000_000))]
    [640000, 4000000, 9000000]
    """
    return min(lists * length**2, max(MOST_PAIRS, lists * length))


def most_by_lists(lists: int, length: int) -> int:
    """The number of pairs that :func:`by_lists` has in memory at a time.

    >>> [most_by_lists(lists, length) for lists, length in ((64, 100), (1, 1000), (64, 10_000))]
    [640000, 1000000, 100000000]
    """
    return max(length**2, min(lists * length**2, MOST_PAIRS))


def logistic(scale: float = 1.0) -> Link:
    """The link ``f(d) = log(1 + exp(-scale d))``."""
    return lambda d: (tf.math.softplus(-scale * d), -scale * tf.sigmoid(-scale * d))


def hinge(margin: float) -> Link:
    """The link ``f(d) = max(0, margin - d)``."""
    return lambda d: (tf.nn.relu(margin - d), -tf.cast(d < margin, tf.float32))


def soft_zero_one() -> Link:
    """The link ``f(d) = sigmoid(-d)``."""
    return lambda d: (tf.sigmoid(-d), -tf.sigmoid(-d) * tf.sigmoid(d))


def ordered(i: Features, j: Features) -> Tensor:
    """Which pairs have an order: both items known, and the label of i above that of j."""
    return (i["labels"] > j["labels"]) & i["known"] & j["known"]


def items_of(labels: Labels, known: Mask, weights: Weights | None) -> Features:
    """The tensors from which pairs are chosen and weighted; item weights default to 1."""
    return {"labels": labels, "known": known, "weights": tf.ones_like(labels) if weights is None else weights}


def block_rows(lists: Count, length: Count) -> Tensor:
    """The number of rows of a block, at least 1, such that a block has at most ``MOST_PAIRS`` pairs.

    >>> [int(block_rows(lists, length)) for lists, length in ((64, 100), (1, 5000), (64, 5000), (9, 1_000_000))]
    [100, 800, 12, 1]
    """
    return tf.clip_by_value(MOST_PAIRS // tf.maximum(lists * length, 1), 1, tf.maximum(length, 1))


def over_blocks(shape: Tensor, body: Callable[..., Carried], start: Carried) -> Carried:
    """Loops over the rows of a matrix of pairs, block by block.

    Args:
        shape: ``int32[2]``: B, L.
        body: takes the block, as (first row, number of rows), and the loop variables; returns new loop variables.
        start: the initial loop variables.

    Returns:
        The final loop variables.
    """
    rows = block_rows(shape[0], shape[1])

    def step(first: Tensor, *carried: Tensor) -> Carried:
        carried = body((first, tf.minimum(rows, shape[1] - first)), *carried)
        return (first + rows, *(tf.ensure_shape(new, old.shape) for new, old in zip(carried, start, strict=True)))

    loop = (tf.constant(0), *start)
    # One block at a time, since parallel blocks would need the memory that blocks save.
    _, *carried = tf.while_loop(lambda first, *_: first < shape[1], step, loop, parallel_iterations=1)
    return carried


def rows_of(tensor: Tensor, block: Block) -> Tensor:
    """The rows of a block of a tensor ``[B, L, ...]``."""
    return tensor[:, block[0] : block[0] + block[1]]


def at_rows(tensor: Tensor, block: Block, length: Count) -> Tensor:
    """Places the ``[B, C]`` of a block at its rows of ``[B, L]``; other rows are 0."""
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
