"""What NeuralNDCG and its transposed form share."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from tfmtl2r import ranking
from tfmtl2r._backend import tf
from tfmtl2r.losses import _neural_sort
from tfmtl2r.losses._base import Loss, list_weight, ndcg_gains, positive

CLOSE = 1e-6


@dataclasses.dataclass(frozen=True)
class NeuralSorted(Loss):
    """``1 - NDCG@k`` with a soft permutation of the scores that is doubly stochastic.

    Args:
        temperature: of NeuralSort; divides the scores.
        k: the cutoff; None for whole lists.
        gain: ``"exp2"`` for ``2^y - 1``, or ``"linear"``.
        iterations: of Sinkhorn's scaling at most; it stops earlier where all sums are within 1e-6 of 1.

    Raises:
        ValueError: for an unknown gain, or a number that is not above 0.

    Class attributes:
        transposed: scales the transposed matrix.
    """

    transposed: ClassVar[bool] = False
    temperature: float = 1.0
    k: int | None = None
    gain: str = "exp2"
    iterations: int = 50

    def __post_init__(self) -> None:
        positive(self, "temperature", "k", "iterations")
        if self.gain not in ranking.GAINS:
            known = ", ".join(ranking.GAINS)
            raise ValueError(f"{type(self).__name__}: gain must be one of {known}, not {self.gain!r}")

    def exponential_gain(self) -> bool:
        return self.gain == "exp2"

    def compute(self, labels: Any, scores: Any, known: Any, weights: Any, seed: Any) -> Any:
        rank = tf.range(1, tf.shape(scores)[1] + 1)
        discounts = ranking.discounts(rank)
        if self.k is not None:
            discounts = tf.where(rank <= self.k, discounts, 0.0)
        gains = ndcg_gains(labels, known, self.k, self.gain)
        scores = scores / self.temperature
        ndcg = _neural_sort.placed(scores, known, discounts, gains, self.transposed, self.iterations, CLOSE)
        return (1.0 - ndcg) * list_weight(labels, weights)
