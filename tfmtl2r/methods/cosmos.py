"""COSMOS: linear scalarisation with a reward for losses in the direction of the preference."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import Scalarisation, Signals, State, count_present, importance
from tfmtl2r.methods.positive import positive, ray
from tfmtl2r.registry import Card
from tfmtl2r.types import Losses, Tensor

__all__ = ["COSMOS"]

CARD = Card(
    title="COSMOS (linear scalarisation with a cosine reward)",
    paper="Ruchte and Grabocka 2021, https://arxiv.org/abs/2103.13392",
    promises=("sums_to_tasks", "permutation_equivariant"),
    note="Made for models with the preference as an input; with a fixed preference, it is a mix of ls and pbi.",
)


@dataclasses.dataclass(frozen=True)
class COSMOS(Scalarisation):
    """Minimises ``T (<r, loss> - lam cos(1/r, loss))`` with the preference r, which sums to 1.

    The cosine is 1 where ``r_t loss_t`` is the same for every task. With lam 0 this is the linear scalarisation.

    Differs from the authors' code: the cosine is taken with 1/r, since a preference is an importance here (their cosine
    favours the other task). The method uses the preference of the step, and does not draw random preferences itself.

    Args:
        lam: weight of the cosine; the paper uses 0.01 to 8.

    >>> from tfmtl2r import methods
    >>> methods.combine("cosmos", [[1., 0.], [0., 1.]], losses=[1., 2.]).round(4).tolist()
    [0.747, 1.1265]
    """

    lam: float = 1.0
    positive_losses: ClassVar[bool] = True
    takes_preference: ClassVar[bool] = True
    positive_preference: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.lam >= 0:
            raise InputError(f"cosmos: lam must be >= 0, not {self.lam}")

    def objective(self, losses: Losses, signals: Signals, state: State) -> tuple[Tensor, State]:
        """The weighted sum minus the cosine, among the present tasks."""
        linear = tf.reduce_sum(importance(signals) * losses)
        among = positive(losses, signals) * tf.cast(signals.present, losses.dtype)
        largest = tf.stop_gradient(tf.reduce_max(among))
        among = tf.math.divide_no_nan(among, largest)  # squares of tiny losses would be 0
        norm = tf.where(largest > 0, tf.norm(tf.where(largest > 0, among, 1.0)), 1.0)
        cosine = tf.reduce_sum(among * ray(signals, losses.dtype)) / norm
        return linear - self.lam * count_present(signals, losses.dtype) * cosine, state
