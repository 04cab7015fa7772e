"""Expected calibration error of probabilities, over all items at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np

from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import InputError
from tfmtl2r.metrics._points import distinct, summarised
from tfmtl2r.metrics._probabilities import items
from tfmtl2r.metrics.base import Metric
from tfmtl2r.registry import Card
from tfmtl2r.types import Array, Labels, Mask, Scores, Tensor, Weights

CARD = Card(
    title="Expected calibration error",
    paper="Guo et al., On calibration of modern neural networks, ICML 2017, https://arxiv.org/abs/1706.04599",
    aliases=("expected_calibration_error", "calibration_error"),
    note="reads probabilities; never 0 in practice: compare it with the value of a perfectly calibrated model",
)
__all__ = ["ECE"]
_KEPT = 1


@dataclasses.dataclass(frozen=True)
class ECE(Metric):
    """``sum_k (W_k / W) |mean_k p - mean_k y|`` over bins k of the predicted probability p, with weights W of bins.

    Bins of equal mass: items are sorted by p (stable), item i has the position ``(w_1 + ... + w_i - w_i / 2) / W`` and
    the bin ``floor(bins * position)``; items of equal p stay in the lowest of their bins. Empty bins vanish. Labels
    above 1 count as 1.

    ``exact`` compares all items. ``streaming`` is exact up to ``points`` different probabilities. Beyond that, a point
    stands for neighbouring probabilities, and only the edges of the bins move, by about ``1 / points`` of the items.
    Bins of equal width are always exact.

    A perfectly calibrated model shows an error above 0, too, since the labels of a bin are random:
    :meth:`if_calibrated`.

    Args:
        bins: number of bins.
        by: ``"mass"`` for bins with about the same weight, ``"width"`` for bins of the same width.
        norm: ``"l1"`` for the mean error, ``"l2"`` for the root of the mean square, ``"max"`` for the largest.
        closed: the side on which bins of equal width contain their edge: ``"right"`` for ``(k/n, (k+1)/n]``, with 0 in
            the first bin (Guo et al.), or ``"left"`` for ``[k/n, (k+1)/n)``, with 1 in the last (histograms).
        points: number of points of the streaming form.

    Raises:
        ValueError: for fewer than 1 bin, fewer points than bins, or an unknown choice.

    >>> ece = ECE(bins=2)
    >>> round(ece.exact([1.0, 0.0, 1.0, 0.0], [0.9, 0.2, 0.6, 0.1]), 4)  # (|.15 - 0| + |.75 - 1|) / 2
    0.2

    Source: see ``CARD``.
    """

    direction = "min"
    per_list_mean = False
    reads: ClassVar[Literal["score", "value", "level", "probability"]] = "probability"
    bins: int = 10
    by: str = "mass"
    norm: str = "l1"
    closed: str = "right"
    points: int = 2_000

    def __post_init__(self) -> None:
        for option, known in (("by", ("mass", "width")), ("norm", ("l1", "l2", "max")), ("closed", ("right", "left"))):
            if getattr(self, option) not in known:
                raise InputError(f"{self.name}: {option} must be one of {', '.join(known)}, not "
                                 f"{getattr(self, option)!r}")
        if self.bins < 1:
            raise InputError(f"{self.name}: bins must be 1 or more, not {self.bins!r}")
        if self.points < self.bins:
            raise InputError(f"{self.name}: points must be {self.bins} (the number of bins) or more, not "
                             f"{self.points!r}")

    def conventions(self) -> dict[str, Any]:
        found = {"bins": self.bins, "by": self.by, "norm": self.norm, "over": "all items", "points": self.points}
        return found if self.by == "mass" else {**found, "closed": self.closed}

    def trivial(self) -> float:
        """The base rate for all items has no error, like a perfect model: the metric has no gain for ``stop_on``."""
        return 0.0

    def perfect(self) -> float:
        return 0.0

    def if_calibrated(self) -> Metric | None:
        """The expected error of a perfectly calibrated model with the same probabilities and weights.

        ``sum_k (W_k / W) sqrt(2 v_k / pi)`` with the variance ``v_k = sum w^2 p (1 - p) / W_k^2`` of the mean label of
        bin k. None for the largest error, which has no such formula.
        """
        return None if self.norm == "max" else self.expected

    @property
    def expected(self) -> ECE:
        """The metric of :meth:`if_calibrated`."""
        return _Expected(**{f.name: getattr(self, f.name) for f in dataclasses.fields(self)})

    def streaming(self, name: str | None = None) -> keras.metrics.Metric:
        return _StreamingECE(self, name or self.label)

    def exact(self, labels: Array, scores: Array, weights: Array | None = None) -> float:
        """The error from all items, on numpy arrays.

        Args:
            labels: any shape; NaN and negative values are missing.
            scores: probabilities, the same shape as ``labels``.
            weights: importance of the items, the same shape, or None.

        Returns:
            The error; NaN without an item.
        """
        sums = self.of_bins(labels, scores, weights)
        return float(self.error(tf.constant(sums))) if sums.any() else float("nan")

    def of_bins(self, labels: Array, scores: Array, weights: Array | None = None) -> np.ndarray:
        """:meth:`sums` of all items, on the arrays of :meth:`exact`; 0 without an item."""
        known, *parts = items(labels, scores, None, weights)
        if not bool(tf.reduce_any(known)):
            return np.zeros((self.bins, 4))
        return np.asarray(self.sums(self.of_items(*(tf.boolean_mask(part, known) for part in parts))))

    def of_items(self, weights: Tensor, labels: Tensor, scores: Tensor) -> Tensor:
        """Every item as a point: key; sums of w, w y, w p and w^2 p (1 - p); and the weight of the first item.

        The key is the probability; for bins of equal width, it is the number of the bin.
        """
        key = scores if self.by == "mass" else self._bin(scores)
        labels, inside = tf.minimum(labels, 1.0), tf.clip_by_value(scores, 0.0, 1.0)
        return tf.stack([key, weights, weights * labels, weights * scores, weights**2 * inside * (1 - inside), weights],
                        axis=1)

    def _bin(self, scores: Tensor) -> Tensor:
        edges = tf.constant(np.arange(1, self.bins) / self.bins, tf.float64)
        side = "left" if self.closed == "right" else "right"
        return tf.cast(tf.searchsorted(edges, scores, side=side), tf.float64)

    def sums(self, points: Tensor) -> Tensor:
        """The sums of each bin, ``float64[bins, 4]``: w, w y, w p and w^2 p (1 - p)."""
        points = distinct(points, _weigh, _KEPT)
        key, weight, first = points[:, 0], points[:, 1], points[:, -1]
        if self.by == "mass":
            position = tf.math.divide_no_nan(tf.cumsum(weight, exclusive=True) + first / 2, tf.reduce_sum(weight))
            key = tf.floor(self.bins * position)
        place = tf.minimum(tf.cast(key, tf.int32), self.bins - 1)
        return tf.math.unsorted_segment_sum(points[:, 1:-1], place, self.bins)

    def error(self, sums: Tensor) -> Tensor:
        """The metric as a scalar from the sums of the bins; NaN without an item."""
        weight, labels, scores, _ = tf.unstack(sums, axis=1)
        return self._normed(tf.math.divide_no_nan(tf.abs(scores - labels), weight), weight)

    def _normed(self, errors: Tensor, weight: Tensor) -> Tensor:
        share = weight / tf.reduce_sum(weight)  # 0 / 0 is NaN
        if self.norm == "max":
            return tf.reduce_max(errors + 0 * share)
        return tf.reduce_sum(share * errors) if self.norm == "l1" else tf.sqrt(tf.reduce_sum(share * errors**2))


@dataclasses.dataclass(frozen=True)
class _Expected(ECE):
    """What a perfectly calibrated model shows."""

    def error(self, sums: Tensor) -> Tensor:
        weight, _, _, variance = tf.unstack(sums, axis=1)
        sd = tf.math.divide_no_nan(tf.sqrt(variance), weight)
        return self._normed(sd * np.sqrt(2 / np.pi) if self.norm == "l1" else sd, weight)


def _weigh(columns: Tensor) -> Tensor:
    return columns[:, 0]


class _StreamingECE(keras.metrics.Metric):
    """A summary of the items seen so far, as points of :meth:`ECE.of_items`."""

    def __init__(self, metric: ECE, name: str):
        super().__init__(name=name)
        self.metric = metric
        size = metric.points if metric.by == "mass" else metric.bins
        self.points = self.add_weight(name="points", shape=(size, 6), initializer="zeros", dtype="float64")

    def update_state(self, labels: Labels, scores: Scores, valid: Mask, weights: Weights | None = None) -> None:
        """Adds a batch; weights are ``[B]`` (per list) or ``[B, L]`` (per item)."""
        _, *parts = items(labels, scores, valid, weights)
        self.points.assign(self.summary(tf.concat([self.points, self.metric.of_items(*parts)], axis=0)))

    def summary(self, points: Tensor) -> Tensor:
        """Many points as those that the metric keeps, for example the points of all replicas."""
        return summarised(points, self.points.shape[0], _weigh, _KEPT)

    def result(self) -> Tensor:
        """The error so far, NaN without an item."""
        return self._error(tf.convert_to_tensor(self.points))

    def merged(self, gather: Callable[[Tensor], Tensor]) -> Tensor:
        """The error of all replicas; ``gather`` concatenates their tensors along the first axis."""
        return self._error(gather(tf.convert_to_tensor(self.points)))

    def _error(self, points: Tensor) -> Tensor:
        return tf.cast(self.metric.error(self.metric.sums(points)), tf.float32)
