"""Circle loss: a log-sum over ordered pairs whose weights grow with the distance from the optimum."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.losses import _pairs
from tfmtl2r.losses.base import Loss, has_order, list_weight, positive
from tfmtl2r.registry import Card
from tfmtl2r.types import Features, Labels, Mask, PerList, Scores, Seed, Weights

CARD = Card(
    title="Circle loss",
    paper="Sun et al., Circle Loss: A Unified Perspective of Pair Similarity Optimization, CVPR 2020, "
    "https://arxiv.org/abs/2002.10857",
    aliases=("circle_loss",),
    note="works on similarities in [0, 1]; scores pass through a sigmoid first",
)
__all__ = ["Circle"]
SIMILARITIES = ("sigmoid", "clip")


@dataclasses.dataclass(frozen=True)
class Circle(Loss):
    """``log(1 + sum over pairs)`` with self-paced weights on similarities ``c`` in [0, 1].

    ``loss[b] = log(1 + sum_{y_i > y_j} exp(gamma (a_j (c_j - m) - b_i (c_i - 1 + m))))`` with the weights
    ``a_j = max(0, c_j + m)`` and ``b_i = max(0, 1 + m - c_i)``, which have no gradient. A list counts if its labels
    differ.

    Args:
        gamma: scale.
        margin: m.
        similarity: conversion of scores to similarities: ``"sigmoid"``, or ``"clip"`` to [0, 1] for scores that are
            already similarities.

    Raises:
        ValueError: for an unknown similarity, or a gamma that is not above 0.

    >>> loss, weight = Circle(gamma=1.0).per_list([[1.0, 0.0]], [[0.0, 0.0]], [[True, True]])
    >>> round(float(loss[0]), 4)  # log(1 + exp(0.75 * 0.25 + 0.75 * 0.25))
    0.8981

    Source: see ``CARD``. This is not TF-Ranking's version, which clips scores, so that their gradient is 0 outside
    [0, 1], and overflows at its own default gamma.
    """

    longest: ClassVar[int] = _pairs.LONGEST
    numbers_per_pair = 3
    gamma: float = 64.0
    margin: float = 0.25
    similarity: str = "sigmoid"

    def __post_init__(self) -> None:
        positive(self, "gamma")
        if self.similarity not in SIMILARITIES:
            raise InputError(f"Circle: similarity must be one of {', '.join(SIMILARITIES)}, not {self.similarity!r}")

    def counts(self, labels: Labels, known: Mask) -> PerList:
        return has_order(labels, known)

    def pairs_at_once(self, lists: int, length: int) -> int:
        return _pairs.most_by_lists(lists, length)

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        items = {"labels": labels, "known": known}
        sums = _pairs.by_lists(type(self).__name__, scores, items, self._over_pairs, self.longest)
        return sums * list_weight(labels, weights)

    def _over_pairs(self, scores: Scores, items: Features) -> PerList:
        labels, known = items["labels"], items["known"]
        near = tf.sigmoid(scores) if self.similarity == "sigmoid" else tf.clip_by_value(scores, 0.0, 1.0)
        push = tf.stop_gradient(tf.nn.relu(near + self.margin)) * (near - self.margin)
        pull = tf.stop_gradient(tf.nn.relu(1.0 + self.margin - near)) * (near - 1.0 + self.margin)
        ordered = (labels[:, :, None] > labels[:, None, :]) & known[:, :, None] & known[:, None, :]
        terms = tf.where(ordered, self.gamma * (push[:, None, :] - pull[:, :, None]), -np.inf)
        size = tf.shape(scores)
        terms = tf.reshape(terms, [size[0], size[1] * size[1]])
        one = tf.zeros_like(terms[:, :1])
        return tf.reduce_logsumexp(tf.concat([one, terms], axis=1), axis=1)
