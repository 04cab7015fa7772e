"""Weighted Chebyshev scalarisation: the largest weighted loss."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfmtl2r._backend import tf
from tfmtl2r.methods.base import Scalarisation, Signals, State, count_present, importance
from tfmtl2r.registry import Card
from tfmtl2r.types import Losses, Tensor

__all__ = ["WeightedChebyshev"]

CARD = Card(
    title="Weighted Chebyshev scalarisation",
    paper="Steuer and Choo 1983, https://doi.org/10.1007/BF02591870",
    aliases=("wc",),
    promises=("sums_to_tasks", "permutation_equivariant", "ends_on_the_pareto_set", "ends_on_the_ray"),
    note="Converges to equal preference times loss for all tasks, also on concave fronts."
    " Behind equal weights on most data sets of the study.",
)


@dataclasses.dataclass(frozen=True)
class WeightedChebyshev(Scalarisation):
    """Minimises ``T max_t w_t loss_t`` with w the preference scaled to sum T.

    Only the task with the largest ``w_t loss_t`` is trained, with weight ``T w_t``; tied tasks share this weight
    equally. The reference point is 0, the smallest possible loss.

    Differs from DeepMTL2R's code: the factor ``w_t`` is kept. In DeepMTL2R the task with the largest loss has weight 1,
    and tied tasks have weight 1 each.

    >>> from tfmtl2r import methods
    >>> methods.combine("wc", [[1., 0.], [0., 1.]], losses=[1., 2.]).tolist()
    [0.0, 2.0]
    >>> methods.combine("wc", [[1., 0.], [0., 1.]], losses=[1., 2.], preference=[3., 1.]).tolist()
    [3.0, 0.0]
    """

    takes_preference: ClassVar[bool] = True

    def objective(self, losses: Losses, signals: Signals, state: State) -> tuple[Tensor, State]:
        """The largest weighted loss among the present tasks."""
        weighted = importance(signals) * losses
        largest = tf.reduce_max(tf.where(signals.present, weighted, weighted.dtype.min))
        return count_present(signals, losses.dtype) * largest, state
