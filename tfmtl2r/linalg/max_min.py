"""The dual of the best worst case: a linear function plus a norm, over the simplex."""

from __future__ import annotations

from typing import Any, NamedTuple

from tfmtl2r._backend import tf
from tfmtl2r.linalg import settling
from tfmtl2r.linalg.min_norm import min_norm

_SMALLEST = 1e-6  # combinations this much shorter than the longest gradient count as 0: below it is rounding
_ROUNDING = 4e-16
_ROUNDS = 60


class MaxMin(NamedTuple):
    """Result of :func:`max_min`.

    Args:
        weights: ``float64[T]`` on the simplex.
        length: ``float64``, ``||sum_t w_t g_t||``, at least 1e-6 of the longest gradient, so that it can be divided by.
        settled: ``bool``, whether weights and length agree to 1e-6.
    """

    weights: Any
    length: Any
    settled: Any


def max_min(gram: Any, linear: Any, radius: Any, present: Any | None = None) -> MaxMin:
    """Solves ``argmin_w q' w + radius ||sum_t w_t g_t||`` over the probability simplex.

    With ``s = ||g_w|| / radius`` the solution also minimises ``w' G w / 2 + s q' w``: a min-norm problem with a tilt.
    ``||g_w||^2`` is piecewise linear in ``s^2`` and ``||g_w|| / s`` falls, so there is one root, which false position
    finds in a few rounds.

    Shapes: ``gram`` ``[T, T]``, T known when traced; ``linear`` q ``[T]``; ``radius`` is a scalar > 0.

    >>> max_min([[18., -22.], [-22., 38.]], [0., 2.], 1.).weights.numpy().round(4).tolist()
    [0.6289, 0.3711]
    """
    gram, linear = tf.cast(gram, tf.float64), tf.cast(linear, tf.float64)
    here = tf.ones_like(linear) if present is None else tf.cast(present, tf.float64)
    longest = tf.sqrt(tf.reduce_max(tf.linalg.diag_part(gram) * here))
    longest = tf.where(longest > 0, longest, 1.0)
    cosines = gram / longest / longest
    pull = tf.cast(radius, tf.float64) * longest
    pull = linear / tf.where(pull > 0, pull, 1.0)

    def solve(square: Any, start: Any) -> tuple[Any, Any]:
        """Weights at ``||g_w||^2 = square``, in units of the longest gradient, and the square that they have."""
        weights = min_norm(cosines, present, tilt=tf.sqrt(square) * pull, start=start).weights
        return weights, tf.reduce_sum(weights * tf.linalg.matvec(cosines, weights))

    low = tf.constant(_SMALLEST**2, tf.float64)
    high = tf.constant(1.0, tf.float64)
    weights, at_high = solve(high, None)
    weights, at_low = solve(low, weights)
    above, below = at_low - low, tf.minimum(at_high - high, 0.0)

    def narrow(low: Any, high: Any, above: Any, below: Any, square: Any, weights: Any, gap: Any, rounds: Any) -> Any:
        secant = (low * below - high * above) / (below - above)
        # Every third round halves the bracket's logarithm, whatever shape the function has.
        square = tf.where((rounds % 3 == 2) | ~((secant >= low) & (secant <= high)), tf.sqrt(low * high), secant)
        weights, found = solve(square, weights)
        gap = found - square
        up = gap > 0
        return (
            tf.where(up, square, low), tf.where(up, high, square), tf.where(up, gap, above), tf.where(up, below, gap),
            tf.maximum(square, found), weights, tf.maximum(tf.abs(gap) - _ROUNDING, 0.0) / square, rounds + 1,
        )

    stuck = above <= 0  # even the shortest combination is longer than what the gradients leave: they cancel
    start = tf.where(stuck, tf.constant(0.0, tf.float64), float("inf"))
    *_, square, weights, gap, _ = tf.while_loop(
        lambda low, high, above, below, square, weights, gap, rounds: (gap > 1e-11) & (rounds < _ROUNDS),
        narrow,
        (low, high, above, below, low, weights, start, tf.constant(0)),
    )
    settled = gap <= 1e-6
    settling.report(settled)
    return MaxMin(weights, tf.sqrt(square) * longest, settled)
