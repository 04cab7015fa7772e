"""Area under the ROC curve, over all items at once."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfmtl2r import ranking
from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import InputError
from tfmtl2r.metrics.base import Metric
from tfmtl2r.registry import Card
from tfmtl2r.types import Array, Labels, Mask, Scores, Tensor, Weights

CARD = Card(
    title="AUC",
    paper="Hanley and McNeil, The meaning and use of the area under a receiver operating characteristic (ROC) curve, "
    "Radiology 143(1), 1982, https://doi.org/10.1148/radiology.143.1.7063747",
    aliases=("roc_auc",),
    note="compares items across lists; grouped_auc compares within lists",
)
__all__ = ["AUC"]


@dataclasses.dataclass(frozen=True)
class AUC(Metric):
    """The probability that a positive item scores higher than a negative item, over all items; a tie counts half.

    ``streaming`` puts scores into fixed bins, which are narrow around 0 and wide far from 0. Two scores in the same bin
    are a tie. ``exact`` uses no bins.

    Args:
        above: an item is positive if its label is above this number.
        bins: number of bins of the streaming form.

    Raises:
        ValueError: for fewer than 2 bins.

    >>> AUC().exact([1.0, 0.0, 0.0], [0.3, 0.3, 0.1])
    0.75

    Source: see ``CARD``.
    """

    per_list_mean = False
    above: float = 0.0
    bins: int = 10_000

    def __post_init__(self) -> None:
        if self.bins < 2:
            raise InputError(f"auc: bins must be 2 or more, not {self.bins!r}")

    def conventions(self) -> dict[str, Any]:
        return {"above": self.above, "over": "all items", "ties": "half", "bins": self.bins}

    def streaming(self, name: str | None = None) -> keras.metrics.Metric:
        return _StreamingAUC(self, name or self.label)

    def exact(self, labels: Array, scores: Array, weights: Array | None = None) -> float:
        """The AUC from exact ranks, on numpy arrays.

        Args:
            labels: any shape; NaN and negative values are missing.
            scores: the same shape as ``labels``.
            weights: importance of the items, the same shape, or None. A pair weighs the product of its two weights.

        Returns:
            The AUC; NaN if there are no positives or no negatives.
        """
        weights = np.ones_like(labels, float) if weights is None else weights
        labels, scores, weights = (np.ravel(np.asarray(x, float)) for x in (labels, scores, weights))
        there = labels >= 0
        positive, weights = labels[there] > self.above, weights[there]
        values, where = np.unique(scores[there], return_inverse=True)
        won, lost = (np.bincount(where, weights * side, len(values)) for side in (positive, ~positive))
        pairs = won.sum() * lost.sum()
        return float(won @ (np.cumsum(lost) - lost / 2) / pairs) if pairs else float("nan")


class _StreamingAUC(keras.metrics.AUC):
    """Keras's AUC on scores squashed to (0, 1).

    AUC depends only on the order of the scores. Keras uses bins of equal width. A sigmoid would put the small
    probabilities of rare clicks into a few bins; ``s / (1 + |s|)`` keeps these scores apart.
    """

    def __init__(self, metric: AUC, name: str):
        super().__init__(num_thresholds=metric.bins, name=name)
        self.metric = metric

    def update_state(self, labels: Labels, scores: Scores, valid: Mask, weights: Weights | None = None) -> None:
        """Adds a batch; weights are ``[B]`` (per list) or ``[B, L]`` (per item)."""
        labels, scores = tf.cast(labels, tf.float32), tf.cast(scores, tf.float32)
        known = ranking.known(labels, tf.cast(valid, tf.bool))
        weight = tf.cast(known, tf.float32)
        if weights is not None:
            weights = tf.cast(weights, tf.float32)
            weight *= tf.where(known, weights[:, None] if weights.shape.rank == 1 else weights, 0.0)
        positive = tf.cast(known & (labels > self.metric.above), tf.float32)
        squashed = 0.5 + 0.5 * tf.math.softsign(tf.where(known, scores, 0.0))
        super().update_state(tf.reshape(positive, [-1]), tf.reshape(squashed, [-1]), tf.reshape(weight, [-1]))

    def result(self) -> Tensor:
        """The AUC so far, NaN without a positive or without a negative item."""
        # The first threshold is below every score, so all items are predicted positive there.
        positives, negatives = self.true_positives[0], self.false_positives[0]
        return tf.where((positives > 0) & (negatives > 0), super().result(), np.nan)
