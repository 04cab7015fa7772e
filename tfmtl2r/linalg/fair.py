"""The alpha-fair solution over task gradients, of which the Nash bargaining solution is a special case."""

from __future__ import annotations

from typing import NamedTuple

from tfmtl2r._backend import tf
from tfmtl2r.linalg import settling
from tfmtl2r.linalg.correlation import correlation
from tfmtl2r.types import Gram, Tensor

_RIDGE = 1e-12
_ROUNDS = 60
_HALVINGS = 20


class Fair(NamedTuple):
    """Result of :func:`fair`.

    Args:
        weights: ``float64[T]``, above 0 for tasks that take part, 0 for the others.
        settled: ``bool``, whether the last Newton decrement, or the last relative change of every weight, was at most
            1e-6.
    """

    weights: Tensor
    settled: Tensor


def fair(gram: Gram, alpha: float, present: Tensor | None = None) -> Fair:
    """Solves ``G w = w^(-1/alpha)`` for ``w > 0``, the stationary point of a strictly convex function.

    With ``p = 1/alpha``, lengths L of the gradients and ``w = b L^(-2/(1+p))`` the function is
    ``b' K b / 2 - sum_t k_t phi(b_t)`` with ``k = L^(2(p-1)/(p+1))``, ``K_ij = sqrt(k_i k_j) cos_ij`` and
    ``phi'(b) = b^-p``. Newton's method starts at ``b = 1``, the solution for orthogonal gradients, and halves each step
    until the function decreases enough.

    Shapes: ``gram`` ``[T, T]``, symmetric and positive semi-definite, T known when traced; ``present`` ``bool[T]``.

    Args:
        gram: inner products of the task gradients.
        alpha: fairness, > 0. The value 1 is Nash bargaining; large values consider only the worst-off task.
        present: tasks that take part, by default all; a task with a zero gradient never does.

    >>> fair([[18., -22.], [-22., 38.]], alpha=2.).weights.numpy().round(4).tolist()
    [0.4714, 0.3195]

    Reference: Ban and Ji, Fair resource allocation in multi-task learning, 2024, https://arxiv.org/abs/2402.15638.
    """
    power = 1.0 / alpha
    cosines, lengths, usable = correlation(gram, present)
    tasks = cosines.shape[0]
    cosines = tf.linalg.set_diag(cosines, tf.ones([tasks], tf.float64) + _RIDGE)
    importance = lengths ** (2.0 * (power - 1.0) / (power + 1.0))
    quadratic = cosines * tf.sqrt(importance[:, None]) * tf.sqrt(importance[None, :])

    def value_and_noise(points: Tensor) -> tuple[Tensor, Tensor]:
        energy = 0.5 * tf.reduce_sum(points * tf.matmul(points, quadratic), axis=1)
        logs = tf.math.log(points)
        utility = logs if power == 1.0 else tf.math.expm1((1.0 - power) * logs) / (1.0 - power)
        noise = tf.abs(energy) + tf.reduce_sum(importance * tf.abs(utility), axis=1)
        return energy - tf.reduce_sum(importance * utility, axis=1), 1e-13 * noise

    def newton(point: Tensor, _: Tensor, rounds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # The Hessian scaled on both sides is well conditioned however large b and the lengths are.
        stretch = point ** (0.5 * (1.0 + power))
        hessian = cosines * stretch[:, None] * stretch[None, :] + power * tf.eye(tasks, dtype=tf.float64)
        scale = tf.sqrt(importance * point ** (1.0 - power))
        residual = tf.linalg.matvec(quadratic, point) * point**power / importance - 1.0
        slope = scale * residual
        step = tf.linalg.cholesky_solve(tf.linalg.cholesky(hessian), slope[:, None])[:, 0]
        relative = step / scale
        # Weights that shrink are divided, weights that grow are multiplied: all stay above 0, however long the step.
        sizes = 0.5 ** tf.range(_HALVINGS, dtype=tf.float64)[:, None]
        tried = point * (1.0 + sizes * tf.maximum(-relative, 0.0)) / (1.0 + sizes * tf.maximum(relative, 0.0))
        now, noise = value_and_noise(point[None])
        falls = value_and_noise(tried)[0] <= now - 1e-4 * sizes[:, 0] * tf.reduce_sum(slope * step) + noise
        chosen = tf.where(tf.reduce_any(falls), tf.argmax(tf.cast(falls, tf.int32)), _HALVINGS - 1)
        # Where cancellation makes the residual inexact, a step that no longer changes any weight shows convergence.
        decrement = tf.sqrt(tf.abs(tf.reduce_sum(residual * relative)))
        return tried[chosen], tf.minimum(decrement, tf.reduce_max(tf.abs(relative))), rounds + 1

    point, error, rounds = tf.while_loop(
        lambda point, error, rounds: (error > 1e-9) & (rounds < _ROUNDS),
        newton,
        (tf.ones([tasks], tf.float64), tf.constant(float("inf"), tf.float64), tf.constant(0)),
    )
    weights = tf.where(usable, point * lengths ** (-2.0 / (1.0 + power)), 0.0)
    settled = error <= 1e-6
    settling.report(settled, rounds)
    return Fair(weights, settled)
