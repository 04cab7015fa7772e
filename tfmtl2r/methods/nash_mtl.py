"""Nash-MTL: multi-task learning as a bargaining game."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.linalg import nash
from tfmtl2r.methods.base import GramMethod, Signals, State
from tfmtl2r.registry import Card
from tfmtl2r.types import Vector

__all__ = ["NashMTL"]

CARD = Card(
    title="Nash-MTL (bargaining solution)",
    paper="Navon et al. 2022, https://arxiv.org/abs/2202.01017",
    aliases=("nashmtl",),
    promises=(
        "permutation_equivariant", "non_conflicting_if_independent", "ignores_row_scale", "ends_on_the_pareto_set",
    ),
    note="The step does not depend on the scale of any loss; its length is at most max_norm.",
)


@dataclasses.dataclass(frozen=True)
class NashMTL(GramMethod):
    """Takes the update on which tasks would agree by Nash bargaining: ``w_t <g_t, d> = 1`` with ``d = sum w_t g_t``.

    The direction d does not change when a loss is multiplied by a constant. Before the norm is limited, the squared
    length of d is the number of tasks. A task with a zero gradient gets weight 0.

    Differs from the authors' code: Newton's method solves the problem exactly in the graph, instead of 20 rounds of a
    convex-concave heuristic with an external solver. The norm is limited after the weights are known.

    Args:
        max_norm: longer updates of the shared parameters are scaled down to this length; 0 means no limit.

    >>> from tfmtl2r import methods
    >>> raw = methods.get("nash_mtl", max_norm=0.)
    >>> methods.combine(raw, [[-4., 1., 1.], [6., 1., 1.]]).round(4).tolist()
    [0.0766, 0.9985, 0.9985]
    """

    iterates: ClassVar[bool] = True

    max_norm: float = 1.0

    def __post_init__(self) -> None:
        if not self.max_norm >= 0:
            raise InputError(f"nash_mtl: max_norm must be >= 0, not {self.max_norm}")

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The bargaining weights, scaled down if the update would be longer than ``max_norm``."""
        gram = tf.cast(signals.gram, tf.float64)
        weights = nash(gram, signals.present).weights
        if self.max_norm:
            squared = tf.reduce_sum(weights * tf.linalg.matvec(gram, weights))
            weights *= self.max_norm / tf.maximum(tf.sqrt(tf.maximum(squared, 0.0)), self.max_norm)
        return weights, state
