"""FairGrad: alpha-fair updates."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.linalg import fair
from tfmtl2r.methods.base import GramMethod, Signals, State
from tfmtl2r.registry import Card
from tfmtl2r.types import Vector

__all__ = ["FairGrad"]

CARD = Card(
    title="FairGrad (alpha-fair resource allocation)",
    paper="Ban and Ji 2024, https://arxiv.org/abs/2402.15638",
    promises=("permutation_equivariant", "non_conflicting_if_independent", "ends_on_the_pareto_set"),
    note="alpha 0 is the plain sum, 1 Nash-MTL; larger values favour the task that improves least.",
)


@dataclasses.dataclass(frozen=True)
class FairGrad(GramMethod):
    """Takes the update whose gains ``<g_t, d>`` are alpha-fair among the tasks.

    Maximising ``sum_t <g_t, d>^(1 - alpha) / (1 - alpha)`` over directions d gives ``d = sum_t w_t g_t`` with
    ``G w = w^(-1/alpha)``, ``w > 0``. A task with a zero gradient gets weight 0.

    Differs from the authors' code: Newton's method solves the problem exactly in the graph, instead of an external
    least-squares solver. The norm is limited as in Nash-MTL, which is the same method for ``alpha = 1``.

    Args:
        alpha: fairness, >= 0.
        max_norm: longer updates of the shared parameters are scaled down to this length; 0 means no limit.

    >>> from tfmtl2r import methods
    >>> raw = methods.get("fair_grad", alpha=1., max_norm=0.)
    >>> methods.combine(raw, [[-4., 1., 1.], [6., 1., 1.]]).round(4).tolist()
    [0.0766, 0.9985, 0.9985]
    """

    iterates: ClassVar[bool] = True

    alpha: float = 1.0
    max_norm: float = 1.0

    def __post_init__(self) -> None:
        if not self.alpha >= 0 or not self.max_norm >= 0:
            raise InputError(f"fair_grad: alpha and max_norm must be >= 0, not {self.alpha} and {self.max_norm}")

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The fair weights, scaled down if the update would be longer than ``max_norm``."""
        present = tf.cast(signals.present, tf.float64)
        gram = tf.cast(signals.gram, tf.float64) * present[:, None] * present[None, :]
        weights = fair(gram, self.alpha, signals.present).weights if self.alpha else present
        if self.max_norm:
            squared = tf.reduce_sum(weights * tf.linalg.matvec(gram, weights))
            weights *= self.max_norm / tf.maximum(tf.sqrt(tf.maximum(squared, 0.0)), self.max_norm)
        return weights, state
