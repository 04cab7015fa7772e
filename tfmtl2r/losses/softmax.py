"""Softmax cross-entropy over a list, with the labels normalised to sum 1 as the target."""

from __future__ import annotations

import dataclasses

from tfmtl2r import ranking
from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.losses._tf_ranking import Bridged
from tfmtl2r.registry import Card
from tfmtl2r.types import Labels, Mask, PerList, Scores, Seed, Weights

CARD = Card(
    title="Softmax cross-entropy",
    paper="Cao et al., Learning to Rank: From Pairwise Approach to Listwise Approach, ICML 2007, "
    "https://doi.org/10.1145/1273496.1273513",
    aliases=("softmax_loss", "binary_listnet"),
    helps=("rare_labels",),
    note="the default for lists, with gain='exp2' where they are graded; cheap for long lists; its heads blend well",
)
__all__ = ["Softmax"]


@dataclasses.dataclass(frozen=True)
class Softmax(Bridged):
    """Cross-entropy between the labels of a list, normalised to sum 1, and the softmax of its scores.

    ``loss[b] = - sum_i (g_i / sum_j g_j) log(exp(s_i / t) / sum_j exp(s_j / t))`` with ``g_i = y_i``. A list counts
    once, whatever its number of relevant items.

    Args:
        temperature: t.
        gain: ``"linear"`` for ``g_i = y_i``, or ``"exp2"`` for the gains of NDCG, ``g_i = 2^y_i - 1``: the softmax of
            the scores then estimates shares of gain, which a blend of the kind ``mixture`` adds up.
        lambda_weight: ``"dcg"`` replaces ``y_i`` by ``(2^y_i - 1) / log2(1 + rank_i)`` at the current rank.

    Raises:
        ValueError: for an unknown lambda weight or gain, a temperature that is not above 0, or the gain ``"exp2"``
            beside a lambda weight, which has it already.

    >>> loss, weight = Softmax().per_list([[1.0, 0.0]], [[0.0, 0.0]], [[True, True]])
    >>> round(float(loss[0]), 4)  # log 2
    0.6931

    Source: see ``CARD``; Bruch et al., An Analysis of the Softmax Cross Entropy Loss for Learning-to-Rank with Binary
    Relevance, ICTIR 2019, https://doi.org/10.1145/3341981.3344221
    """

    impl = "SoftmaxLoss"
    temperature: float = 1.0
    lambda_weight: str | None = None
    gain: str = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lambda_weight not in (None, "dcg"):
            raise InputError(f"Softmax: lambda_weight must be 'dcg' or None, not {self.lambda_weight!r}")
        if self.gain not in ranking.GAINS:
            raise InputError(f"Softmax: gain must be one of {', '.join(map(repr, ranking.GAINS))}, not {self.gain!r}")
        if self.gain == "exp2" and self.lambda_weight:
            raise InputError("Softmax: lambda_weight='dcg' has the gains 2^y - 1 already: leave gain out")

    def exponential_gain(self) -> bool:
        """Whether labels must be grades."""
        return self.gain == "exp2" or bool(self.lambda_weight)

    def bridge(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        if self.lambda_weight:
            rank = tf.cast(ranking.ranks(scores, known, seed), tf.float32)
            labels = tf.where(known, ranking.gains(labels) * ranking.discounts(rank), 0.0)
        elif self.gain == "exp2":
            labels = tf.where(known, ranking.gains(labels), 0.0)
        return super().bridge(labels, scores, known, weights, seed)
