"""Quadratic programs with non-negative unknowns."""

from __future__ import annotations

from typing import NamedTuple

from tfmtl2r._backend import tf
from tfmtl2r.linalg import settling
from tfmtl2r.types import Tensor

_TOLERANCE = 1e-11
_PATIENCE = 3
_SWEEPS = 75


class NonNegative(NamedTuple):
    """Result of :func:`non_negative`.

    Args:
        solution: ``float64``, >= 0, one per problem.
        settled: ``bool``, whether the optimality conditions hold in every problem.
        fallbacks: ``int64``, number of problems that coordinate descent had to finish.
    """

    solution: Tensor
    settled: Tensor
    fallbacks: Tensor


def non_negative(quadratic: Tensor, linear: Tensor, ridge: float) -> NonNegative:
    """Solves K problems ``argmin_{z >= 0} z' Q z / 2 + q_k' z`` that share one positive semi-definite Q.

    Block principal pivoting solves for the free entries, then exchanges all entries that violate optimality (a free
    entry below 0, or a slope below 0 at an entry of 0). If this no longer reduces the number of violations, only the
    last violating entry is exchanged, which cannot cycle. Coordinate descent finishes the problems that have not
    converged at the iteration cap. A ridge selects one solution where Q is singular; proximal steps on the final free
    entries remove its bias.

    Shapes: ``quadratic`` ``float64[T, T]`` with a diagonal near 1, ``linear`` ``float64[K, T]`` with entries near 1 at
    most; the solution is ``[K, T]``.

    >>> linear = tf.constant([[1., -3.]], tf.float64)
    >>> non_negative(tf.eye(2, dtype=tf.float64), linear, 1e-7).solution.numpy().round(6).tolist()
    [[0.0, 3.0]]

    Reference: Kim and Park, Fast nonnegative matrix factorization, 2011, https://doi.org/10.1137/110821172; Júdice and
    Pires, 1994, https://doi.org/10.1016/0305-0548(94)90106-6.
    """
    tasks = quadratic.shape[0]
    ridged = quadratic + ridge * tf.eye(tasks, dtype=tf.float64)

    def minimum(free: Tensor, linear: Tensor) -> Tensor:
        on = tf.cast(free, tf.float64)
        systems = ridged * on[:, :, None] * on[:, None, :] + tf.linalg.diag(1.0 - on)
        return tf.linalg.solve(systems, tf.where(free, -linear, 0.0)[:, :, None])[:, :, 0] * on

    def solve(free: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        point = minimum(free, linear)
        slope = tf.matmul(point, ridged) + linear
        return point, slope, (free & (point < -_TOLERANCE)) | (~free & (slope < -_TOLERANCE))

    def pivot(
        free: Tensor, point: Tensor, wrong: Tensor, fewest: Tensor, patience: Tensor, rounds: Tensor
    ) -> tuple[Tensor, ...]:
        count = tf.reduce_sum(tf.cast(wrong, tf.int32), axis=1)
        better = count < fewest
        patience = tf.where(better, _PATIENCE, patience - 1)
        last = tf.reduce_max(tf.where(wrong, tf.range(tasks), -1), axis=1)
        single = wrong & (tf.range(tasks) == last[:, None])
        free = tf.math.logical_xor(free, tf.where((patience >= 0)[:, None], wrong, single))
        point, _, wrong = solve(free)
        return free, point, wrong, tf.minimum(fewest, count), patience, rounds + 1

    free = tf.zeros_like(linear, tf.bool)
    point, _, wrong = solve(free)
    many = tf.fill([linear.shape[0]], tasks + 1)
    free, point, wrong, _, _, rounds = tf.while_loop(
        lambda free, point, wrong, fewest, patience, rounds: tf.reduce_any(wrong) & (rounds < 6 * tasks + 20),
        pivot,
        (free, point, wrong, many, tf.fill([linear.shape[0]], _PATIENCE), tf.constant(0)),
    )
    open_ones = tf.reduce_any(wrong, axis=1)
    for _ in range(2):
        point = tf.maximum(minimum(free, linear - ridge * point), 0.0)
    fallbacks = tf.math.count_nonzero(open_ones)
    point, settled = tf.cond(
        fallbacks > 0,
        lambda: _coordinate_descent(ridged, linear, point),
        lambda: (point, tf.constant(True)),
    )
    settling.report(fallbacks == 0, rounds)
    return NonNegative(point, settled, fallbacks)


def _coordinate_descent(quadratic: Tensor, linear: Tensor, point: Tensor) -> tuple[Tensor, Tensor]:
    """Lowers the objective one entry at a time, and checks the optimality conditions at the end."""

    def sweep(point: Tensor, _: Tensor, rounds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        before = point
        for i in range(quadratic.shape[0]):
            slope = tf.linalg.matvec(point, quadratic[i]) + linear[:, i]
            value = tf.maximum(point[:, i] - slope / quadratic[i, i], 0.0)
            point += (value - point[:, i])[:, None] * tf.one_hot(i, quadratic.shape[0], dtype=tf.float64)
        return point, tf.reduce_max(tf.abs(point - before)), rounds + 1

    point, _, _ = tf.while_loop(
        lambda point, moved, rounds: (moved > 1e-13) & (rounds < _SWEEPS),
        sweep,
        (point, tf.constant(float("inf"), tf.float64), tf.constant(0)),
    )
    slope = tf.matmul(point, quadratic) + linear
    return point, tf.reduce_all(tf.abs(tf.minimum(point, slope)) <= 1e-6 * tf.maximum(tf.reduce_max(point), 1.0))
