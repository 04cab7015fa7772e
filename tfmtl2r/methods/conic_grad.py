"""ConicGrad: the best update for the worst-off task in a cone around the mean gradient."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.linalg import dual_cone, max_min, min_norm
from tfmtl2r.methods.base import GramMethod, Signals, State, count_present, importance
from tfmtl2r.registry import Card
from tfmtl2r.types import Gram, Tensor, Vector

__all__ = ["ConicGrad"]

CARD = Card(
    title="ConicGrad (max-min update in a cone around the mean)",
    paper="Hassanpour et al. 2025, https://arxiv.org/abs/2502.00217",
    promises=("sums_to_tasks", "permutation_equivariant", "non_conflicting", "ends_on_the_pareto_set"),
    note="c 0 is MGDA's direction, c near 1 that of DualProj; the length is always that of the mean gradient.",
)
_STALL = 1e-6


@dataclasses.dataclass(frozen=True)
class ConicGrad(GramMethod):
    """Takes the direction in a cone around the mean gradient that improves the worst-off task the most.

    ``d = argmax_d min_t <g_t, d> - |d|^2 / 2`` subject to ``<g_0, d> >= c |g_0| |d|`` with the mean gradient
    ``g_0 = sum_t p_t g_t`` for the preference p. The update is ``T |g_0| d / |d|``. Where the cone is so narrow that
    every direction in it opposes a task, the update has the direction of the projection of g_0 onto the updates that
    oppose no task. Tasks with a zero gradient take no part.

    The paper gives a closed form of another problem. For c < 1, its matrix is indefinite, and the update can leave the
    cone on the far side; this method solves the stated problem exactly. If the solution without the cone, MGDA's, is
    outside, then ``d / |d| = c g_0 / |g_0| + sqrt(1 - c^2) e`` with the unit vector e orthogonal to g_0 that maximises
    ``min_t <g_t, d>``. T, so that learning rates are those of the sum of losses.

    Args:
        c: lowest cosine of the update and the mean gradient, in [0, 1).

    >>> from tfmtl2r import methods
    >>> (methods.combine(methods.get("conic_grad", c=0.9), [[-4., 1., 1.], [6., 1., 1.]]) / 2).round(4).tolist()
    [0.2836, 1.2082, 1.2082]
    """

    takes_preference: ClassVar[bool] = True
    iterates: ClassVar[bool] = True

    c: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.c < 1.0:
            raise InputError(f"conic_grad: c must lie in [0, 1), not {self.c}")

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The weights of the direction, scaled to the length of the mean gradient."""
        gram = tf.cast(signals.gram, tf.float64)
        usable = tf.cast(signals.present, tf.bool) & (tf.linalg.diag_part(gram) > 0)
        here = tf.cast(usable, tf.float64)
        gram *= here[:, None] * here[None, :]
        mean = tf.cast(importance(signals), tf.float64) * here
        mean = tf.math.divide_no_nan(mean, tf.reduce_sum(mean))
        length = _length(gram, mean)
        inside = min_norm(gram, usable).weights
        boundary = self._boundary(gram, mean, length, usable)
        along = tf.reduce_sum(mean * tf.linalg.matvec(gram, inside))
        best = tf.where(along >= self.c * length * _length(gram, inside), inside, boundary)
        worst = tf.reduce_min(tf.where(usable, tf.linalg.matvec(gram, best), tf.float64.max))
        stalled = worst <= _STALL * length * _length(gram, best)
        best = tf.where(stalled, dual_cone(gram, mean[None], usable).weights[0], best)
        reached = _length(gram, best)
        best = tf.where(reached > _STALL * length, best * tf.math.divide_no_nan(length, reached), 0.0)
        return count_present(signals, tf.float64) * best, state

    def _boundary(self, gram: Gram, mean: Vector, length: Tensor, usable: Tensor) -> Vector:
        """The weights of the best direction on the boundary of the cone, of length 1."""
        products = tf.math.divide_no_nan(tf.linalg.matvec(gram, mean), length)  # with the unit vector of the mean
        apart = gram - products[:, None] * products[None, :]
        radius = tf.sqrt(tf.constant(1.0 - self.c**2, tf.float64))
        found = max_min(apart, self.c * products, radius, usable)
        outwards = radius / found.length * found.weights
        return outwards + tf.math.divide_no_nan(self.c - tf.reduce_sum(outwards * products), length) * mean


def _length(gram: Gram, weights: Vector) -> Tensor:
    return tf.sqrt(tf.maximum(tf.reduce_sum(weights * tf.linalg.matvec(gram, weights)), 0.0))
