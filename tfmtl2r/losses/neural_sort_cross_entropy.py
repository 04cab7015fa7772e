"""Cross-entropy between the soft permutation matrices of the labels and of the scores."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfmtl2r._backend import tf
from tfmtl2r.losses import _pairs
from tfmtl2r.losses._neural_sort import distances_to_all
from tfmtl2r.losses.base import Loss, list_weight, positive
from tfmtl2r.registry import Card
from tfmtl2r.types import Features, Labels, Mask, PerList, Scores, Seed, Tensor, Weights

CARD = Card(
    title="NeuralSort cross-entropy",
    paper="Grover et al., Stochastic Optimization of Sorting Networks via Continuous Relaxations, ICLR 2019, "
    "https://arxiv.org/abs/1903.08850",
    aliases=("neural_sort_cross_entropy_loss",),
    note="needs spread scores, since the loss is flat where scores are close",
)
__all__ = ["NeuralSortCrossEntropy"]


@dataclasses.dataclass(frozen=True)
class NeuralSortCrossEntropy(Loss):
    """Mean over ranks of the cross-entropy between NeuralSort's matrices of the labels and of the scores.

    ``P(s)[r, i] = softmax_i((n + 1 - 2 r) s_i - sum_j |s_i - s_j|)`` for n labelled items, and ``loss[b] =
    - 1/n sum_{r, i} P(y)[r, i] log P(s / t)[r, i]``.

    Args:
        temperature: t.

    Raises:
        ValueError: for a temperature that is not above 0.

    >>> loss, weight = NeuralSortCrossEntropy().per_list([[9.0, 0.0]], [[0.0, 0.0]], [[True, True]])
    >>> round(float(loss[0]), 4)  # log 2
    0.6931

    Source: see ``CARD``. TF-Ranking's version adds 1e-20 to the probabilities, which stops the gradient of
    wrong orders.
    """

    longest: ClassVar[int] = _pairs.LONGEST
    numbers_per_pair = 5
    temperature: float = 1.0

    def __post_init__(self) -> None:
        positive(self, "temperature")

    def pairs_at_once(self, lists: int, length: int) -> int:
        return _pairs.most_by_lists(lists, length)

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        items = {"labels": labels, "known": known}
        found = _pairs.by_lists(type(self).__name__, scores / self.temperature, items, _over_ranks, self.longest)
        return found * list_weight(labels, weights)


def _over_ranks(scores: Scores, items: Features) -> PerList:
    labels, known = items["labels"], items["known"]
    target = tf.nn.softmax(_logits(labels, known))
    reached = tf.nn.log_softmax(_logits(scores, known))
    size = tf.reduce_sum(tf.cast(known, tf.float32), axis=1)
    there = known[:, None, :] & (_ranks(known) <= size[:, None, None])
    losses = tf.where(there, target * reached, 0.0)
    return tf.math.divide_no_nan(-tf.reduce_sum(losses, axis=[1, 2]), size)


def _logits(values: Tensor, known: Mask) -> Tensor:
    """The logits of NeuralSort's matrix, ``float32[B, L, L]``: rank, item."""
    apart = distances_to_all(values, known)
    size = tf.reduce_sum(tf.cast(known, tf.float32), axis=1)[:, None, None]
    logits = (size + 1.0 - 2.0 * _ranks(known)) * values[:, None, :] - apart[:, None, :]
    return tf.where(known[:, None, :], logits, tf.float32.min)


def _ranks(known: Mask) -> Tensor:
    """The ranks 1 to L as rows of a matrix, ``float32[1, L, 1]``."""
    return tf.cast(tf.range(1, tf.shape(known)[1] + 1), tf.float32)[None, :, None]
