"""Isotonic regression of the label on the score, by pooling adjacent violators."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.calibrators.base import Calibrator, chances
from tfmtl2r.errors import InputError
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor

CARD = Card(
    title="Isotonic regression",
    paper="Zadrozny and Elkan, Transforming classifier scores into accurate multiclass probability estimates, "
    "KDD 2002, https://doi.org/10.1145/775047.775151",
    aliases=("pava",),
    note="any rising curve; needs thousands of labels; ties of the probability keep the order of the score",
)
__all__ = ["Isotonic"]


@dataclasses.dataclass(frozen=True)
class Isotonic(Calibrator):
    """The rising step function with the least squared error, as a table: linear between points, constant outside.

    Equal scores are one point with their mean label. The table keeps the first and the last score of each level. Levels
    are clipped to ``[1 / (n0 + 2), (n1 + 1) / (n1 + 2)]``, where n1 and n0 are the weights of positives and negatives,
    since a probability of 0 or 1 would have an infinite log loss. Scores of one level have equal probabilities: rank by
    the score.

    Args:
        points: the largest number of points of the table. A longer table keeps points at equal distances in it, the
            first and the last among them.

    Raises:
        ValueError: for fewer than 2 points.

    >>> table = Isotonic(points=4).fit([1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 0.0, 1.0])
    >>> table.round(3).tolist()  # the levels 0, 1/2 and 1, clipped
    [[1.0, 2.0, 3.0, 4.0], [0.25, 0.5, 0.5, 0.75]]

    Source: see ``CARD``.
    """

    points: int = 1024

    def __post_init__(self) -> None:
        if self.points < 2:
            raise InputError(f"Isotonic: points must be 2 or more, not {self.points!r}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Scores in ascending order, and their probabilities; the last point fills the rest of the table."""
        return (2, self.points)

    def solve(self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
        negatives, positives = chances(labels, weights)
        table = np.stack(pooled(scores, labels, weights))
        table[1] = np.clip(table[1], 1 / (negatives + 2), (positives + 1) / (positives + 2))
        last = table.shape[1] - 1
        if last >= self.points:
            return table[:, np.round(np.linspace(0, last, self.points)).astype(int)]
        return table[:, np.minimum(np.arange(self.points), last)]

    def apply(self, scores: Any, fitted: Any, columns: Any = None) -> Tensor:
        return self.apply_rows(scores, fitted[None], tf.zeros_like(scores, tf.int32))

    def apply_rows(self, scores: Any, fitted: Any, rows: Any) -> Tensor:
        known, values = (tf.reshape(fitted[:, side], [-1]) for side in (0, 1))  # all tables, one after the other
        first = rows * self.points
        place = tf.zeros_like(scores, tf.int32)  # of the last point that is not above the score
        for step in (1 << power for power in reversed(range((self.points - 1).bit_length()))):
            ahead = place + step
            reached = tf.gather(known, first + tf.minimum(ahead, self.points - 1)) <= scores
            place = tf.where(reached & (ahead < self.points), ahead, place)
        after = first + tf.minimum(place + 1, self.points - 1)
        place = first + place
        low, high = tf.gather(known, place), tf.gather(known, after)
        share = tf.clip_by_value(tf.math.divide_no_nan(scores - low, high - low), 0.0, 1.0)
        return tf.gather(values, place) * (1 - share) + tf.gather(values, after) * share


def pooled(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The table of the isotonic regression: the first and the last score of each level, and the levels.

    >>> scores, levels = pooled(np.arange(1.0, 7.0), np.array([0.0, 1, 0, 1, 0, 1]), np.ones(6))
    >>> scores.tolist(), levels.tolist()
    ([1.0, 2.0, 5.0, 6.0], [0.0, 0.5, 0.5, 1.0])
    """
    known, place = np.unique(scores, return_inverse=True)
    masses = np.bincount(place, weights)
    means = np.bincount(place, weights * labels) / masses
    levels: list[tuple[float, float, int]] = []  # the mean, the weight and the first point of each level
    for number, (mean, mass) in enumerate(zip(means.tolist(), masses.tolist(), strict=True)):
        first = number
        while levels and levels[-1][0] >= mean:
            before, more, first = levels.pop()
            mean, mass = (before * more + mean * mass) / (more + mass), more + mass
        levels.append((mean, mass, first))
    firsts = np.array([first for *_, first in levels])
    lasts = np.append(firsts[1:], len(known)) - 1
    places = np.unique(np.concatenate([firsts, lasts]))
    found = np.array([mean for mean, *_ in levels])
    return known[places], found[np.searchsorted(firsts, places, side="right") - 1]
