"""Shared implementation of NeuralNDCG and its transposed form."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar

from tfmtl2r import ranking
from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.losses import _neural_sort, _pairs
from tfmtl2r.losses.base import Loss, list_weight, ndcg_gains, positive
from tfmtl2r.types import Labels, Mask, PerList, Scores, Seed, Tensor, Weights

CLOSE = 1e-6
LOG_OFFSET = 1e-10


@dataclasses.dataclass(frozen=True)
class NeuralSorted(Loss):
    """``1 - NDCG@k`` with a doubly stochastic soft permutation of the scores.

    With ``samples``, the loss is the mean over S copies of the scores with Gumbel noise, ``s + beta g``. The order of a
    copy is a draw from the Plackett-Luce model of ``s / beta``. Copies are processed in groups with a bounded number of
    pairs, and the gradient is summed together with the value. Only the noise itself, ``[S, B, L]``, makes memory grow
    with S.

    Args:
        temperature: temperature of NeuralSort; divides the scores, including their noise.
        k: the cutoff; None for whole lists.
        gain: ``"exp2"`` for ``2^y - 1``, or ``"linear"``.
        iterations: maximum number of iterations of Sinkhorn's scaling, which stops when all sums are within 1e-6 of 1.
        samples: S; 0 for scores without noise.
        beta: scale of the noise.
        log_scores: add the noise to ``log(s - min s + 1e-10)``, as the authors' code does, instead of to the scores.
            The gradient of this logarithm is unbounded near the lowest score of the list.

    Raises:
        ValueError: for an unknown gain, a number that is not above 0 (``samples`` and ``beta``: below 0), or
            ``log_scores`` without samples.

    Class attributes:
        transposed: whether the transposed matrix is scaled.
    """

    transposed: ClassVar[bool] = False
    numbers_per_pair = 42
    temperature: float = 1.0
    k: int | None = None
    gain: str = "exp2"
    iterations: int = 50
    samples: int = 0
    beta: float = 0.1
    log_scores: bool = False

    def __post_init__(self) -> None:
        name = type(self).__name__
        positive(self, "temperature", "k", "iterations")
        if self.gain not in ranking.GAINS:
            known = ", ".join(ranking.GAINS)
            raise InputError(f"{name}: gain must be one of {known}, not {self.gain!r}")
        for option in ("samples", "beta"):
            if not getattr(self, option) >= 0:
                raise InputError(f"{name}: {option} must be at least 0, not {getattr(self, option)!r}")
        if self.log_scores and not self.samples:
            raise InputError(f"{name}: log_scores has no effect without noise; set samples, for example to 32")

    @property
    def needs_seed(self) -> bool:  # type: ignore[override]
        """Whether the loss draws noise."""
        return self.samples > 0

    def exponential_gain(self) -> bool:
        return self.gain == "exp2"

    def pairs_at_once(self, lists: int, length: int) -> int:
        return _pairs.most_in_blocks(lists, length)

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        rank = tf.range(1, tf.shape(scores)[1] + 1)
        discounts = ranking.discounts(rank)
        if self.k is not None:
            discounts = tf.where(rank <= self.k, discounts, 0.0)
        gains = ndcg_gains(labels, known, self.k, self.gain)

        def ndcg(scores: Scores, known: Mask, gains: Tensor) -> Tensor:
            scores = scores / self.temperature
            return _neural_sort.placed(scores, known, discounts, gains, self.transposed, self.iterations, CLOSE)

        found = self._sampled(ndcg, scores, known, gains, seed) if self.samples else ndcg(scores, known, gains)
        return (1.0 - found) * list_weight(labels, weights)

    def _sampled(
        self, ndcg: Callable[[Scores, Mask, Tensor], PerList], scores: Scores, known: Mask, gains: Tensor, seed: Seed
    ) -> PerList:
        """The mean of ``ndcg`` over noisy scores, ``float32[B]``."""
        lists, length = tf.unstack(tf.shape(scores))
        noise = self.beta * ranking.gumbel(lists, length, seed, self.samples)
        at_once = tf.clip_by_value(_pairs.MOST_PAIRS // tf.maximum(lists * length, 1) // tf.maximum(length, 1),
                                   1, self.samples)  # fmt: skip

        def add(first: Tensor, total: PerList, slope: Tensor) -> tuple[Tensor, PerList, Tensor]:
            drawn = noise[first : first + at_once]
            count = tf.shape(drawn)[0]
            with tf.GradientTape() as tape:
                tape.watch(start)
                noisy = tf.reshape(self._logs(start, known)[None] + drawn, [count * lists, length])
                found = ndcg(noisy, tf.tile(known, [count, 1]), tf.tile(gains, [count, 1]))
                found = tf.reduce_sum(tf.reshape(found, [count, lists]), axis=0)
            # The value of a list depends only on its own scores, so the gradient of the sum has that of every list.
            slope += tape.gradient(found, start)
            return first + at_once, total + tf.ensure_shape(found, total.shape), tf.ensure_shape(slope, start.shape)

        @tf.custom_gradient
        def mean(_: Scores) -> tuple[PerList, Callable[[PerList], Tensor]]:
            slope = tf.zeros_like(start)
            loop = (tf.constant(0), tf.reduce_sum(slope, axis=1), slope)
            _, total, slope = tf.while_loop(lambda first, *_: first < self.samples, add, loop, parallel_iterations=1)
            return total / self.samples, lambda upstream: upstream[:, None] * slope / self.samples

        start = tf.stop_gradient(scores)
        return mean(scores)

    def _logs(self, scores: Scores, known: Mask) -> Tensor:
        """The values that noise is added to: the scores or their logarithms."""
        if not self.log_scores:
            return scores
        lowest = tf.reduce_min(tf.where(known, scores, tf.float32.max), axis=1, keepdims=True)
        return tf.math.log(tf.where(known, scores - lowest, 0.0) + LOG_OFFSET)
