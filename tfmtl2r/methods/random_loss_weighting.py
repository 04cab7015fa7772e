"""Random loss weighting: new random weights in every step."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.methods.base import Scalarisation, Signals, State, count_present
from tfmtl2r.registry import Card
from tfmtl2r.types import Losses, Tensor

__all__ = ["RandomLossWeighting"]

CARD = Card(
    title="Random loss weighting",
    paper="Lin et al. 2021, https://arxiv.org/abs/2111.10603",
    aliases=("rlw",),
    promises=("sums_to_tasks",),
    note="A baseline that balancing methods should beat.",
)


@dataclasses.dataclass(frozen=True)
class RandomLossWeighting(Scalarisation):
    """Minimises ``T sum_t softmax(n)_t loss_t`` with new ``n ~ N(0, I)`` in every step.

    The expectation is the plain sum. The draw is a function of seed and step, the same on every replica.

    >>> from tfmtl2r import methods
    >>> weights = methods.combine("rlw", [[1., 0.], [0., 1.]])
    >>> round(float(weights.sum()), 6)
    2.0
    """

    def objective(self, losses: Losses, signals: Signals, state: State) -> tuple[Tensor, State]:
        """The losses with a random weight each, among the present tasks."""
        draw = tf.cast(tf.random.stateless_normal(losses.shape, signals.seed), losses.dtype)
        weights = tf.nn.softmax(tf.where(signals.present, draw, draw.dtype.min))
        return count_present(signals, losses.dtype) * tf.reduce_sum(weights * losses), state
