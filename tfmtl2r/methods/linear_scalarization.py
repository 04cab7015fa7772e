"""Linear scalarisation: the weighted sum of the losses."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfmtl2r._backend import tf
from tfmtl2r.methods.base import Scalarisation, Signals, State, importance
from tfmtl2r.registry import Card
from tfmtl2r.types import Losses, Tensor

__all__ = ["LinearScalarization"]

CARD = Card(
    title="Linear scalarisation (weighted sum of the losses)",
    aliases=("ls",),
    promises=("sums_to_tasks", "permutation_equivariant"),
    note="Try it first: well-tuned weights are a strong baseline (Kurin et al. 2022, https://arxiv.org/abs/2201.04122).",
)


@dataclasses.dataclass(frozen=True)
class LinearScalarization(Scalarisation):
    """Minimises ``T sum_t p_t loss_t`` with the preference ``p``. Equal preferences give the plain sum of the losses.

    The heads also get the weighted gradient.

    >>> from tfmtl2r import methods
    >>> methods.combine("ls", [[1., 0.], [0., 1.]], preference=[3., 1.]).tolist()
    [1.5, 0.5]
    """

    takes_preference: ClassVar[bool] = True
    preference_per_list: ClassVar[bool] = True

    def objective(self, losses: Losses, signals: Signals, state: State) -> tuple[Tensor, State]:
        """``sum_t w_t loss_t``, with w the preference scaled to sum to the number of present tasks."""
        return tf.reduce_sum(importance(signals) * losses), state
