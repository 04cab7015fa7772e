"""GLS: the geometric mean of the losses."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfmtl2r._backend import tf
from tfmtl2r.methods.base import Scalarisation, Signals, State, count_present
from tfmtl2r.methods.positive import positive
from tfmtl2r.registry import Card
from tfmtl2r.types import Losses, Tensor

__all__ = ["GLS"]

CARD = Card(
    title="GLS (geometric loss strategy)",
    paper="Chennupati et al. 2019, https://arxiv.org/abs/1904.08492",
    promises=("permutation_equivariant",),
    note="Needs losses above 0. Equal losses give weights of 1/T, so the learning rate may need a factor of T.",
)


@dataclasses.dataclass(frozen=True)
class GLS(Scalarisation):
    """Minimises ``(prod_t loss_t)^(1/T)``.

    The task weights are ``value / (T loss_t)``, so that ``weight * loss`` is equal for all tasks. The weights are not
    scaled to a fixed sum. Multiplying a loss by a constant only multiplies the whole update by a constant.

    Differs from LibMTL's code: the weights that LibMTL reports omit the root.

    >>> from tfmtl2r import methods
    >>> methods.combine("gls", [[1., 0.], [0., 1.]], losses=[.5, 8.]).round(6).tolist()
    [2.0, 0.125]
    """

    positive_losses: ClassVar[bool] = True

    def objective(self, losses: Losses, signals: Signals, state: State) -> tuple[Tensor, State]:
        """The geometric mean over the present tasks."""
        logs = tf.math.log(positive(losses, signals))
        return tf.exp(tf.math.divide_no_nan(tf.reduce_sum(logs), count_present(signals, logs.dtype))), state
