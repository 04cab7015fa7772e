"""Projection of combinations of the task gradients onto the cone of updates that oppose no task."""

from __future__ import annotations

from typing import NamedTuple

from tfmtl2r._backend import tf
from tfmtl2r.linalg.correlation import correlation
from tfmtl2r.linalg.non_negative import non_negative
from tfmtl2r.types import Gram, Tensor, Weights

_RIDGE = 1e-7


class DualCone(NamedTuple):
    """Result of :func:`dual_cone`.

    Args:
        weights: ``float64[K, T]``, never below the weights that were projected; 0 for absent tasks.
        settled: ``bool``, whether the optimality conditions hold in every problem.
        fallbacks: ``int64``, number of problems that coordinate descent had to finish.
    """

    weights: Tensor
    settled: Tensor
    fallbacks: Tensor


def dual_cone(gram: Gram, weights: Weights, present: Tensor | None = None) -> DualCone:
    """Projects K combinations ``sum_t u_kt g_t`` onto the dual cone ``{d : <d, g_t> >= 0 for all t}``.

    The projection is ``sum_t v_t g_t`` with ``v = argmin v' G v`` subject to ``v >= u``. All K problems are solved at
    once on the correlation matrix, with a ridge of 1e-7. The ridge biases the result only where gradients are linearly
    dependent.

    Shapes: ``gram`` ``[T, T]``, T known when traced; ``weights`` u ``[K, T]``, >= 0; ``present`` ``bool[T]``.

    Args:
        gram: inner products of the task gradients.
        weights: the combinations to project.
        present: tasks that take part. A task with a zero gradient takes no part and keeps its weight.

    >>> dual_cone([[18., -22.], [-22., 38.]], [[0.5, 0.], [0., 0.5]]).weights.numpy().round(4).tolist()
    [[0.5, 0.2895], [0.6111, 0.5]]

    Reference: Quinton and Rey, Jacobian descent for multi-objective optimization, 2024,
    https://arxiv.org/abs/2406.16232.
    """
    cosines, lengths, usable = correlation(gram, present)
    floor = tf.cast(weights, tf.float64)
    if present is not None:
        floor *= tf.cast(present, tf.float64)
    scaled = floor * tf.where(usable, lengths, 0.0)
    scale = tf.reduce_max(scaled, axis=1, keepdims=True)
    scale = tf.where(scale > 0, scale, 1.0)
    result = non_negative(cosines, tf.matmul(scaled / scale, cosines), _RIDGE)
    return DualCone(floor + result.solution * scale / lengths, result.settled, result.fallbacks)
