"""Sum of the values over the sum of the labels."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

from tfmtl2r._backend import tf
from tfmtl2r.metrics._probabilities import Probabilities
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor

CARD = Card(
    title="Calibration ratio",
    paper="He et al., Practical lessons from predicting clicks on ads at Facebook, ADKDD 2014, "
    "https://doi.org/10.1145/2648584.2648589",
    aliases=("calibration", "predicted_over_observed"),
    note="reads values with a unit, such as probabilities or seconds; 1 is best, so that no side is better",
)
__all__ = ["CalibrationRatio"]


@dataclasses.dataclass(frozen=True)
class CalibrationRatio(Probabilities):
    """``sum w v / sum w y`` over all labelled items: 1 if the values are right on average, above 1 if too high.

    v is the value of the score in the label's unit: a probability, or the expected label of a regression. The ratio is
    infinite, or NaN, if no label is above 0. A negative label is missing.

    >>> round(CalibrationRatio().exact([1.0, 0.0, 1.0, 0.0], [0.9, 0.2, 0.6, 0.1]), 4)
    0.9

    Source: see ``CARD``.
    """

    direction = ""
    reads: ClassVar[Literal["score", "value", "level", "probability"]] = "level"

    def conventions(self) -> dict[str, Any]:
        return {"over": "all items"}

    def trivial(self) -> float:
        """1, the ratio of the mean label for all items, which is also the best: the metric has no gain."""
        return 1.0

    def perfect(self) -> float:
        return 1.0

    def sums(self, labels: Tensor, scores: Tensor, weights: Tensor) -> dict[str, Tensor]:
        labels, scores, weights = (tf.cast(part, tf.float64) for part in (labels, scores, weights))
        return {"labels": tf.reduce_sum(weights * labels), "values": tf.reduce_sum(weights * scores)}

    def of_sums(self, sums: dict[str, Tensor]) -> Tensor:
        return sums["values"] / sums["labels"]
