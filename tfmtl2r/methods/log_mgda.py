"""MGDA on the logarithms of the losses."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfmtl2r.methods.wrappers.log import Log
from tfmtl2r.registry import Card

__all__ = ["LogMGDA"]

CARD = Card(
    title="Log-MGDA (multiple-gradient descent on log losses)",
    paper="Désidéri 2012, https://doi.org/10.1016/j.crma.2012.03.014; on log losses: DeepMTL2R, "
    "https://arxiv.org/abs/2602.14519",
    promises=("sums_to_tasks", "permutation_equivariant", "non_conflicting", "stationary", "ends_on_the_pareto_set"),
    note="Needs losses above 0.",
)


@dataclasses.dataclass(frozen=True)
class LogMGDA(Log):
    """Takes the point of smallest norm in the convex hull of the gradients of the log losses.

    ``a = argmin_{a in simplex} ||sum_t a_t g_t / loss_t||^2``; the weights are ``a_t / loss_t`` scaled to sum T.
    Multiplying a loss by a constant changes neither ``a`` nor the direction of the update.

    Differs from DeepMTL2R's code: it scales the weights to sum 1.

    >>> from tfmtl2r import methods
    >>> methods.combine("log_mgda", [[2., 0.], [0., 1.]], losses=[2., 1.]).round(4).tolist()
    [1.3333, 1.3333]
    """

    method: Any = dataclasses.field(default="mgda", init=False)
    keep_sum: bool = dataclasses.field(default=True, init=False)
