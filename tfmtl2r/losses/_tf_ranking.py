"""The bridge to TF-Ranking's losses.

TF-Ranking's ``compute_per_list`` returns a normalised value and a weight per list. This weight is the number of pairs
or items, or the sum of the labels. Here, every list that counts has weight 1:

- a listwise loss is the value of the list; softmax normalises the labels of a list to sum 1;
- item weights multiply the terms: the value times TF-Ranking's list weight with item weights over the one without them.

Before TF-Ranking is called, items without a label get label 0 and score 0 and are masked. Scores are divided by the
temperature, and the highest score of the list is subtracted. A loss whose gradient TF-Ranking cuts off, at ties or at
extreme scores, is not bridged but written here.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from tfmtl2r import _keras2, ranking
from tfmtl2r._backend import tf
from tfmtl2r.losses import _pairs
from tfmtl2r.losses.base import Loss, from_top, positive
from tfmtl2r.types import Features, Labels, Mask, PerList, Scores, Seed, Tensor, Weights


@dataclasses.dataclass(frozen=True)
class Bridged(Loss):
    """A loss of TF-Ranking.

    Class attributes:
        impl: name of the class in ``losses_impl``.
        offset: added to the value; 1 where TF-Ranking's loss is a negative metric, so that the loss is >= 0.
        longest: given for a loss that makes matrices ``[B, L, L]``. They are made for some lists at a time.
    """

    impl: ClassVar[str] = ""
    offset: ClassVar[float] = 0.0

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        scores = from_top(scores / getattr(self, "temperature", 1.0), known)
        return self.bridged(labels, scores, known, weights, seed)

    def bridged(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        """The values of :meth:`bridge`, with a bounded number of pairs at a time."""
        if self.longest is None:
            return self.bridge(labels, scores, known, weights, seed)
        others = {"labels": labels, "known": known} | ({} if weights is None else {"weights": weights})

        def bridge(scores: Scores, others: Features) -> PerList:
            return self.bridge(others["labels"], scores, others["known"], others.get("weights"), seed)

        return _pairs.by_lists(type(self).__name__, scores, others, bridge, self.longest)

    def pairs_at_once(self, lists: int, length: int) -> int:
        return _pairs.most_by_lists(lists, length)

    def bridge(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        """The loss ``float32[B]`` of scores that are prepared for TF-Ranking."""
        built = getattr(_keras2.losses_impl(), self.impl)(name=None, **self.arguments())
        loss, mass = built.compute_per_list(labels, scores, weights, known)
        loss += self.offset
        if weights is None:
            return loss
        _, plain = built.compute_per_list(labels, scores, None, known)
        return loss * tf.math.divide_no_nan(mass, plain)

    def arguments(self) -> dict[str, Any]:
        """Constructor arguments of the TF-Ranking class, except its name. The temperature is already applied."""
        return {}

    def __post_init__(self) -> None:
        if hasattr(self, "temperature"):
            positive(self, "temperature")


@dataclasses.dataclass(frozen=True)
class Sampled(Bridged):
    """The mean of a loss of TF-Ranking over S copies of the scores with Gumbel noise.

    The copies are ``(s + noise) / gumbel_temperature / t``. :meth:`bridge` receives all copies as one batch.

    Args:
        temperature: t.
        sample_size: S.
        gumbel_temperature: divides the noisy scores.

    Raises:
        ValueError: for a number that is not above 0.
    """

    needs_seed = True
    temperature: float = 0.1
    sample_size: int = 8
    gumbel_temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "sample_size", "gumbel_temperature")

    def pairs_at_once(self, lists: int, length: int) -> int:
        return super().pairs_at_once(self.sample_size * lists, length)

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        size = tf.shape(scores)
        noisy = scores[None] + ranking.gumbel(size[0], size[1], seed, self.sample_size)
        noisy /= self.gumbel_temperature * self.temperature

        def copies(x: Tensor) -> Tensor:
            return tf.tile(x, [self.sample_size, 1])

        known = copies(known)
        noisy = from_top(tf.reshape(noisy, [self.sample_size * size[0], size[1]]), known)
        each = self.bridged(copies(labels), noisy, known, None if weights is None else copies(weights), seed)
        return tf.reduce_mean(tf.reshape(each, [self.sample_size, size[0]]), axis=0)
