"""Base class of blends: a function from the scores of all tasks to one served score.

B is the number of lists, L of items, T of tasks. Plain rows have scores ``[N, T]`` and no lists.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Self

from tfmtl2r._backend import tf
from tfmtl2r.errors import not_defined
from tfmtl2r.types import Mask, Scores, Tensor


@dataclasses.dataclass(frozen=True)
class Heads:
    """What a blend reads: the scores of all tasks, and facts about the heads that gave them.

    Args:
        scores: ``float32[B, L, T]`` (plain rows: ``[N, T]``).
        valid: ``bool[B, L]``; None for plain rows.
        kinds: the kind of each task: ``"binary"``, ``"graded"`` or ``"regression"``.
        values: the scores in the unit of each task's label, in the shape of ``scores``; None unless the blend needs
            them.
        deviations: ``[T]``, the standard deviation of each head's scores on the training split; None unless needed.
        constants: ``[T]``, the constant ``k_t`` of each task; None unless needed.
    """

    scores: Tensor
    valid: Mask | None
    kinds: tuple[str, ...]
    values: Tensor | None = None
    deviations: Any = None
    constants: Any = None


@dataclasses.dataclass(frozen=True)
class Blend:
    """Base class of all kinds of blend.

    A kind overrides :meth:`terms`, or :meth:`blend` if it is no weighted sum of terms.

    >>> import numpy as np
    >>> from tfmtl2r import blends
    >>> heads = Heads(tf.constant([[[2.0, 4.0], [1.0, 6.0]]]), tf.constant([[True, True]]), ("graded", "graded"))
    >>> blends.get("sum").blend(heads, tf.constant([[0.5, 0.5]])).numpy().tolist()
    [[3.0, 3.5]]
    """

    definition: ClassVar[str] = ""
    """The formula of the output ``score`` in words, for the metadata and the README of an export."""
    list_context: ClassVar[bool] = False
    """Whether the score of an item depends on the other items of its list."""
    positive: ClassVar[bool] = False
    """Whether weights below 0 have no meaning."""

    @classmethod
    def variants(cls) -> tuple[Self, ...]:
        """The objects of this kind among which a choice on a validation split looks."""
        return (cls(),)

    @property
    def precedence(self) -> int:
        """Decides ties of such a choice: the smallest number is taken first."""
        return 100

    @property
    def needs(self) -> frozenset[str]:
        """What the blend reads beside scores: ``"lists"``, ``"values"``, ``"deviations"``, ``"constants"``."""
        return frozenset()

    def terms(self, heads: Heads) -> Tensor:
        """The terms that are weighted and added, in the shape of ``heads.scores``."""
        raise not_defined(self, "terms")

    def blend(self, heads: Heads, weights: Any) -> Scores:
        """The blended score of every item, ``float32[B, L]`` (plain rows: ``[N]``).

        Args:
            heads: scores of all tasks.
            weights: ``float32[B, T]`` or ``[1, T]``, finite, not all 0.
        """
        weights = tf.convert_to_tensor(weights)
        return tf.reduce_sum(self.terms(heads) * (weights if heads.valid is None else weights[:, None, :]), axis=-1)
