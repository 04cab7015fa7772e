"""Scale-invariant scalarisation: the sum of the log losses."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfmtl2r._backend import tf
from tfmtl2r.methods.base import Scalarisation, Signals, State, importance
from tfmtl2r.methods.positive import positive
from tfmtl2r.registry import Card
from tfmtl2r.types import Losses, Tensor

__all__ = ["ScaleInvariant"]

CARD = Card(
    title="Scale-invariant scalarisation (sum of log losses)",
    paper="Navon et al. 2022 (their baseline SI), https://arxiv.org/abs/2202.01017",
    aliases=("scaleinvls",),
    promises=("sums_to_tasks", "permutation_equivariant", "ignores_loss_scale"),
    note="Needs losses above 0.",
)


@dataclasses.dataclass(frozen=True)
class ScaleInvariant(Scalarisation):
    """Minimises ``sum_t w_t log loss_t`` with w the preference scaled to sum T.

    The task weights are ``w_t / loss_t``. Multiplying a loss by a constant does not change the update. The weights are
    not scaled to a fixed sum; they sum to T if all losses are 1.

    >>> from tfmtl2r import methods
    >>> methods.combine("scale_invariant", [[1., 0.], [0., 1.]], losses=[.5, 4.]).tolist()
    [2.0, 0.25]
    """

    positive_losses: ClassVar[bool] = True
    takes_preference: ClassVar[bool] = True

    def objective(self, losses: Losses, signals: Signals, state: State) -> tuple[Tensor, State]:
        """The weighted sum of the logarithms."""
        return tf.reduce_sum(importance(signals) * tf.math.log(positive(losses, signals))), state
