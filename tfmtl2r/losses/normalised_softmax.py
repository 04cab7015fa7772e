"""Softmax cross-entropy of clicks, divided by the sum of their inverse propensities."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.losses.base import Loss
from tfmtl2r.registry import Card
from tfmtl2r.types import Labels, Mask, PerList, Scores, Seed, Weights

CARD = Card(
    title="Self-normalised IPS softmax",
    paper="Ai et al., Unbiased Learning to Rank with Unbiased Propensity Estimation, SIGIR 2018, "
    "https://arxiv.org/abs/1804.05938; Swaminathan and Joachims, The Self-Normalized Estimator for Counterfactual "
    "Learning, NIPS 2015",
    aliases=("snips_softmax", "ips_softmax"),
    note="for clicks with a propensity_column: large inverse propensities raise the variance less than in softmax",
)
__all__ = ["NormalisedSoftmax"]


@dataclasses.dataclass(frozen=True)
class NormalisedSoftmax(Loss):
    """``-sum w_i y_i log p_i / sum w_i y_i``, where p is the softmax of a list and w are its inverse propensities.

    Both sums are over all lists of a batch: a list counts with its own ``sum w_i y_i``. If every list counted equally,
    the weight of the list as a whole would be lost.

    >>> loss, mass = NormalisedSoftmax().per_list([[1.0, 1.0]], [[0.0, 0.0]], [[True, True]],
    ...                                           propensity_weights=[[2.0, 4.0]])
    >>> round(float(loss[0]), 4), float(mass[0])  # log 2, which counts 6 times
    (0.6931, 6.0)

    Source: see ``CARD``.

    Differs from ULTRA's code: nothing is added to the labels.
    """

    def is_normalised(self) -> bool:
        """The sum of the weights of clicks."""
        return True

    def mass(self, labels: Labels, weights: Weights | None) -> PerList:
        """The sum of the weights of clicks."""
        return tf.reduce_sum(labels if weights is None else labels * weights, axis=1)

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        logs = tf.nn.log_softmax(tf.where(known, scores, tf.float32.min))
        worth = labels if weights is None else labels * weights
        total = -tf.reduce_sum(tf.where(known, worth * logs, 0.0), axis=1)
        return tf.math.divide_no_nan(total, tf.reduce_sum(worth, axis=1))
