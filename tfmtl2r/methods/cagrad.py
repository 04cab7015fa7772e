"""CAGrad: conflict-averse gradient descent."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.linalg import max_min
from tfmtl2r.methods.base import GramMethod, Signals, State, count_present, importance
from tfmtl2r.registry import Card
from tfmtl2r.types import Vector

__all__ = ["CAGrad"]

CARD = Card(
    title="CAGrad (conflict-averse gradient descent)",
    paper="Liu et al. 2021, https://arxiv.org/abs/2110.14048",
    promises=("sums_to_tasks", "permutation_equivariant", "ends_on_the_pareto_set"),
    note="With c below 1 it converges to a minimum of the mean loss.",
)


@dataclasses.dataclass(frozen=True)
class CAGrad(GramMethod):
    """Takes the update near the mean gradient that improves the worst-off task the most.

    ``d = argmax_d min_t <d, g_t>`` subject to ``||d - g_0|| <= c ||g_0||`` with the mean gradient
    ``g_0 = sum_t p_t g_t`` for the preference p. The dual is
    ``w = argmin_{w in simplex} <g_w, g_0> + c ||g_0|| ||g_w||`` with ``g_w = sum_t w_t g_t``;
    then ``d = g_0 + c ||g_0|| g_w / ||g_w||``. The update is ``T d / (1 + c)``.

    Differs from the authors' code: the dual is solved exactly in the graph; d is divided by ``1 + c``, not by
    ``1 + c^2``, so that a single task, or tasks whose gradients have one direction, train on the sum of their losses.

    Args:
        c: radius around the mean gradient, in units of its length, >= 0. The value 0 gives the mean gradient; large
            values approach MGDA.

    >>> from tfmtl2r import methods
    >>> methods.combine("cagrad", [[1., 0.], [0., 3.]]).round(4).tolist()
    [1.6178, 2.1429]
    """

    takes_preference: ClassVar[bool] = True
    iterates: ClassVar[bool] = True

    c: float = 0.4

    def __post_init__(self) -> None:
        if not self.c >= 0:
            raise InputError(f"cagrad: c must be >= 0, not {self.c}")

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The preference plus the weights of the worst case."""
        gram = tf.cast(signals.gram, tf.float64)
        count = count_present(signals, tf.float64)
        mean = tf.math.divide_no_nan(tf.cast(importance(signals), tf.float64), count)
        if not self.c:
            return count * mean, state
        slope = tf.linalg.matvec(gram, mean)
        radius = self.c * tf.sqrt(tf.maximum(tf.reduce_sum(mean * slope), 0.0))
        worst = max_min(gram, slope, radius, signals.present)
        return count / (1.0 + self.c) * (mean + radius / worst.length * worst.weights), state
