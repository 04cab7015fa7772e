"""IMTL-G on the logarithms of the losses."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfmtl2r.methods.wrappers.log import Log
from tfmtl2r.registry import Card

__all__ = ["LogIMTLG"]

CARD = Card(
    title="Log-IMTL-G (impartial gradients of log losses)",
    paper="Liu et al. 2021, https://openreview.net/forum?id=IMPnRXEWpvr; on log losses: DeepMTL2R, "
    "https://arxiv.org/abs/2602.14519",
    aliases=("log_imtl",),
    promises=(
        "sums_to_tasks", "permutation_equivariant", "non_conflicting_if_independent", "ignores_loss_scale",
        "ends_on_the_pareto_set",
    ),
    note="Needs losses above 0. Task weights may be negative.",
)


@dataclasses.dataclass(frozen=True)
class LogIMTLG(Log):
    """IMTL-G on the gradients of the log losses, ``g_t / loss_t``: multiplying a loss by a constant changes nothing.

    >>> from tfmtl2r import methods
    >>> methods.combine("log_imtl_g", [[2., 0.], [0., 4.]], losses=[2., 4.]).round(4).tolist()
    [1.0, 1.0]
    """

    method: Any = dataclasses.field(default="imtl_g", init=False)
    keep_sum: bool = dataclasses.field(default=False, init=False)
