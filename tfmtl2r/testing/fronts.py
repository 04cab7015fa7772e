"""Problems with two losses whose Pareto sets are known, and descent along the updates of a method."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.methods.base import Method, Signals
from tfmtl2r.testing.steps import cached_per_object, decide

SIZE = 3
FAR = 1.0 / np.sqrt(SIZE)
CENTRES = np.eye(1, SIZE) * np.array([[1.0], [-1.0]])


@dataclasses.dataclass(frozen=True)
class Problem:
    """Two losses of a point.

    Args:
        losses: ``x[P] -> float64[2]``.
        inside: ``x -> bool``, whether a point is in the Pareto set.
        starts: starting points.
    """

    losses: Callable[[Any], Any]
    inside: Callable[[np.ndarray], Any]
    starts: tuple[tuple[float, ...], ...]


def bowls(x: Any) -> Any:
    """``|x - (1, 0, 0)|^2`` and ``|x + (1, 0, 0)|^2``; the Pareto set is the line between the centres."""
    return tf.reduce_sum((x - CENTRES) ** 2, axis=1)


def quadratic(x: Any) -> Any:
    """The two bowls, the second one three times as steep."""
    return tf.constant([1.0, 3.0], tf.float64) * bowls(x)


def fonseca_fleming(x: Any) -> Any:
    """``1 - exp(-sum (x_i -+ 1/sqrt n)^2)``, a concave front, from ``x_1 = ... = x_n`` with ``|x_i| <= 1/sqrt n``."""
    return 1.0 - tf.exp(-tf.stack([tf.reduce_sum((x - FAR) ** 2), tf.reduce_sum((x + FAR) ** 2)]))


def zdt(x: Any) -> Any:
    """Like ZDT1, a convex front where all coordinates but the first are 0, made smooth: ``f_2 = (1 - sqrt f_1)^2``.

    ``f_1 = u^2 + g`` and ``f_2 = (1 - u)^2 (1 + 9 g)`` with u the logistic function of ``2 x_1``, which keeps u in
    ZDT's range, and g the mean square of the other coordinates.
    """
    u, g = tf.sigmoid(2.0 * x[0]), tf.reduce_mean(x[1:] ** 2)
    return tf.stack([u**2 + g, (1.0 - u) ** 2 * (1.0 + 9.0 * g)])


def _near(value: Any, expected: Any, tolerance: float = 2e-2) -> bool:
    return bool(np.abs(np.asarray(value) - expected).max() <= tolerance)


PROBLEMS = {
    "bowls": Problem(bowls, lambda x: _near(x[1:], 0) and abs(x[0]) <= 1.01, ((0.1, 0.8, 0.0), (0.3, 0.8, -0.4))),
    "quadratic": Problem(
        quadratic, lambda x: _near(x[1:], 0) and abs(x[0]) <= 1.01, ((0.3, 0.8, -0.4), (-1.5, 0.2, 0.9)),
    ),
    "fonseca_fleming": Problem(
        fonseca_fleming, lambda x: _near(x, x.mean()) and abs(x.mean()) <= FAR + 0.01,
        ((0.9, -0.2, 0.3), (0.2, 0.9, -0.9)),
    ),
    "zdt": Problem(zdt, lambda x: _near(x[1:], 0), ((0.2, 0.6, -0.5), (-0.8, 0.7, 0.3))),
}


def rows_and_losses(problem: Problem, x: Any, scales: Any = 1.0) -> tuple[Any, Any]:
    """The gradients ``[2, P]`` and the losses ``[2]`` at a point, each loss times its scale."""
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        losses = scales * problem.losses(x)
        one, two = losses[0], losses[1]
    return tf.stack([tape.gradient(one, x), tape.gradient(two, x)]), losses


def distance_to_stationarity(problem: Problem, x: Any) -> float:
    """The length of the shortest convex combination of the gradients, divided by the length of the longer one."""
    (a, b), _ = (value.numpy() for value in rows_and_losses(problem, tf.constant(x)))
    share = np.clip((b - a) @ b / ((a - b) @ (a - b)), 0, 1)
    return float(np.linalg.norm(share * a + (1 - share) * b) / max(np.linalg.norm(a), np.linalg.norm(b)))


def unit(update: Any, moments: Any, k: Any) -> tuple[Any, Any]:
    """A step of length 1 along the update, whatever its length."""
    return tf.math.divide_no_nan(update, tf.norm(update)), moments


def sgd(update: Any, moments: Any, k: Any) -> tuple[Any, Any]:
    """Plain gradient descent: the update itself."""
    return update, moments


def adam(update: Any, moments: Any, k: Any) -> tuple[Any, Any]:
    """Adam with its usual beta of .9 and .999, and with Keras' epsilon."""
    first, second = 0.9 * moments[0] + 0.1 * update, 0.999 * moments[1] + 0.001 * update**2
    count = tf.cast(k + 1, tf.float64)
    step = first / (1.0 - 0.9**count) / (tf.sqrt(second / (1.0 - 0.999**count)) + 1e-7)
    return step, tf.stack([first, second])


@cached_per_object
def descent(
    method: Method, name: str, steps: int = 400, rate: float = 0.15, optimizer: Callable[..., Any] = unit,
    decay: float = 0.05, noise: float = 0.0,
) -> Any:
    """Traced ``(start[P], preference[2], scales[2]) -> x[P]``: steps of an optimizer, ``rate / (1 + decay k)`` long.

    Args:
        method: the method.
        name: a name in ``PROBLEMS``.
        steps: number of steps.
        rate: learning rate of the first step.
        optimizer: :func:`unit`, :func:`sgd` or :func:`adam`.
        decay: the learning rate falls as ``1 / (1 + decay k)``.
        noise: the length of the noise in each gradient, as a share of the gradient's length.
    """
    problem = PROBLEMS[name]
    initial = {key: tf.constant(value) for key, value in method.initial_state(2, SIZE).items()}
    vector, pair = tf.TensorSpec([SIZE], tf.float64), tf.TensorSpec([2], tf.float64)

    @tf.function(autograph=False, input_signature=[vector, pair, pair])
    def run(start: Any, preference: Any, scales: Any) -> Any:
        def step(k: Any, x: Any, moments: Any, state: Any) -> Any:
            rows, losses = rows_and_losses(problem, x, scales)
            if noise:
                drawn = tf.random.stateless_normal([2, SIZE], tf.stack([0, k]), dtype=tf.float64)
                rows += noise / np.sqrt(SIZE) * tf.norm(rows, axis=1, keepdims=True) * drawn
            signals = {
                "losses": losses, "preference": preference, "present": tf.ones([2], tf.bool), "step": k,
                "epoch": tf.cast(k > 0, tf.int64), "seed": tf.stack([0, tf.cast(k, tf.int32)]),
            }
            update, _, state = decide(method, rows, None, signals, state)
            along, moments = optimizer(update, moments, k)
            moved = x - rate / (1.0 + decay * tf.cast(k, tf.float64)) * along
            if "losses_after" in method.needs:
                state = method.learn(problem.losses(moved) * scales, Signals(**signals), state)
            return k + 1, moved, moments, state

        begin = (tf.zeros([], tf.int64), start, tf.zeros([2, SIZE], tf.float64), initial)
        return tf.while_loop(lambda k, *_: k < steps, step, begin)[1]

    return run


def on_the_ray(preference: Any, scales: Any) -> list[float]:
    """The point between the centres of the bowls where ``r_1 s_1 l_1 = r_2 s_2 l_2``.

    It is ``(t, 0, 0)`` with ``t = (1 - q) / (1 + q)`` and ``q = sqrt(r_2 s_2 / (r_1 s_1))``.

    >>> on_the_ray((0.5, 0.5), (1.0, 1.0))
    [0.0, 0.0, 0.0]
    """
    (r1, r2), (s1, s2) = preference, scales
    q = float(np.sqrt(r2 * s2 / (r1 * s1)))
    return [(1 - q) / (1 + q), 0.0, 0.0]
