"""NeuralSort's soft permutation, scaled to be doubly stochastic, with bounded memory for long lists.

The matrix is ``P[r, i] = softmax_i(((n + 1 - 2 r) s_i - sum_j |s_i - s_j|) / t)`` for rank r and item i, over the n
items of a list. Sinkhorn's iteration divides columns and rows by their sums in turn. The result is
``diag(u) Q diag(v)`` for the initial matrix Q, so only the vectors u and v of each iteration are stored. Every product
with the matrix computes it again in blocks of rows; a matrix of one block is computed once. The gradient follows the
iterations backwards, on vectors. The gradient by the matrix is a sum of outer products, also computed in blocks.

Source: Grover et al., ICLR 2019, https://arxiv.org/abs/1903.08850; Sinkhorn, 1964.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.losses import _pairs
from tfmtl2r.types import Mask, PerList, Scores, Tensor


def placed(
    scores: Scores, known: Mask, discounts: Tensor, gains: Tensor, transposed: bool, iterations: int, close: float
) -> PerList:
    """``sum_{r, i} discounts_r P'[r, i] gains_i`` with the scaled matrix P', ``float32[B]``.

    P' is ``scale(P)``, or the transpose of ``scale(P^T)`` if ``transposed``. ``scale`` divides columns, then rows, by
    their sums until all columns sum to 1. If the iterations end before that, columns that sum to more than 1 are
    divided once more. No row or column of P' sums to more than 1, so DCG cannot exceed its maximum.

    Args:
        scores: ``float32[B, L]``, already divided by the temperature; only the scores get a gradient.
        known: ``bool[B, L]``.
        discounts: ``float32[L]``, by rank.
        gains: ``float32[B, L]``, by item.
        transposed: whether to scale the transposed matrix.
        iterations: maximum number of iterations.
        close: largest accepted difference between a sum and 1.
    """
    discounts = tf.where(_ranks_of(known), discounts, 0.0)
    distances = distances_to_all(scores, known)
    return _compiled(transposed)(scores, distances, known, discounts, gains, iterations, close)


@functools.cache
def _compiled(transposed: bool) -> Callable[..., PerList]:
    """The product as one traced function for all shapes, since eager code is slow at hundreds of small operations."""

    def product(
        scores: Scores, distances: Tensor, known: Mask, discounts: Tensor, gains: Tensor, iterations: Tensor,
        close: Tensor,
    ) -> PerList:
        @tf.custom_gradient
        def value(scores: Scores, distances: Tensor) -> tuple[PerList, Callable[[PerList], Any]]:
            matrix = _SoftPermutation(scores, distances, known)
            product = _ScaledProduct(matrix, transposed, iterations, close)
            found, history = product.forward(*((gains, discounts) if transposed else (discounts, gains)))

            def gradient(upstream: PerList) -> tuple[Tensor, Tensor]:
                by_scores, by_distances = matrix.pull_back(*product.backward(history))
                return upstream[:, None] * by_scores, upstream[:, None] * by_distances

            return found, gradient

        return value(scores, distances)

    items, flags = tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None, None], tf.bool)
    signature = [items, items, flags, items, items, tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.float32)]
    return tf.function(product, input_signature=signature, autograph=False)


def distances_to_all(scores: Scores, known: Mask) -> Tensor:
    """``sum_j |s_i - s_j|`` over the known items j, ``float32[B, L]``, from sorted scores: O(L log L).

    >>> distances_to_all(tf.constant([[1.0, 3.0, 0.0, 9.0]]), [[True, True, True, False]]).numpy().tolist()
    [[3.0, 5.0, 4.0, 0.0]]
    """
    # Differences of cumulative sums lose digits, too many of them in float32.
    wide = tf.where(known, tf.cast(scores, tf.float64), 0.0)
    keys = tf.where(known, tf.stop_gradient(wide), tf.float64.max)
    order = tf.argsort(keys, axis=1)
    ascending = tf.gather(keys, order, batch_dims=1)
    below = tf.searchsorted(ascending, keys, side="left")
    upto = tf.searchsorted(ascending, keys, side="right")
    running = tf.pad(tf.cumsum(tf.gather(wide, order, batch_dims=1), axis=1), [[0, 0], [1, 0]])
    lower, least_higher = (tf.gather(running, index, batch_dims=1) for index in (below, upto))
    higher = running[:, -1:] - least_higher
    count = tf.reduce_sum(tf.cast(known, tf.int32), axis=1, keepdims=True)
    lead = tf.cast(below - (count - upto), tf.float64)
    return tf.where(known, tf.cast(lead * wide - lower + higher, tf.float32), 0.0)


class _SoftPermutation:
    """NeuralSort's matrix P of ``[B]`` lists: ranks in rows, items in columns, 0 for items that are not known."""

    def __init__(self, scores: Scores, distances: Tensor, known: Mask):
        self.scores, self.distances, self.known = scores, distances, known
        self.shape = tf.shape(scores)
        self.ranks = _ranks_of(known)
        count = tf.reduce_sum(tf.cast(known, tf.float32), axis=1, keepdims=True)
        self.slopes = count + 1.0 - 2.0 * tf.range(1.0, tf.cast(self.shape[1], tf.float32) + 1.0)
        self.single = _pairs.block_rows(self.shape[0], self.shape[1]) >= self.shape[1]
        # A matrix of one block is computed once, here. Otherwise this one has no rows.
        self.whole = self._made((0, tf.where(self.single, self.shape[1], 0)))

    def rows(self, block: _pairs.Block) -> Tensor:
        """A block of rows, ``[B, C, L]``."""
        return tf.cond(self.single, lambda: self.whole, lambda: self._made(block))

    def _made(self, block: _pairs.Block) -> Tensor:
        slopes = _pairs.rows_of(self.slopes, block)[:, :, None]
        logits = slopes * self.scores[:, None, :] - self.distances[:, None, :]
        # A finite low number, since infinity would make a row without items 0 / 0.
        logits = tf.where(self.known[:, None, :], logits, tf.float32.min)
        return tf.where(_pairs.rows_of(self.ranks, block)[:, :, None], tf.nn.softmax(logits), 0.0)

    def by_item(self, x: Tensor) -> Tensor:
        """``P x``: ``[B, L]`` by item to ``[B, L]`` by rank."""

        def multiply(block: _pairs.Block, result: Tensor) -> tuple[Tensor]:
            return (result + _pairs.at_rows(tf.linalg.matvec(self.rows(block), x), block, self.shape[1]),)

        return _pairs.over_blocks(self.shape, multiply, (tf.zeros_like(x),))[0]

    def by_rank(self, x: Tensor) -> Tensor:
        """``P^T x``: ``[B, L]`` by rank to ``[B, L]`` by item."""

        def multiply(block: _pairs.Block, result: Tensor) -> tuple[Tensor]:
            return (result + tf.linalg.matvec(self.rows(block), _pairs.rows_of(x, block), transpose_a=True),)

        return _pairs.over_blocks(self.shape, multiply, (tf.zeros_like(x),))[0]

    def pull_back(self, by_rank: Tensor, by_item: Tensor) -> _pairs.Carried:
        """The gradients of scores and distances, from the gradient ``sum_k by_rank[r, k] by_item[i, k]`` of P.

        Args:
            by_rank: ``[B, L, K]``.
            by_item: ``[B, L, K]``.
        """

        def pull(block: _pairs.Block, scores: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
            rows = self.rows(block)
            change = tf.matmul(_pairs.rows_of(by_rank, block), by_item, transpose_b=True)
            change = rows * (change - tf.reduce_sum(rows * change, axis=2, keepdims=True))
            slopes = _pairs.rows_of(self.slopes, block)
            scores += tf.linalg.matvec(change, slopes, transpose_a=True)
            return scores, distances - tf.reduce_sum(change, axis=1)

        zero = tf.zeros_like(self.scores)
        return _pairs.over_blocks(self.shape, pull, (zero, zero))


class _ScaledProduct:
    """``left^T scale(Q) right``, where Q is P or its transpose, and the gradient of this product by P."""

    def __init__(self, matrix: _SoftPermutation, transposed: bool, iterations: Tensor, close: Tensor):
        self.transposed, self.iterations, self.close = transposed, iterations, close
        self.times, self.times_transposed = matrix.by_item, matrix.by_rank
        if transposed:
            self.times, self.times_transposed = self.times_transposed, self.times

    def forward(self, left: Tensor, right: Tensor) -> tuple[PerList, tuple[Tensor, ...]]:
        """The product ``[B]``, and the history that :meth:`backward` requires."""
        ones = tf.ones_like(left)
        rows, columns = (tf.TensorArray(tf.float32, 0, True, clear_after_read=False) for _ in range(2))

        def scale(step: Tensor, sums: Tensor, _: Tensor, rows: Any, columns: Any) -> tuple[Any, ...]:
            column = tf.math.reciprocal_no_nan(sums)
            row = tf.math.reciprocal_no_nan(self.times(column))
            sums = self.times_transposed(row)
            gap = tf.reduce_max(tf.where(sums > 0, tf.abs(column * sums - 1.0), 0.0))
            return step + 1, sums, gap, rows.write(step + 1, row), columns.write(step, column)

        start = (0, self.times_transposed(ones), float("inf"), rows.write(0, ones), columns)
        steps, sums, _, rows, columns = tf.while_loop(
            lambda step, sums, gap, *_: (step < self.iterations) & (gap > self.close), scale, start
        )
        rows, columns = rows.stack(), columns.stack()
        column = tf.minimum(columns[-1], tf.math.reciprocal_no_nan(sums))
        placed = self.times(column * right)
        value = tf.reduce_sum(left * rows[-1] * placed, axis=1)
        return value, (left, right, rows, columns, steps, column, placed)

    def backward(self, history: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """The gradient with respect to P as factors ``[B, L, K]`` by rank and by item."""
        left, right, rows, columns, steps, column, placed = history
        by_column = right * self.times_transposed(left * rows[-1])
        cut = column < columns[-1]
        by_sums = tf.where(cut, -tf.square(column) * by_column, 0.0)
        by_row = left * placed + self.times(by_sums)
        firsts, seconds = (tf.TensorArray(tf.float32, 2 * steps, element_shape=left.shape) for _ in range(2))

        def unscale(
            step: Tensor, by_row: Tensor, by_column: Tensor, firsts: Any, seconds: Any
        ) -> tuple[Any, ...]:
            # The gradients of the row sums, then of the column sums, that iteration `step` divided by.
            by_rows = -tf.square(rows[step + 1]) * by_row
            by_columns = -tf.square(columns[step]) * (by_column + self.times_transposed(by_rows))
            firsts = firsts.write(2 * step, by_rows).write(2 * step + 1, rows[step])
            seconds = seconds.write(2 * step, columns[step]).write(2 * step + 1, by_columns)
            return step - 1, self.times(by_columns), tf.zeros_like(by_column), firsts, seconds

        start = (steps - 1, by_row, tf.where(cut, 0.0, by_column), firsts, seconds)
        *_, firsts, seconds = tf.while_loop(lambda step, *_: step >= 0, unscale, start)
        first = tf.concat([firsts.stack(), [left * rows[-1], rows[-1]]], axis=0)
        second = tf.concat([seconds.stack(), [column * right, by_sums]], axis=0)
        factors = tf.transpose(first, [1, 2, 0]), tf.transpose(second, [1, 2, 0])
        return factors[::-1] if self.transposed else factors


def _ranks_of(known: Mask) -> Tensor:
    """Which ranks a list has, ``bool[B, L]``: the first n if n items are known."""
    return tf.sequence_mask(tf.reduce_sum(tf.cast(known, tf.int32), axis=1), tf.shape(known)[1])
