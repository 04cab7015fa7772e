"""UPGrad: the unconflicting projection of every gradient."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfmtl2r._backend import tf
from tfmtl2r.linalg import dual_cone
from tfmtl2r.methods.base import GramMethod, Signals, State, importance
from tfmtl2r.registry import Card
from tfmtl2r.types import Vector

__all__ = ["UPGrad"]

CARD = Card(
    title="UPGrad (unconflicting projection of gradients)",
    paper="Quinton and Rey 2024, https://arxiv.org/abs/2406.16232",
    promises=(
        "sums_to_tasks", "permutation_equivariant", "non_conflicting", "identity_without_conflict",
        "ends_on_the_pareto_set",
    ),
    note="Opposes no task, and is linear in the scale of every single gradient.",
)


@dataclasses.dataclass(frozen=True)
class UPGrad(GramMethod):
    """Projects every task's gradient onto the updates that oppose no task, and sums the projections.

    An update d opposes no task if ``<d, g_t> >= 0`` for all t. The projection of ``p_i g_i`` is ``sum_t v_it g_t`` with
    ``v_i = argmin v' G v`` subject to ``v >= p_i e_i``, where p is the preference scaled to sum T. The weights are
    ``sum_i v_i``. Without conflict this is the plain sum.

    >>> from tfmtl2r import methods
    >>> (methods.combine("upgrad", [[-4., 1., 1.], [6., 1., 1.]]) / 2).round(4).tolist()
    [0.2924, 1.9006, 1.9006]
    """

    takes_preference: ClassVar[bool] = True
    iterates: ClassVar[bool] = True

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The sum of the projections of all tasks."""
        each = tf.linalg.diag(tf.cast(importance(signals), tf.float64))
        return tf.reduce_sum(dual_cone(signals.gram, each, signals.present).weights, axis=0), state
