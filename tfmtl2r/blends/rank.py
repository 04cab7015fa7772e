"""Reciprocal rank fusion."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.blends.base import Blend, Heads
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor

CARD = Card(
    title="Reciprocal rank fusion",
    paper="Cormack, Clarke and Buettcher, Reciprocal rank fusion outperforms Condorcet and individual rank learning "
    "methods, SIGIR 2009, https://doi.org/10.1145/1571941.1572114",
    note="reads the order of each head only, so that no scale matters",
)
__all__ = ["Rank"]
OFFSET = 60.0
"""The constant of the paper. It limits the influence of the first places."""


@dataclasses.dataclass(frozen=True)
class Rank(Blend):
    """``score = sum_t w_t / (60 + rank_t)``, with the 1-based rank of the item in its list by head t.

    Items with equal scores have the mean of their ranks, so that the order of the input has no influence.

    Source: see ``CARD``.
    """

    list_context = True
    definition = ("sum over tasks of weight / (60 + rank of the item in its list by score_<task>); items with equal "
                  "scores have their mean rank")

    precedence = 4

    @property
    def needs(self) -> frozenset[str]:
        """Lists."""
        return frozenset({"lists"})

    def terms(self, heads: Heads) -> Tensor:
        assert heads.valid is not None
        keys = tf.where(heads.valid[..., None], -heads.scores, float("inf"))
        by_task = tf.transpose(keys, [0, 2, 1])
        ordered = tf.sort(by_task, axis=-1)
        above, upto = (tf.searchsorted(ordered, by_task, side=side) for side in ("left", "right"))
        mean = tf.cast(above + upto + 1, tf.float32) / 2.0
        return tf.transpose(1.0 / (OFFSET + mean), [0, 2, 1])
