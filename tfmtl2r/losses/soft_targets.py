"""Divergence between the list softmax of a teacher's scores and that of the scores."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.losses.base import Loss, has_order, positive
from tfmtl2r.registry import Card
from tfmtl2r.types import Labels, Mask, PerList, Scores, Seed, Tensor, Weights

CARD = Card(
    title="Softened list softmax",
    paper="Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015, "
    "https://arxiv.org/abs/1503.02531",
    note="the labels are scores of a teacher, of any sign; the top of a list counts most; 0 where both agree",
)
__all__ = ["SoftTargets"]


@dataclasses.dataclass(frozen=True)
class SoftTargets(Loss):
    """Kullback-Leibler divergence of list softmaxes, with ``q(z) = softmax(z / t)`` over the labelled items.

    ``soften = "teacher"``: ``sum_i q(y)_i (log q(y)_i - log softmax(s)_i)``, whose minimum is ``s = y / t + constant``.
    ``soften = "both"``: ``t^2 sum_i q(y)_i (log q(y)_i - log q(s)_i)``, whose minimum is ``s = y + constant``. Its
    gradient does not shrink with t. A list counts if its labels differ. Item weights multiply the terms
    ``q log(q / p) - q + p``, which are at least 0, and whose sum is the divergence.

    Args:
        temperature: t.
        soften: ``"teacher"`` or ``"both"``.

    Raises:
        ValueError: for a temperature that is not above 0, or another way to soften.

    >>> loss, weight = SoftTargets().per_list([[2.0, 0.0, -1.0]], [[1.0, 0.5, -0.5]], [[True] * 3])
    >>> round(float(loss[0]), 6)
    0.199977

    Source: see ``CARD``, section 2, whose form is ``"both"``.
    """

    relevance = False
    temperature: float = 1.0
    soften: Literal["teacher", "both"] = "teacher"

    def __post_init__(self) -> None:
        positive(self, "temperature")
        if self.soften not in ("teacher", "both"):
            raise InputError(f"SoftTargets: soften must be 'teacher' or 'both', not {self.soften!r}")

    def counts(self, labels: Labels, known: Mask) -> PerList:
        return has_order(labels, known)

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        both = self.soften == "both"
        target = _log_softmax(labels / self.temperature, known)
        found = _log_softmax(scores / self.temperature if both else scores, known)
        terms = tf.exp(target) * (target - found) - tf.exp(target) + tf.exp(found)
        terms = tf.where(known, terms if weights is None else weights * terms, 0.0)
        return tf.reduce_sum(terms, axis=1) * (self.temperature**2 if both else 1.0)


def _log_softmax(values: Tensor, known: Mask) -> Tensor:
    """Logarithms of the softmax over the known items; 0 for all others."""
    low = tf.where(known, values, -np.inf)
    top = tf.stop_gradient(tf.reduce_max(tf.where(known, values, tf.float32.min), axis=1, keepdims=True))
    shifted = tf.where(known, values - top, 0.0)
    total = tf.reduce_sum(tf.where(tf.math.is_finite(low), tf.exp(shifted), 0.0), axis=1, keepdims=True)
    return tf.where(known, shifted - tf.math.log(tf.maximum(total, 1e-30)), 0.0)
