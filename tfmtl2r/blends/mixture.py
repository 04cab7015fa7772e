"""The mixture of the tasks' distributions over the items of a list."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.blends.base import Blend, Heads
from tfmtl2r.errors import InputError
from tfmtl2r.registry import Card
from tfmtl2r.types import Scores

CARD = Card(
    title="Mixture of list softmaxes",
    note="for listwise losses where different tasks want different items: an item may be good in one task only",
)
__all__ = ["Mixture"]


@dataclasses.dataclass(frozen=True)
class Mixture(Blend):
    """``score_i = log sum_t w_t softmax_list(s_t / temperature)_i``, with ``w_t = r_t k_t / sum_u r_u k_u``.

    The softmax runs over the valid items of a list. A task of weight 0 has no influence. For softmax losses, the order
    is the best one for ``sum_t r_t NDCG_t``: the mixture estimates ``sum_t r_t E[gain_ti / IDCG_t]``.

    Args:
        constants: True multiplies the weights by ``k_t``, the mean over the lists of train with a relevant item of
            ``sum_i gain_ti / IDCG@10_t``, which is large for a task with many relevant items.
        temperature: above 1 makes the softmaxes flatter.

    Raises:
        ValueError: for a temperature that is not above 0.

    >>> heads = Heads(tf.constant([[[2.0, 0.0], [1.0, 1.0], [0.0, 3.0]]]), tf.constant([[True] * 3]), ("graded",) * 2)
    >>> Mixture().blend(heads, [[0.8, 0.2]]).numpy().astype(float).round(4).tolist()
    [[-0.6151, -1.5204, -1.4239]]
    """

    constants: bool = False
    temperature: float = 1.0
    positive = list_context = True
    definition = "log of the sum over tasks of weight * softmax of score_<task> over the items of the list"

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise InputError(f"Mixture: temperature must be a number above 0, not {self.temperature}")

    @classmethod
    def variants(cls) -> tuple[Mixture, ...]:
        """Without and with constants."""
        return cls(), cls(constants=True)

    @property
    def precedence(self) -> int:
        """Without constants first."""
        return 3 if self.constants else 2

    @property
    def needs(self) -> frozenset[str]:
        """Lists, and the constants if they are wanted."""
        return frozenset({"lists", "constants"} if self.constants else {"lists"})

    def blend(self, heads: Heads, weights: Any) -> Scores:
        assert heads.valid is not None
        weights = tf.convert_to_tensor(weights)
        # Scaled first, since the largest weights times a constant could exceed float32.
        weights = weights / tf.reduce_max(weights, axis=-1, keepdims=True)
        if heads.constants is not None:
            weights *= tf.constant(np.asarray(heads.constants) / np.max(heads.constants), tf.float32)
        weights = weights / tf.reduce_sum(weights, axis=-1, keepdims=True)
        valid = heads.valid[..., None]
        # A finite number in place of minus infinity, so that a list without items gives no NaN.
        scores = tf.where(valid, heads.scores / self.temperature, -1e30)
        chances = tf.nn.log_softmax(scores, axis=1)
        mixed = tf.reduce_logsumexp(chances + tf.math.log(weights)[:, None, :], axis=-1)
        return tf.where(heads.valid, mixed, -float("inf"))
