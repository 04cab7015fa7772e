"""CAGrad on the logarithms of the losses."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfmtl2r.methods.wrappers.log import Log
from tfmtl2r.registry import Card

__all__ = ["LogCAGrad"]

CARD = Card(
    title="Log-CAGrad (conflict-averse gradient descent on log losses)",
    paper="Liu et al. 2021, https://arxiv.org/abs/2110.14048; on log losses: DeepMTL2R, https://arxiv.org/abs/2602.14519",
    promises=("sums_to_tasks", "permutation_equivariant", "ignores_loss_scale"),
    note="Needs losses above 0.",
)


@dataclasses.dataclass(frozen=True)
class LogCAGrad(Log):
    """CAGrad on the gradients of the log losses, ``g_t / loss_t``: multiplying a loss by a constant changes nothing.

    Differs from DeepMTL2R's code in the same way as ``cagrad``. Heads get the plain gradient of their own loss.

    Args:
        c: radius around the mean gradient in units of its length, >= 0.

    >>> from tfmtl2r import methods
    >>> methods.combine("log_cagrad", [[2., 0.], [0., 12.]], losses=[2., 4.]).round(4).tolist()
    [1.6178, 2.1429]
    """

    method: Any = dataclasses.field(default="cagrad", init=False)
    keep_sum: bool = dataclasses.field(default=False, init=False)
    c: float = 0.4

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", {"name": "cagrad", "c": self.c})
        super().__post_init__()
