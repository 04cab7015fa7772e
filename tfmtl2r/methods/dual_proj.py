"""DualProj: the mean gradient, projected so that it opposes no task."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfmtl2r._backend import tf
from tfmtl2r.linalg import dual_cone
from tfmtl2r.methods.base import GramMethod, Signals, State, importance
from tfmtl2r.registry import Card
from tfmtl2r.types import Vector

__all__ = ["DualProj"]

CARD = Card(
    title="DualProj (projection onto the dual cone)",
    paper="Lopez-Paz and Ranzato 2017 (GEM), https://arxiv.org/abs/1706.08840",
    promises=(
        "sums_to_tasks", "permutation_equivariant", "non_conflicting", "identity_without_conflict",
        "ends_on_the_pareto_set",
    ),
    note="The smallest change of the plain sum that opposes no task.",
)


@dataclasses.dataclass(frozen=True)
class DualProj(GramMethod):
    """Projects the sum of the task gradients onto the updates d that oppose no task: ``<d, g_t> >= 0`` for all t.

    The weights are ``argmin v' G v`` subject to ``v >= p`` with the preference p scaled to sum T. Without conflict this
    is the plain sum.

    Differs from GEM: the projected gradient is the sum over all tasks, not the gradient of the newest task.

    >>> from tfmtl2r import methods
    >>> (methods.combine("dual_proj", [[-4., 1., 1.], [6., 1., 1.]]) / 2).round(4).tolist()
    [0.5556, 1.1111, 1.1111]
    """

    takes_preference: ClassVar[bool] = True
    iterates: ClassVar[bool] = True

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The projection's weights."""
        weights = tf.cast(importance(signals), tf.float64)[None]
        return dual_cone(signals.gram, weights, signals.present).weights[0], state
