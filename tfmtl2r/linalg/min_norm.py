"""The point of smallest norm in the convex hull of the task gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

from tfmtl2r._backend import tf
from tfmtl2r.linalg import settling

_RIDGE = 1e-13  # keeps the system solvable when active gradients are affinely dependent (twins)
_TOLERANCE = 1e-11


class MinNorm(NamedTuple):
    """Result of :func:`min_norm`.

    Args:
        weights: ``float64[T]`` on the simplex.
        settled: ``bool``, whether the optimality conditions held before the iteration cap.
    """

    weights: Any
    settled: Any


def min_norm(
    gram: Any, present: Any | None = None, tilt: Any | None = None, start: Any | None = None
) -> MinNorm:
    """Solves ``argmin_w w' G w / 2 + tilt' w`` over the probability simplex exactly, by Wolfe's active-set method.

    Each round minimises over the affine hull of the active gradients. If that point lies inside their convex hull it
    is taken, and the gradient that violates optimality the most joins; otherwise the search stops where it leaves the
    hull, and the gradients that reached weight 0 are dropped. The system is solved for ``c = w sqrt(diag G)``, so that
    rows whose lengths differ by many orders of magnitude keep their relative accuracy.

    Shapes: ``gram`` ``[T, T]``, symmetric and positive semi-definite, T known when traced; ``present`` ``bool[T]``;
    ``tilt`` ``[T]``.

    Args:
        gram: inner products of the task gradients.
        present: tasks that take part; the others get weight 0. All by default.
        tilt: slope of a linear term, 0 by default. ``tilt = s G p`` minimises ``||g_w + s g_p||``. Rows are then
            scaled by the longest gradient, all alike.
        start: with a tilt, a point of the simplex to begin at, such as the solution for another tilt.

    Returns:
        The weights and whether they are proven optimal. Without a tilt a zero gradient takes all the weight (the
        minimum is 0); with no task present all weights are 0.

    >>> min_norm([[18., -22.], [-22., 38.]]).weights.numpy().round(4).tolist()
    [0.6, 0.4]

    Reference: Wolfe, Finding the nearest point in a polytope, 1976, https://doi.org/10.1007/BF01580381; as a common
    descent direction: Désidéri, MGDA, 2012, https://doi.org/10.1016/j.crma.2012.03.014.
    """
    gram = tf.cast(gram, tf.float64)
    tasks = gram.shape[0]
    present = tf.ones([tasks], tf.bool) if present is None else tf.cast(present, tf.bool)
    length = tf.sqrt(tf.maximum(tf.linalg.diag_part(gram), 0.0))
    if tilt is None:
        usable = present & (length > 0)
        safe = tf.where(usable, length, 1.0)
        slope = tf.zeros([tasks], tf.float64)
    else:
        usable = present
        longest = tf.reduce_max(tf.where(present, length, 0.0))
        safe = tf.where(longest > 0, longest, 1.0) * tf.ones_like(length)
        slope = tf.where(present, tf.cast(tilt, tf.float64) / safe / safe, 0.0)
    both = usable[:, None] & usable[None, :]
    corr = tf.where(both, gram / (safe[:, None] * safe[None, :]), 0.0)
    corr = tf.linalg.set_diag(corr, tf.where(usable, tf.linalg.diag_part(corr), 1.0))
    shortest = tf.reduce_min(tf.where(usable, safe, tf.float64.max))
    # Scaled unknowns: c = w * length / shortest, so sum(w) = 1 reads sum(c * inverse) = 1 with inverse <= 1.
    inverse = tf.where(usable, shortest / safe, 0.0)
    alone = 0.5 * (tf.square(length) if tilt is None else tf.linalg.diag_part(corr)) + slope
    begin = tf.one_hot(tf.argmin(tf.where(usable, alone, tf.float64.max)), tasks, dtype=tf.float64)
    begin = tf.where(usable, begin, 0.0)
    if start is not None:  # only with a tilt, where weights and unknowns are the same
        begin = start

    point, _, settled, _ = tf.while_loop(
        lambda point, active, settled, rounds: ~settled & (rounds < 8 * tasks + 8),
        lambda point, active, settled, rounds: (*_round(corr, inverse, slope, usable, point, active), rounds + 1),
        (begin, begin > 0, tf.math.count_nonzero(usable) <= 1, tf.constant(0)),
        shape_invariants=(begin.shape, begin.shape, tf.TensorShape([]), tf.TensorShape([])),
    )
    settling.report(settled)
    weights = point * inverse
    if tilt is None:
        zero_rows = tf.cast(present & (length <= 0), tf.float64)
        weights = tf.where(tf.reduce_any(zero_rows > 0), zero_rows, weights)
    total = tf.reduce_sum(weights)
    return MinNorm(tf.where(total > 0, weights / tf.where(total > 0, total, 1.0), 0.0), settled)


def _round(corr: Any, inverse: Any, tilt: Any, usable: Any, point: Any, active: Any) -> tuple[Any, Any, Any]:
    """One round of the active-set method: the next point, its active set, and whether it is optimal."""
    target = _affine_minimum(corr, inverse, tilt, active)
    leaves = active & (target <= 0.0)
    inside = ~tf.reduce_any(leaves)
    step = tf.reduce_min(tf.where(leaves, point / tf.where(leaves, point - target, 1.0), 1.0))
    stopped = point + step * (target - point)
    kept = active & (stopped > 1e-300) & ~(leaves & (point - step * (point - target) <= 0.0))
    # At least one coordinate reaches 0 in every stop; rounding must not let it survive.
    first_out = tf.argmin(tf.where(leaves, point / tf.where(leaves, point - target, 1.0), tf.float64.max))
    kept &= inside | (tf.range(point.shape[0], dtype=tf.int64) != first_out)
    point = tf.where(inside, target, tf.where(kept, stopped, 0.0))
    active = tf.where(inside, active, kept)
    # Optimal when no gradient has a smaller inner product with the point than the point with itself.
    slope = tf.linalg.matvec(corr, point) + tilt
    value = tf.reduce_sum(point * slope)
    violation = tf.where(usable & ~active, value * inverse - slope, -tf.ones_like(slope))
    worst = tf.argmax(violation)
    # Rounding of slope[j] is relative to the lengths of what was added up, whatever is left after cancellation.
    rounding = _TOLERANCE * (tf.reduce_sum(tf.abs(point)) + tf.reduce_max(tf.abs(tilt)))
    settled = inside & (tf.reduce_max(violation) <= rounding)
    joins = inside & ~settled & (tf.range(point.shape[0], dtype=tf.int64) == worst)
    return point, active | joins, settled


def _affine_minimum(corr: Any, inverse: Any, tilt: Any, active: Any) -> Any:
    """``argmin c' C c / 2 + tilt' c`` subject to ``inverse . c = 1`` over the active coordinates, the others 0."""
    tasks = corr.shape[0]
    on = tf.cast(active, tf.float64)
    system = corr * on[:, None] * on[None, :] + tf.linalg.diag(1.0 + (_RIDGE - 1.0) * on)
    border = (inverse * on)[:, None]
    bordered = tf.concat(
        [tf.concat([system, border], 1), tf.concat([tf.transpose(border), tf.zeros([1, 1], tf.float64)], 1)], 0
    )
    right = tf.concat([-(tilt * on)[:, None], tf.ones([1, 1], tf.float64)], 0)
    return tf.linalg.solve(bordered, right)[:tasks, 0] * on
