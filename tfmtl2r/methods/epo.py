"""EPO: exact Pareto optimal search."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.linalg import nnls, spread
from tfmtl2r.methods.base import GramMethod, Signals, State
from tfmtl2r.methods.positive import ray
from tfmtl2r.registry import Card
from tfmtl2r.types import Vector

__all__ = ["EPO"]

CARD = Card(
    title="EPO (exact Pareto optimal search)",
    paper="Mahapatra and Rajan 2020, https://proceedings.mlr.press/v119/mahapatra20a.html; extended 2021, "
    "https://arxiv.org/abs/2108.00597",
    promises=("sums_to_tasks", "permutation_equivariant", "ends_on_the_pareto_set", "ends_on_the_ray"),
    note="Converges to equal preference times loss for all tasks; preferences must be above 0.",
)


@dataclasses.dataclass(frozen=True)
class EPO(GramMethod):
    """Moves the losses towards the ray where ``p_t loss_t`` is equal for all tasks, and then down along this ray.

    Let ``r = (1/p) / ||1/p||`` be the ray and ``l = loss / ||loss||``. The anchor a is the desired change of the
    losses: the part of l orthogonal to r while this part is longer than ``tolerance``, otherwise r. A step along
    ``sum_t b_t g_t`` lowers the losses by ``G b``, so the weights are ``argmin_{b >= 0} ||G b - a||``, scaled to sum T.
    If this b is 0, all weight goes to the task with the largest ``p_t loss_t``.

    Differs from the authors' code and from DeepMTL2R's: the length of b is free, and b is scaled afterwards. If b is
    restricted to the simplex, the result depends on the scale of the losses and misses the ray. The descent may leave
    the ray by ``tolerance``; the next steps then balance the losses again.

    Args:
        tolerance: sine of the angle to the ray above which the losses are balanced, in (0, 1).

    >>> from tfmtl2r import methods
    >>> methods.combine("epo", [[1., 0.], [0., 1.]], losses=[1., 3.]).round(4).tolist()
    [0.0, 2.0]
    """

    takes_preference: ClassVar[bool] = True
    positive_preference: ClassVar[bool] = True

    tolerance: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise InputError(f"epo: tolerance must lie between 0 and 1, not {self.tolerance}")

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The non-negative weights whose step comes closest to the desired change of the losses."""
        present = tf.cast(signals.present, tf.float64)
        along = ray(signals, tf.float64)
        losses = tf.cast(signals.losses, tf.float64) * present
        losses = tf.math.divide_no_nan(losses, tf.norm(losses))
        off = losses - tf.reduce_sum(losses * along) * along
        sine = tf.norm(off)
        anchor = tf.where(sine > self.tolerance, tf.math.divide_no_nan(off, sine), along)
        weights = nnls(tf.cast(signals.gram, tf.float64) * present[:, None] * present[None, :], anchor).solution
        highest = tf.argmax(tf.where(signals.present, tf.cast(signals.preference, tf.float64) * losses, -1.0))
        only = tf.one_hot(highest, weights.shape[0], dtype=tf.float64)
        return spread(tf.where(tf.reduce_sum(weights) > 0, weights, only), signals.present), state
