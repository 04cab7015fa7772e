"""Wolfe's active-set search over the simplex, shared by the min-norm and the max-min problem."""

from __future__ import annotations

from tfmtl2r._backend import tf
from tfmtl2r.types import Tensor

_TOLERANCE = 1e-11


def search(matrix: Tensor, inverse: Tensor, tilt: Tensor, usable: Tensor, root: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Minimises ``c' C c / 2 + q' c``, or ``sqrt(c' C c) + q' c`` with ``root``, over ``{c >= 0, inverse . c = 1}``.

    Each round computes the minimum over the affine hull of the active coordinates. If this minimum lies inside their
    convex hull, it is the next point, and the inactive coordinate that violates optimality the most becomes active.
    Otherwise the point moves towards the minimum until a coordinate reaches 0, and this coordinate becomes inactive.
    Every round lowers the function, so the result is exact. The search starts at the best corner, or with all
    coordinates at the solution for a diagonal C if the function is lower there.

    On an affine hull, let u be the point with the smallest ``u' C u``, and ``u - v`` the point with the smallest
    ``c' C c / 2 + q' c``. Then ``u - s v`` with ``s^2 = u' C u / (1 - v' C v)`` minimises the function with ``root``.
    If ``v' C v >= 1``, this function is unbounded below along ``-v``.

    Shapes: ``matrix`` C ``float64[T, T]``, positive definite, T known when traced; ``inverse`` and ``tilt`` q
    ``float64[T]``; ``usable`` ``bool[T]``, the coordinates that take part. ``inverse`` is above 0 there.

    Returns:
        The point (0 where not usable), whether the point is proven optimal, and the number of rounds.
    """
    tasks = matrix.shape[0]
    border = tf.concat([tf.concat([matrix, inverse[None, :]], 0), tf.concat([inverse, [0.0]], 0)[:, None]], 1)
    identity = tf.eye(tasks + 1, dtype=tf.float64)
    sides = tf.stack([tf.one_hot(tasks, tasks + 1, dtype=tf.float64), tf.concat([tilt, [0.0]], 0)], 1)  # for u, v
    places = tf.range(tasks, dtype=tf.int64)
    steepest = tf.reduce_max(tf.abs(tilt))

    def step(point: Tensor, active: Tensor, settled: Tensor, rounds: Tensor) -> tuple[Tensor, ...]:
        on = tf.concat([active, [True]], 0)
        system = tf.where(on[:, None] & on[None, :], border, identity)
        found = tf.linalg.solve(system, tf.where(on[:, None], sides, 0.0))[:tasks]
        target = _lowest(matrix, point, found) if root else found[:, 0] - found[:, 1]
        leaves = active & (target <= 0.0)
        inside = ~tf.reduce_any(leaves)
        ratios = tf.where(leaves, tf.math.divide_no_nan(point, point - target), tf.float64.max)
        # At least one coordinate reaches 0 in such a step; rounding must not keep it active.
        stopped = point + tf.reduce_min(ratios) * (target - point)
        kept = active & (stopped > 1e-300) & (places != tf.argmin(ratios))
        point = tf.where(inside, target, tf.where(kept, stopped, 0.0))
        # The point is optimal if no inactive coordinate has a lower slope per unit of the constraint than the point.
        along = tf.linalg.matvec(matrix, point)
        scale = tf.sqrt(tf.reduce_sum(point * along)) if root else tf.constant(1.0, tf.float64)
        slope = along + scale * tilt
        violation = tf.where(usable & ~active, tf.reduce_sum(point * slope) * inverse - slope, -1.0)
        # The rounding error of a slope is relative to its summands, which may be much larger than their sum.
        rounding = _TOLERANCE * (tf.reduce_sum(tf.abs(point)) + scale * steepest)
        settled = inside & (tf.reduce_max(violation) <= rounding)
        joins = ~settled & (places == tf.argmax(violation))
        return point, tf.where(inside, active | joins, kept), settled, rounds + 1

    begin = _begin(matrix, inverse, tilt, usable, root)
    point, _, settled, rounds = tf.while_loop(
        lambda point, active, settled, rounds: ~settled & (rounds < 8 * tasks + 8),
        step, (begin, begin > 0, tf.math.count_nonzero(usable) <= 1, tf.constant(0)),
    )
    return point, settled, rounds


def _lowest(matrix: Tensor, point: Tensor, found: Tensor) -> Tensor:
    """The minimum with ``root`` on the affine hull of u and v; a point outside the convex hull if there is none."""
    squares = tf.reduce_sum(found * tf.matmul(matrix, found), axis=0)
    shortest, moved = squares[0], squares[1]
    bounded = moved < 1.0
    size = tf.where(bounded, tf.sqrt(tf.maximum(shortest, 0.0) / tf.where(bounded, 1.0 - moved, 1.0)), 0.0)
    beyond = point - found[:, 1] * (2.0 / tf.maximum(tf.reduce_max(found[:, 1]), 1e-300))
    return tf.where(bounded, found[:, 0] - size * found[:, 1], beyond)


def _begin(matrix: Tensor, inverse: Tensor, tilt: Tensor, usable: Tensor, root: bool) -> Tensor:
    """The best corner or the solution for a diagonal C without tilt, whichever is lower; 0 if nothing is usable."""
    squares = tf.linalg.diag_part(matrix)

    def value(quadratic: Tensor, linear: Tensor) -> Tensor:
        return (tf.sqrt(tf.maximum(quadratic, 0.0)) if root else 0.5 * quadratic) + linear

    reach = tf.where(usable, 1.0 / tf.where(inverse > 0, inverse, 1.0), 0.0)
    corners = tf.where(usable, value(squares * reach * reach, tilt * reach), tf.float64.max)
    best = tf.argmin(corners)
    corner = tf.one_hot(best, inverse.shape[0], dtype=tf.float64) * reach
    all_of_them = tf.where(usable, inverse / squares, 0.0)
    all_of_them = tf.math.divide_no_nan(all_of_them, tf.reduce_sum(all_of_them * inverse))
    quadratic = tf.reduce_sum(all_of_them * tf.linalg.matvec(matrix, all_of_them))
    spread = value(quadratic, tf.reduce_sum(tilt * all_of_them))
    return tf.where(spread < corners[best], all_of_them, corner)
