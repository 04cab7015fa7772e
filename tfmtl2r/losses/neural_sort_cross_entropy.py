"""Cross-entropy between the soft permutation matrices of the labels and of the scores."""

from __future__ import annotations

import dataclasses

from tfmtl2r.losses._tf_ranking import Bridged
from tfmtl2r.registry import Card

CARD = Card(
    title="NeuralSort cross-entropy",
    paper="Grover et al., Stochastic Optimization of Sorting Networks via Continuous Relaxations, ICLR 2019, "
    "https://arxiv.org/abs/1903.08850",
    aliases=("neural_sort_cross_entropy_loss",),
    note="[B, L, L] memory; needs spread scores, since the loss is flat where scores are close",
)
__all__ = ["NeuralSortCrossEntropy"]


@dataclasses.dataclass(frozen=True)
class NeuralSortCrossEntropy(Bridged):
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

    Source: see ``CARD``.
    """

    impl = "NeuralSortCrossEntropyLoss"
    temperature: float = 1.0
