"""Log loss of probabilities, divided by the log loss of the base rate."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.metrics._probabilities import Probabilities, entropy
from tfmtl2r.metrics.base import Metric
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor

CARD = Card(
    title="Normalised entropy",
    paper="He et al., Practical lessons from predicting clicks on ads at Facebook, ADKDD 2014, "
    "https://doi.org/10.1145/2648584.2648589",
    aliases=("normalized_entropy", "normalised_cross_entropy"),
    note="reads probabilities; below 1 is better than the base rate for all items",
)
__all__ = ["NormalisedEntropy"]


@dataclasses.dataclass(frozen=True)
class NormalisedEntropy(Probabilities):
    """``LL / H(b)``: the mean log loss of the probabilities over the entropy of the base rate b of the same items.

    ``LL = - sum w (y log p + (1 - y) log(1 - p)) / sum w`` and ``H(b) = - b log b - (1 - b) log(1 - b)``. The value is
    1 for the base rate as the probability of every item. It is NaN if all labels are equal. Labels above 1 count as 1.

    Args:
        eps: probabilities are clipped to ``[eps, 1 - eps]``.

    Raises:
        ValueError: for an eps outside (0, 0.5).

    >>> round(NormalisedEntropy().exact([1.0, 0.0, 1.0, 0.0], [0.9, 0.2, 0.6, 0.1]), 6)
    0.340725

    Source: see ``CARD``.
    """

    eps: float = 1e-7

    def __post_init__(self) -> None:
        if not 0 < self.eps < 0.5:
            raise InputError(f"{self.name}: eps must be above 0 and below 0.5, not {self.eps!r}")

    def conventions(self) -> dict[str, Any]:
        return {"over": "all items", "eps": self.eps}

    def trivial(self) -> Metric | float:
        """1, the value of the base rate."""
        return 1.0

    def perfect(self) -> float:
        return 0.0

    def if_calibrated(self) -> Metric | None:
        """The entropy of the probabilities over that of their mean: what the value would be if labels had them."""
        return _Expected(self.eps)

    def sums(self, labels: Tensor, scores: Tensor, weights: Tensor) -> dict[str, Tensor]:
        labels, scores, weights = (tf.cast(part, tf.float64) for part in (labels, scores, weights))
        scores = tf.clip_by_value(scores, self.eps, 1 - self.eps)
        labels = self._labels(labels, scores)
        loss = -labels * tf.math.log(scores) - (1 - labels) * tf.math.log(1 - scores)
        return {"weights": tf.reduce_sum(weights), "labels": tf.reduce_sum(weights * labels),
                "loss": tf.reduce_sum(weights * loss)}

    def _labels(self, labels: Tensor, scores: Tensor) -> Tensor:
        return tf.minimum(labels, 1.0)

    def of_sums(self, sums: dict[str, Tensor]) -> Tensor:
        rate = sums["labels"] / sums["weights"]
        base = entropy(rate)
        return tf.where(base > 0, sums["loss"] / sums["weights"] / base, float("nan"))


@dataclasses.dataclass(frozen=True)
class _Expected(NormalisedEntropy):
    """The value of a perfectly calibrated model, whose expected labels are the probabilities."""

    def _labels(self, labels: Tensor, scores: Tensor) -> Tensor:
        return scores
