"""The Nash bargaining solution over task gradients."""

from __future__ import annotations

from typing import NamedTuple

from tfmtl2r._backend import tf
from tfmtl2r.linalg import settling
from tfmtl2r.types import Gram, Tensor

_RIDGE = 1e-12
_ROUNDS = 120


class Nash(NamedTuple):
    """Result of :func:`nash`.

    Args:
        weights: ``float64[T]``, above 0 for tasks that take part, 0 for the others.
        settled: ``bool``, whether ``w (G w) = 1`` holds to 1e-6, with the ridge added to G.
    """

    weights: Tensor
    settled: Tensor


def nash(gram: Gram, present: Tensor | None = None) -> Nash:
    """Solves ``w_t (G w)_t = 1`` for ``w > 0``: the minimum of the convex ``w' G w / 2 - sum_t log w_t``.

    Damped Newton's method finds the solution b for the correlation matrix ``C = D^-1/2 G D^-1/2`` with D = diag G. Then
    ``w = b / sqrt(diag G)`` is exactly the solution for G, whatever the lengths of the gradients. The objective is
    self-concordant, so a step shortened by ``1 / (1 + decrement)`` never leaves the domain and always makes progress.

    Shapes: ``gram`` ``[T, T]``, symmetric and positive semi-definite, T known when traced; ``present`` ``bool[T]``.

    Args:
        gram: inner products of the task gradients.
        present: tasks that take part, by default all; a task with a zero gradient never does.

    >>> nash([[4., 0.], [0., 25.]]).weights.numpy().round(6).tolist()
    [0.5, 0.2]

    Reference: Navon et al., Multi-Task Learning as a Bargaining Game, 2022, https://arxiv.org/abs/2202.01017. This
    convex form replaces the paper's sequence of approximations, which can stall.
    """
    gram = tf.cast(gram, tf.float64)
    tasks = gram.shape[0]
    length = tf.sqrt(tf.maximum(tf.linalg.diag_part(gram), 0.0))
    usable = length > 0
    if present is not None:
        usable &= tf.cast(present, tf.bool)
    safe = tf.where(usable, length, 1.0)
    both = usable[:, None] & usable[None, :]
    corr = tf.where(both, gram / safe[:, None] / safe[None, :], 0.0)
    # A task that does not take part becomes a separate problem with the solution 1.
    corr = tf.linalg.set_diag(corr, tf.ones([tasks], tf.float64) + _RIDGE)

    def newton(point: Tensor, _: Tensor, rounds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        slope = tf.linalg.matvec(corr, point) - 1.0 / point
        # The Hessian scaled by the point, diag(b) C diag(b) + I, is well conditioned however large b grows.
        hessian = corr * point[:, None] * point[None, :] + tf.eye(tasks, dtype=tf.float64)
        scaled = slope * point
        step = tf.linalg.cholesky_solve(tf.linalg.cholesky(hessian), scaled[:, None])[:, 0]
        decrement = tf.sqrt(tf.maximum(tf.reduce_sum(scaled * step), 0.0))
        damping = tf.where(decrement > 0.25, 1.0 / (1.0 + decrement), tf.ones_like(decrement))
        return point * (1.0 - damping * step), decrement, rounds + 1

    one = tf.ones([tasks], tf.float64)
    point, decrement, rounds = tf.while_loop(
        lambda point, decrement, rounds: (decrement > 1e-10) & (rounds < _ROUNDS),
        newton,
        (one, tf.constant(float("inf"), tf.float64), tf.constant(0)),
    )
    settled = decrement <= 1e-6
    settling.report(settled, rounds)
    return Nash(tf.where(usable, point / safe, 0.0), settled)
