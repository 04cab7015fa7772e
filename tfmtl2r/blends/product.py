"""The logarithm of a product of powers."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.blends.base import Blend, Heads
from tfmtl2r.registry import Card
from tfmtl2r.types import Scores, Tensor

CARD = Card(
    title="Product of powers",
    note="an item must be good in every task; needs lists, and scores whose level is known",
)
__all__ = ["Product"]


@dataclasses.dataclass(frozen=True)
class Product(Blend):
    """``score = sum_t w_t log v_t``, with ``v_t`` = sigmoid(s_t) of a binary task and softplus(s_t) of any other.

    The logarithm of the product is served, because it has the same order and neither underflows nor overflows.
    """

    definition = ("log of the product over tasks of value ** weight; the value is sigmoid(score_<task>) of a binary "
                  "task and softplus(score_<task>) of any other")

    @property
    def needs(self) -> frozenset[str]:
        """Lists."""
        return frozenset({"lists"})

    def terms(self, heads: Heads) -> Tensor:
        return tf.stack([_log_value(kind, score) for kind, score in
                         zip(heads.kinds, tf.unstack(heads.scores, axis=-1), strict=True)], axis=-1)


def _log_value(kind: str, score: Scores) -> Tensor:
    if kind == "binary":
        return tf.math.log_sigmoid(score)
    # Far below 0, softplus(x) underflows; its logarithm is x there.
    return tf.where(score < -15.0, score, tf.math.log(tf.nn.softplus(tf.maximum(score, -15.0))))
