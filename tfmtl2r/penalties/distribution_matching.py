"""Distribution matching: a task learns from a related task where its own label is missing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.penalties.base import Penalty
from tfmtl2r.registry import Card
from tfmtl2r.types import Mask, Tensor

CARD = Card(
    title="Distribution matching (our reading of the abstract)",
    paper="Kollias et al. 2024, https://arxiv.org/abs/2401.01219",
    note="For partly labelled data: couples two binary tasks by the rates of one among the labels of the other.",
)
__all__ = ["DistributionMatching"]


@dataclasses.dataclass(frozen=True)
class DistributionMatching(Penalty):
    """The cross-entropy of a task's probability to that which a related task implies, where the label is missing.

    With the rates ``r1 = P(target = 1 | source = 1)`` and ``r0 = P(target = 1 | source = 0)``, an item whose target is
    missing has the soft label ``q = r1 a + r0 (1 - a)``. Here ``a`` is the label of the source, or, where this is
    missing, too, ``sigmoid(score_source)`` without gradient. The term is the mean of
    ``-q log p - (1 - q) log(1 - p)`` with ``p = sigmoid(score_target)`` over these items. Its gradient with respect to
    ``score_target`` is ``p - q`` per item; the source has none. Items with a label of the target have no term.

    Labels that are missing for a reason that depends on the label itself bias the rates. If the target is observed
    wherever the source is 1, as for a like after a click, the architectures ``esmm`` and ``aitm`` fit better.

    Args:
        source: name of the related task.
        target: name of the task with missing labels.
        if_positive: r1; by default it is counted on the items of the training split that have both labels, with one
            more item on either side: ``(n11 + 1) / (n1 + 2)``.
        if_negative: r0; give both rates or none.

    Raises:
        ValueError: if source and target are one task, a rate is not in [0, 1], or only one of the two is given.

    Differs from the paper, of which only the abstract was read: the formulas are ours. They join its two terms, soft
    co-annotation (the label of the source) and distribution matching (its probability), of which an item has one.

    >>> penalty = DistributionMatching("click", "like", if_positive=0.2, if_negative=0.01)
    >>> scores = {"click": tf.zeros([1, 2]), "like": tf.zeros([1, 2])}
    >>> labels = {"click": tf.constant([[1.0, 0.0]]), "like": tf.constant([[float("nan"), 1.0]])}
    >>> total, count = penalty.compute(scores, labels, tf.constant([[True, True]]))
    >>> round(float(total), 4), float(count)  # log 2 on the one item whose like is missing
    (0.6931, 1.0)
    """

    source: str
    target: str
    if_positive: float | None = None
    if_negative: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        rates = {"if_positive": self.if_positive, "if_negative": self.if_negative}
        if self.source == self.target:
            raise InputError(f"DistributionMatching: source and target are both {self.source!r}; name two tasks")
        if (self.if_positive is None) != (self.if_negative is None):
            raise InputError("DistributionMatching: give both if_positive and if_negative, or none of them")
        for name, rate in rates.items():
            if rate is not None and not 0 <= rate <= 1:
                raise InputError(f"DistributionMatching: {name} is a probability from 0 to 1, not {rate!r}")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Source and target."""
        return (self.source, self.target)

    @property
    def probabilities(self) -> tuple[str, ...]:
        """Both tasks."""
        return self.tasks

    def fit(self, labels: Mapping[str, Any]) -> Self:
        """Counts the rates, unless they are given.

        Raises:
            ValueError: if no item has both labels.
        """
        if self.if_positive is not None:
            return self
        source, target = (np.asarray(labels[task], np.float64) for task in self.tasks)
        both = ~np.isnan(source) & ~np.isnan(target)
        if not both.any():
            raise InputError(f"distribution_matching: no item of the training split has both a label of {self.source!r}"
                             f" and one of {self.target!r}, so that the rates cannot be counted: give if_positive and "
                             "if_negative")
        given, found = source[both] > 0, target[both] > 0
        positive, negative = ((found[part].sum() + 1) / (part.sum() + 2) for part in (given, np.logical_not(given)))
        return dataclasses.replace(self, if_positive=float(positive), if_negative=float(negative))

    def check(self) -> None:
        if self.if_positive is None:
            raise InputError(f"distribution_matching of {self.source!r} and {self.target!r} has no rates: call "
                             "fit(labels) of the penalty first, or give if_positive and if_negative")

    def compute(
        self, scores: Mapping[str, Tensor], labels: Mapping[str, Tensor], valid: Mask
    ) -> tuple[Tensor, Tensor]:
        self.check()
        known, score = labels[self.source], scores[self.target]
        guess = tf.stop_gradient(tf.sigmoid(scores[self.source]))
        source = tf.where(tf.math.is_nan(known), guess, tf.clip_by_value(known, 0.0, 1.0))
        soft = self.if_positive * source + self.if_negative * (1.0 - source)
        missing = valid & tf.math.is_nan(labels[self.target])
        soft, score = (tf.where(missing, each, 0.0) for each in (soft, score))
        terms = tf.nn.sigmoid_cross_entropy_with_logits(labels=soft, logits=score)
        return tf.reduce_sum(tf.where(missing, terms, 0.0)), tf.reduce_sum(tf.cast(missing, tf.float32))
