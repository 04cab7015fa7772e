"""The bridge to TF-Ranking's losses.

TF-Ranking's ``compute_per_list`` returns a normalised value and a weight per list. This weight is the number of pairs
(times their lambda weights), the number of items, or the sum of the labels. Here, every list that counts has weight 1:

- a pairwise loss is the mean over the ordered pairs of a list, weighted by lambda weights if there are any;
- a listwise loss is the value of the list; softmax normalises the labels of a list to sum 1;
- item weights multiply the terms: the value times TF-Ranking's list weight with item weights over the one without them.

Before TF-Ranking is called, items without a label get label 0 and score 0 and are masked. Scores are divided by the
temperature, and the highest score of the list is subtracted. Ranks for lambda weights break ties by a seed, since
TF-Ranking would break ties differently on every call.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from tfmtl2r import _keras2, ranking
from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.losses.base import Loss, from_top, has_order, positive
from tfmtl2r.types import Labels, Mask, PerList, Scores, Seed, Tensor, Weights

PAIR_WEIGHTS = ("dcg", "dcg_v2", "label_diff", "precision")


@dataclasses.dataclass(frozen=True)
class Bridged(Loss):
    """A loss of TF-Ranking.

    Class attributes:
        impl: name of the class in ``losses_impl``.
        offset: added to the value; 1 where TF-Ranking's loss is a negative metric, so that the loss is >= 0.
    """

    impl: ClassVar[str] = ""
    offset: ClassVar[float] = 0.0

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        scores = from_top(scores / getattr(self, "temperature", 1.0), known)
        return self.bridge(labels, scores, known, weights, seed)

    def bridge(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        """The loss ``float32[B]`` of scores that are prepared for TF-Ranking."""
        built = getattr(_keras2.losses_impl(), self.impl)(name=None, **self.arguments(scores, known, seed))
        loss, mass = built.compute_per_list(labels, scores, weights, known)
        loss += self.offset
        if weights is None:
            return loss
        _, plain = built.compute_per_list(labels, scores, None, known)
        return loss * tf.math.divide_no_nan(mass, plain)

    def arguments(self, scores: Scores, known: Mask, seed: Seed) -> dict[str, Any]:
        """Constructor arguments of the TF-Ranking class, except its name. The temperature is already applied."""
        return {}

    def __post_init__(self) -> None:
        if hasattr(self, "temperature"):
            positive(self, "temperature")


@dataclasses.dataclass(frozen=True)
class Pairwise(Bridged):
    """A pairwise loss of TF-Ranking: the mean over pairs with ``y_i > y_j``, weighted by lambda weights.

    Args:
        temperature: scores are divided by it.
        lambda_weight: weight of a pair: ``"dcg"`` (LambdaLoss, gain ``2^y - 1``, discount ``1 / log2(1 + rank)``),
            ``"dcg_v2"`` (the same, but well defined with a cutoff), ``"label_diff"``, ``"precision"`` (1 if the cutoff
            separates the pair), or None for equal weights.
        lambda_top_n: the cutoff of ``dcg``, ``dcg_v2`` and ``precision``; ``precision`` requires a cutoff.

    Raises:
        ValueError: for an unknown lambda weight, a cutoff that is unused or missing, or a number that is not above 0.
    """

    temperature: float = 1.0
    lambda_weight: str | None = None
    lambda_top_n: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "lambda_top_n")
        name = type(self).__name__
        if self.lambda_weight not in (None, *PAIR_WEIGHTS):
            known = ", ".join(PAIR_WEIGHTS)
            raise InputError(f"{name}: lambda_weight must be one of {known} or None, not {self.lambda_weight!r}")
        if self.lambda_weight == "precision" and self.lambda_top_n is None:
            raise InputError(f"{name}: lambda_weight 'precision' needs lambda_top_n, the cutoff")
        if self.lambda_top_n is not None and self.lambda_weight in (None, "label_diff"):
            raise InputError(f"{name}: lambda_top_n has no effect with lambda_weight {self.lambda_weight!r}")

    def counts(self, labels: Labels, known: Mask) -> PerList:
        return has_order(labels, known)

    def arguments(self, scores: Scores, known: Mask, seed: Seed) -> dict[str, Any]:
        if self.lambda_weight is None:
            return {}
        inner = lambda_weights(self.lambda_weight, self.lambda_top_n)
        return {"lambda_weight": WithRanks(inner, ranking.ranks(scores, known, seed))}


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

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        size = tf.shape(scores)
        noisy = scores[None] + ranking.gumbel(size[0], size[1], seed, self.sample_size)
        noisy /= self.gumbel_temperature * self.temperature

        def copies(x: Tensor) -> Tensor:
            return tf.tile(x, [self.sample_size, 1])

        known = copies(known)
        noisy = from_top(tf.reshape(noisy, [self.sample_size * size[0], size[1]]), known)
        each = self.bridge(copies(labels), noisy, known, None if weights is None else copies(weights), seed)
        return tf.reduce_mean(tf.reshape(each, [self.sample_size, size[0]]), axis=0)


class WithRanks:
    """Lambda weights at given ranks; TF-Ranking's own ranks break ties differently on every call."""

    def __init__(self, inner: Any, ranks: Tensor):
        self.inner = inner
        self.ranks = ranks

    def pair_weights(self, labels: Labels, ranks: Tensor) -> Tensor:
        """``float32[B, L, L]``; TF-Ranking's own ``ranks`` are not used."""
        return self.inner.pair_weights(labels, self.ranks)


def lambda_weights(name: str, top_n: int | None = None) -> Any:
    """TF-Ranking's lambda weights by name.

    Args:
        name: ``"dcg"``, ``"dcg_v2"``, ``"yeti"``, ``"label_diff"`` or ``"precision"``.
        top_n: the cutoff, for lambda weights that have one.
    """
    impl = _keras2.losses_impl()
    if name == "label_diff":
        return impl.LabelDiffLambdaWeight()
    if name == "precision":
        return impl.PrecisionLambdaWeight(top_n, positive_fn=lambda labels: labels > 0)
    classes = {"dcg": "DCGLambdaWeight", "dcg_v2": "DCGLambdaWeightV2", "yeti": "YetiDCGLambdaWeight"}
    return getattr(impl, classes[name])(topn=top_n, gain_fn=ranking.gains, rank_discount_fn=ranking.discounts)


def dcg_labels(labels: Labels, scores: Scores, known: Mask, seed: Seed) -> Tensor:
    """Gain times discount at the current rank: the target of a softmax with the lambda weight ``"dcg"``."""
    worth = lambda_weights("dcg").individual_weights(labels, ranking.ranks(scores, known, seed))
    return tf.where(known, worth, 0.0)
