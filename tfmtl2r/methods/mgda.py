"""MGDA: the multiple-gradient descent algorithm."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfmtl2r.linalg import min_norm
from tfmtl2r.methods.base import GramMethod, Signals, State, count_present
from tfmtl2r.registry import Card
from tfmtl2r.types import Vector

__all__ = ["MGDA"]

CARD = Card(
    title="MGDA (multiple-gradient descent)",
    paper="Désidéri 2012, https://doi.org/10.1016/j.crma.2012.03.014; Sener and Koltun 2018, https://arxiv.org/abs/1810.04650",
    promises=("sums_to_tasks", "permutation_equivariant", "non_conflicting", "stationary", "ends_on_the_pareto_set"),
    note="Tasks with small gradients dominate.",
)


@dataclasses.dataclass(frozen=True)
class MGDA(GramMethod):
    """Takes the point of smallest norm in the convex hull of the task gradients, a common descent direction.

    ``w = T argmin_{w in simplex} ||sum_t w_t g_t||^2``. The direction d of the minimiser satisfies
    ``<d, g_t> >= ||d||^2`` for every task. With ``gradients="features"`` this is MGDA-UB of Sener and Koltun.

    Differs from DeepMTL2R's code: the problem is solved exactly for any T. DeepMTL2R clips the weights of two tasks to
    [0.001, 0.999], and runs projected gradient descent for more tasks.

    >>> from tfmtl2r import methods
    >>> methods.combine("mgda", [[2., 0.], [0., 1.]]).round(4).tolist()
    [0.8, 1.6]
    """

    iterates: ClassVar[bool] = True

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The min-norm weights, scaled to sum to the number of present tasks."""
        weights = min_norm(signals.gram, signals.present).weights
        return weights * count_present(signals, weights.dtype), state
