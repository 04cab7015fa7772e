"""Softmax cross-entropy plus the first term of PolyLoss."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfmtl2r.errors import InputError
from tfmtl2r.losses._tf_ranking import Bridged
from tfmtl2r.registry import Card

CARD = Card(
    title="Poly-1 softmax cross-entropy",
    paper="Leng et al., PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions, ICLR 2022, "
    "https://arxiv.org/abs/2204.12511",
    aliases=("poly_one_softmax_loss",),
    note="epsilon > 0 keeps larger gradients for relevant items that already have a high probability",
)
__all__ = ["PolyOneSoftmax"]


@dataclasses.dataclass(frozen=True)
class PolyOneSoftmax(Bridged):
    """Softmax cross-entropy plus ``epsilon`` times one minus the mean probability of the labels.

    With ``q_i = y_i / sum_j y_j`` and ``p = softmax(s / t)``: ``loss[b] = - sum_i q_i log p_i +
    epsilon (1 - sum_i q_i p_i)``.

    Args:
        epsilon: weight of the added term, >= 0.
        temperature: t.

    Raises:
        ValueError: for a negative epsilon, or a temperature that is not above 0.

    >>> loss, weight = PolyOneSoftmax(epsilon=1.0).per_list([[1.0, 0.0]], [[0.0, 0.0]], [[True, True]])
    >>> round(float(loss[0]), 4)  # log 2 + 1/2
    1.1931

    Source: see ``CARD``.
    """

    impl = "PolyOneSoftmaxLoss"
    epsilon: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.epsilon >= 0:
            raise InputError(f"PolyOneSoftmax: epsilon must be >= 0, or the loss could be negative; got {self.epsilon}")

    def arguments(self) -> dict[str, Any]:
        return {"epsilon": self.epsilon}
