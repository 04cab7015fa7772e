"""Distillation of a teacher's order: likelihood of orders sampled from the teacher's scores."""

from __future__ import annotations

import dataclasses

from tfmtl2r import ranking
from tfmtl2r._backend import tf
from tfmtl2r.losses._plackett_luce import negative_log_likelihood
from tfmtl2r.losses.base import Loss, has_order, positive
from tfmtl2r.registry import Card
from tfmtl2r.types import Labels, Mask, PerList, Scores, Seed, Weights

CARD = Card(
    title="Coupled RankDistil",
    paper="Reddi et al., RankDistil: Knowledge Distillation for Ranking, AISTATS 2021, "
    "https://proceedings.mlr.press/v130/reddi21a.html",
    aliases=("coupled_rankdistil_loss",),
    note="the labels are the scores of a teacher, of any sign; use a task of kind 'regression'",
)
__all__ = ["CoupledRankDistil"]


@dataclasses.dataclass(frozen=True)
class CoupledRankDistil(Loss):
    """The negative log probability of the first k picks, over S orders from the teacher's Plackett-Luce model.

    ``loss[b] = mean over orders pi ~ PL(y) of sum_{i <= k} (log(sum_{j >= i} exp(s_pi(j) / t)) - s_pi(i) / t)``. A list
    counts if its labels differ. The weight of the picked item multiplies a pick.

    Args:
        sample_size: S.
        top_k: k; None for whole orders.
        temperature: t, which divides the student's scores.

    Raises:
        ValueError: for a number that is not above 0.

    >>> loss, weight = CoupledRankDistil(top_k=1).per_list([[30.0, 0.0]], [[0.0, 0.0]], [[True, True]])
    >>> round(float(loss[0]), 4)  # log 2
    0.6931

    Source: see ``CARD``. This is not TF-Ranking's version, which draws from a fixed global seed, includes padding in
    the orders and drops negative teacher scores.
    """

    needs_seed = True
    relevance = False
    sample_size: int = 8
    top_k: int | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        positive(self, "sample_size", "top_k", "temperature")

    def counts(self, labels: Labels, known: Mask) -> PerList:
        return has_order(labels, known)

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        size = tf.shape(scores)
        shape = [self.sample_size * size[0], size[1]]
        drawn = tf.reshape(labels[None] + ranking.gumbel(size[0], size[1], seed, self.sample_size), shape)
        present = tf.tile(known, [self.sample_size, 1])
        student = tf.tile(scores / self.temperature, [self.sample_size, 1])
        place = ranking.ranks(drawn, present, seed)
        terms = negative_log_likelihood(student, place, present)
        if weights is not None:
            terms *= tf.gather(tf.tile(weights, [self.sample_size, 1]), tf.argsort(place), batch_dims=1)
        if self.top_k is not None:
            terms = tf.where(tf.range(size[1]) < self.top_k, terms, 0.0)
        return tf.reduce_mean(tf.reshape(tf.reduce_sum(terms, axis=1), [self.sample_size, size[0]]), axis=0)
