"""ListNet: cross-entropy between the top-one probabilities of labels and scores."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.losses._tf_ranking import Bridged
from tfmtl2r.registry import Card
from tfmtl2r.types import Labels, Mask, PerList, Scores, Seed, Weights

CARD = Card(
    title="ListNet",
    paper="Cao et al., Learning to Rank: From Pairwise Approach to Listwise Approach, ICML 2007, "
    "https://doi.org/10.1145/1273496.1273513",
    note="softmax with targets proportional to exp(label), so irrelevant items keep a share; for grades",
)
__all__ = ["ListNet"]


@dataclasses.dataclass(frozen=True)
class ListNet(Bridged):
    """Cross-entropy between the top-one probabilities of the labels and of the scores: each item's chance to be first.

    ``loss[b] = - sum_i (exp(y_i) / sum_j exp(y_j)) log(exp(s_i / t) / sum_j exp(s_j / t))``. A list counts if it has a
    relevant item.

    Args:
        temperature: t.

    Raises:
        ValueError: for a temperature that is not above 0.

    >>> loss, weight = ListNet().per_list([[3.0, 0.0, 1.0, 2.0]], [[0.0, 0.0, 0.0, 0.0]], [[True] * 4])
    >>> round(float(loss[0]), 4)  # log 4
    1.3863

    Source: see ``CARD``. The top-one probabilities are equation 4 of the paper with k = 1.
    """

    impl = "SoftmaxLoss"
    temperature: float = 1.0

    def bridge(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        target = tf.where(known, tf.nn.softmax(tf.where(known, labels, tf.float32.min)), 0.0)
        return super().bridge(target, scores, known, weights, seed)
