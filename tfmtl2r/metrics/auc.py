"""Area under the ROC curve, over all items at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from tfmtl2r import ranking
from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import InputError
from tfmtl2r.metrics._points import distinct, summarised
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

    ``exact`` compares all items. ``streaming`` keeps ``bins`` points, each of which stands for items with neighbouring
    ranks and about the same total weight. It is exact up to ``bins`` different scores. Beyond that, items of the same
    point count as ties, which changes the value by about ``1 / bins`` at most. Level and scale of the scores do not
    matter.

    Args:
        above: an item is positive if its label is above this number.
        bins: number of points of the streaming form.

    Raises:
        ValueError: for fewer than 2 bins.

    >>> AUC().exact([1.0, 0.0, 0.0], [0.3, 0.3, 0.1])
    0.75

    Source: see ``CARD``.
    """

    per_list_mean = False
    above: float = 0.0
    bins: int = 2_000

    def __post_init__(self) -> None:
        if self.bins < 2:
            raise InputError(f"auc: bins must be 2 or more, not {self.bins!r}")

    def conventions(self) -> dict[str, Any]:
        return {"above": self.above, "over": "all items", "ties": "half", "bins": self.bins}

    def trivial(self) -> float:
        return 0.5

    def perfect(self) -> float:
        return 1.0

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


class _StreamingAUC(keras.metrics.Metric):
    """A summary of the scores seen so far: the score, and the weights of positives and negatives, of each point."""

    def __init__(self, metric: AUC, name: str):
        super().__init__(name=name)
        self.metric = metric
        self.points = self.add_weight(name="points", shape=(metric.bins, 3), initializer="zeros", dtype="float64")

    def update_state(self, labels: Labels, scores: Scores, valid: Mask, weights: Weights | None = None) -> None:
        """Adds a batch; weights are ``[B]`` (per list) or ``[B, L]`` (per item)."""
        labels, scores = tf.cast(labels, tf.float32), tf.cast(scores, tf.float32)
        known = ranking.known(labels, tf.cast(valid, tf.bool))
        weight = tf.cast(known, tf.float32)
        if weights is not None:
            weights = tf.cast(weights, tf.float32)
            weight *= tf.where(known, weights[:, None] if weights.shape.rank == 1 else weights, 0.0)
        positive = labels > self.metric.above
        scores = tf.where(known & ~tf.math.is_nan(scores), scores, tf.float32.min)
        scores = tf.clip_by_value(scores, tf.float32.min, tf.float32.max)
        parts = scores, tf.where(positive, weight, 0.0), tf.where(positive, 0.0, weight)
        new = tf.stack([tf.cast(tf.reshape(part, [-1]), tf.float64) for part in parts], axis=1)
        self.points.assign(self.summary(tf.concat([self.points, new], axis=0)))

    def summary(self, points: Tensor) -> Tensor:
        """Many points as those that the metric keeps, for example the points of all replicas."""
        return summarised(points, self.metric.bins, _weigh)

    def result(self) -> Tensor:
        """The AUC so far, NaN without a positive or without a negative item."""
        return _area(tf.convert_to_tensor(self.points))

    def merged(self, gather: Callable[[Tensor], Tensor]) -> Tensor:
        """The AUC of all replicas; ``gather`` concatenates their tensors along the first axis."""
        return _area(gather(tf.convert_to_tensor(self.points)))


def _weigh(columns: Tensor) -> Tensor:
    """Positives and negatives together."""
    return tf.reduce_sum(columns, axis=1)


def _area(points: Tensor) -> Tensor:
    """The share of pairs, by weight, in which the positive has the higher score."""
    _, positives, negatives = tf.unstack(distinct(points, _weigh), axis=1)
    won = tf.reduce_sum(positives * (tf.cumsum(negatives) - negatives / 2.0))
    return tf.cast(won / (tf.reduce_sum(positives) * tf.reduce_sum(negatives)), tf.float32)  # 0 / 0 is NaN
