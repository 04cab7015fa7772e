"""Margins between conversions, clicks without conversion, and impressions without a click."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.losses import _pairs
from tfmtl2r.losses.base import Loss, mean_over_items
from tfmtl2r.registry import Card
from tfmtl2r.types import Features, Labels, Mask, PerList, Scores, Seed, Tensor, Weights

CARD = Card(
    title="PWiseR",
    paper="Durmus et al., 2024, https://arxiv.org/abs/2406.02163",
    note="one label for click and conversion: 0 none, 1 click, 2 conversion; bce > 0 adds the click's cross-entropy",
)
__all__ = ["PWiseR"]
CONVERSION = 2.0


@dataclasses.dataclass(frozen=True)
class PWiseR(Loss):
    """Hinge losses that put conversions above clicks without conversion, and above impressions without a click.

    With the probabilities ``p = sigmoid(s)`` and the sets of a list P (label 2: converted), C (1: clicked only) and
    N (0: neither):

    ``loss[b] = bce mean_i BCE(s_i, [y_i >= 1]) + mean_{P x C} max(0, m1 - (p_i - p_j)) +
    mean_{P x N} max(0, m2 - (p_i - p_j))``.

    An empty set contributes 0. Clicks are noisy and conversions are certain, so only conversions are pushed up. One
    label column has the value ``click + conversion``, NaN where unknown. Without ``bce``, a list counts if it has a
    conversion and another labelled item. With ``bce``, a list counts if it has a labelled item. Item weights multiply
    the pairs of the converted item and the terms of the cross-entropy. Long lists are processed in blocks, see
    :mod:`~tfmtl2r.losses._pairs`.

    Args:
        click_margin: m1, in (0, 1).
        none_margin: m2, at least m1 and below 1.
        bce: weight of the cross-entropy term, >= 0. Margins alone do not determine the level of the scores, and have no
            gradient once they are met. The paper minimises ``BCE + lambda PWiseR``, which is ``bce = 1 / lambda``.

    Raises:
        ValueError: for margins that are not ``0 < m1 <= m2 < 1``, or a negative ``bce``.

    >>> scores = [[2.1972, 0.4055, -1.3863]]  # probabilities 0.9, 0.6, 0.2
    >>> loss, weight = PWiseR(click_margin=0.5).per_list([[2.0, 1.0, 0.0]], scores, [[True] * 3])
    >>> round(float(loss[0]), 4)  # 0.5 - (0.9 - 0.6), plus 0 because 0.9 - 0.2 is above the margin
    0.2

    Source: see ``CARD``; the exact form of the terms is our interpretation. Differs from the paper: the sets belong to
    a list (a request, a session), not to a batch, so the loss does not depend on the batches. Put rows that should be
    compared into one list.
    """

    numbers_per_pair = _pairs.NUMBERS_IN_BLOCKS
    click_margin: float = 0.25
    none_margin: float = 0.5
    bce: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.click_margin <= self.none_margin < 1:
            margins = f"{self.click_margin} and {self.none_margin}"
            raise InputError(f"PWiseR: expected 0 < click_margin <= none_margin < 1, not {margins}")
        if not self.bce >= 0:
            raise InputError(f"PWiseR: bce must be >= 0, or the loss could be negative; got {self.bce}")

    def highest_label(self) -> tuple[float, str]:
        return CONVERSION, "labels are 0 (no click), 1 (click) and 2 (click and conversion)"

    def counts(self, labels: Labels, known: Mask) -> PerList:
        if self.bce:
            return tf.reduce_any(known, axis=1)
        converted = labels >= CONVERSION
        return tf.reduce_any(known & converted, axis=1) & tf.reduce_any(known & ~converted, axis=1)

    def pairs_at_once(self, lists: int, length: int) -> int:
        return _pairs.most_in_blocks(lists, length)

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        chances = tf.sigmoid(scores)
        items = _pairs.items_of(labels, known, weights)

        def above(clicked: bool) -> Tensor:
            def pairs(i: Features, j: Features) -> tuple[Tensor, Tensor]:
                worse = (j["labels"] < CONVERSION) & ((j["labels"] >= 1.0) == clicked)
                return (i["labels"] >= CONVERSION) & worse & i["known"] & j["known"], i["weights"]

            margin = self.click_margin if clicked else self.none_margin
            return _pairs.mean(chances, items, pairs, _pairs.hinge(margin))

        loss = above(clicked=True) + above(clicked=False)
        if self.bce:
            clicks = tf.cast(labels >= 1.0, tf.float32)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=clicks, logits=scores)
            loss += self.bce * mean_over_items(losses, known, weights)
        return loss
