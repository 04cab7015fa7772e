"""Two-objective problems whose Pareto sets are known, and descent by a method's own weights."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.methods.base import Signals
from tfmtl2r.methods.deciding import merge, weigh

SIZE = 3
FAR = 1.0 / np.sqrt(SIZE)


@dataclasses.dataclass(frozen=True)
class Problem:
    """Losses of a point.

    Args:
        losses: ``x[P] -> float64[2]``.
        inside: ``x -> bool``, whether a point is in the Pareto set.
        starts: points to begin at.
    """

    losses: Callable
    inside: Callable
    starts: tuple


def quadratic(x):
    """Two bowls around (1, 0, 0) and (-1, 0, 0), the second three times as steep; the Pareto set lies between them."""
    centres = np.eye(1, SIZE) * np.array([[1.0], [-1.0]])
    return tf.constant([1.0, 3.0], tf.float64) * tf.reduce_sum((x - centres) ** 2, axis=1)


def fonseca_fleming(x):
    """``1 - exp(-sum (x_i -+ 1/sqrt n)^2)``, a concave front, from ``x_1 = ... = x_n`` with ``|x_i| <= 1/sqrt n``."""
    return 1.0 - tf.exp(-tf.stack([tf.reduce_sum((x - FAR) ** 2), tf.reduce_sum((x + FAR) ** 2)]))


def zdt(x):
    """Like ZDT1, a convex front where all coordinates but the first are 0, made smooth: ``f_2 = (1 - sqrt f_1)^2``.

    ``f_1 = u^2 + g`` and ``f_2 = (1 - u)^2 (1 + 9 g)`` with u the logistic function of ``2 x_1``, which keeps it in
    ZDT's range, and g the mean square of the other coordinates.
    """
    u, g = tf.sigmoid(2.0 * x[0]), tf.reduce_mean(x[1:] ** 2)
    return tf.stack([u**2 + g, (1.0 - u) ** 2 * (1.0 + 9.0 * g)])


def near(value, expected, tolerance=2e-2):
    return bool(np.abs(np.asarray(value) - expected).max() <= tolerance)


PROBLEMS = {
    "quadratic": Problem(
        quadratic, lambda x: near(x[1:], 0) and abs(x[0]) <= 1.01, ((0.3, 0.8, -0.4), (-1.5, 0.2, 0.9)),
    ),
    "fonseca_fleming": Problem(
        fonseca_fleming, lambda x: near(x, x.mean()) and abs(x.mean()) <= FAR + 0.01,
        ((0.9, -0.2, 0.3), (0.2, 0.9, -0.9)),
    ),
    "zdt": Problem(zdt, lambda x: near(x[1:], 0), ((0.2, 0.6, -0.5), (-0.8, 0.7, 0.3))),
}


def rows_and_losses(problem, x, scales=1.0):
    """Losses ``[2]`` and their gradients ``[2, P]``."""
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        losses = scales * problem.losses(x)
        one, two = losses[0], losses[1]
    return tf.stack([tape.gradient(one, x), tape.gradient(two, x)]), losses


def distance_to_stationarity(problem, x):
    """Length of the shortest combination of the gradients, over that of the longer one."""
    (a, b), _ = (value.numpy() for value in rows_and_losses(problem, tf.constant(x)))
    share = np.clip((b - a) @ b / ((a - b) @ (a - b)), 0, 1)
    return np.linalg.norm(share * a + (1 - share) * b) / max(np.linalg.norm(a), np.linalg.norm(b))


@functools.cache
def descent(method, name, steps=400):
    """Compiled ``(start, preference, scales) -> x``: from ``start`` with normalised steps whose length decays."""
    problem = PROBLEMS[name]
    initial = {key: tf.constant(value) for key, value in method.initial_state(2, SIZE).items()}
    vector = tf.TensorSpec([SIZE], tf.float64)
    pair = tf.TensorSpec([2], tf.float64)

    @tf.function(autograph=False, input_signature=[vector, pair, pair])
    def run(start, preference, scales):
        def step(k, x, state):
            rows, losses = rows_and_losses(problem, x, scales)
            gram = tf.matmul(rows, rows, transpose_b=True)
            signals = Signals(
                losses=losses, preference=preference, present=tf.ones([2], tf.bool), gram=gram, cross=gram, step=k,
                epoch=tf.cast(k > 0, tf.int64), seed=tf.stack([0, tf.cast(k, tf.int32)]),
            )
            if "rows" in method.needs:
                update, state = merge(method, rows, signals, state)
            else:
                weights, state = weigh(method, signals, state)
                update = tf.linalg.matvec(rows, weights, transpose_a=True)
            length = 0.15 / (1.0 + 0.05 * tf.cast(k, tf.float64))
            moved = x - length * tf.math.divide_no_nan(update, tf.norm(update))
            if "losses_after" in method.needs:
                state = method.learn(problem.losses(moved) * scales, signals, state)
            return k + 1, moved, state

        return tf.while_loop(
            lambda k, x, state: k < steps, step, (tf.zeros([], tf.int64), start, initial)
        )[1]

    return run
