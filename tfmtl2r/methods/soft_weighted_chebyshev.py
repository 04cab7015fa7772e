"""Smooth weighted Chebyshev scalarisation: a soft maximum of the weighted losses."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import Scalarisation, Signals, State, count_present, importance
from tfmtl2r.registry import Card
from tfmtl2r.types import Losses, Tensor

__all__ = ["SoftWeightedChebyshev"]

CARD = Card(
    title="Smooth weighted Chebyshev scalarisation",
    paper="Lin et al. 2024, https://arxiv.org/abs/2402.19078",
    aliases=("soft_wc",),
    promises=("sums_to_tasks", "permutation_equivariant", "ends_on_the_ray"),
    note="Choose mu well below preference times loss; stch does not depend on the scale of the losses.",
)


@dataclasses.dataclass(frozen=True)
class SoftWeightedChebyshev(Scalarisation):
    """Minimises ``T^2 mu log sum_t exp(p_t loss_t / mu)`` with the preference ``p``, which sums to 1.

    The task weights are ``T^2 p_t softmax(p loss / mu)_t``; for equal preferences they sum to T. As mu goes to 0, this
    approaches ``weighted_chebyshev``. As mu grows, it approaches the linear scalarisation. The reference point is 0,
    the smallest possible loss.

    Differs from DeepMTL2R's code: the weights are the derivative of the smooth maximum. DeepMTL2R's weights,
    ``softmax(p loss)``, lack the factor ``p_t`` and lead to another solution.

    Args:
        mu: smoothness, in units of preference times loss.

    >>> from tfmtl2r import methods
    >>> soft = methods.get("soft_wc", mu=.1)
    >>> weights = methods.combine(soft, [[1., 0., 0.], [0., 1., 0.], [0., 0., 1.]], [.2, 1., .7], [.5, .3, .2])
    >>> (weights / 9).round(4).tolist()  # .5, .3, .2 times the softmax .1012, .7478, .1510
    [0.0506, 0.2243, 0.0302]
    """

    mu: float = 0.1
    takes_preference: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.mu > 0:
            raise InputError(f"soft_weighted_chebyshev: mu must be above 0, not {self.mu}")

    def objective(self, losses: Losses, signals: Signals, state: State) -> tuple[Tensor, State]:
        """The soft maximum over the present tasks."""
        tasks = count_present(signals, losses.dtype)
        exponent = tf.math.divide_no_nan(importance(signals), tasks) * losses / self.mu
        exponent = tf.where(signals.present, exponent, exponent.dtype.min)
        return tasks * tasks * self.mu * tf.reduce_logsumexp(exponent), state
