"""EMTL: equal contributions of the tasks, in our reading of the abstract."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.linalg import min_norm, spread
from tfmtl2r.methods.base import GramMethod, Signals, State, count_present
from tfmtl2r.registry import Card
from tfmtl2r.types import Vector

__all__ = ["EMTL"]

CARD = Card(
    title="EMTL (equitable contributions; our reading of the abstract)",
    paper="Yuan and Zhang 2023, https://arxiv.org/abs/2306.09373",
    promises=("sums_to_tasks", "permutation_equivariant"),
    note="The paper's formula is not public: the abstract names the contributions and a penalty on their variance.",
)


@dataclasses.dataclass(frozen=True)
class EMTL(GramMethod):
    """Makes the contributions of the tasks to the update equal: ``w_t |g_t| / l_t`` is one number for all tasks.

    The weights are ``w_t ~ l_t / |g_t|`` with sum T. With ``penalty`` = lam, they are T times
    ``argmin |sum_t w_t g_t|^2 + lam Var_t(w_t |g_t| / l_t)`` over the simplex: MGDA for 0, and near the equal
    contributions for a large lam. A task with a zero gradient takes no part.

    This is our reading of the abstract, which defines the contribution of a task as its loss over the length of its
    gradient, and names a penalty on the variance of contributions.

    Args:
        penalty: weight of the variance, >= 0; None for exactly equal contributions.

    >>> from tfmtl2r import methods
    >>> methods.combine("emtl", [[-4., 1., 1.], [6., 1., 1.]], losses=[.5, 2.]).round(4).tolist()
    [6.6709, 2.0, 2.0]
    """

    positive_losses: ClassVar[bool] = True

    penalty: float | None = None

    def __post_init__(self) -> None:
        if self.penalty is not None and not self.penalty >= 0:
            raise InputError(f"emtl: penalty must be >= 0, not {self.penalty}")
        object.__setattr__(self, "iterates", self.penalty is not None)

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """Weights inverse to the contributions, or those of the penalised problem."""
        gram = tf.cast(signals.gram, tf.float64)
        lengths = tf.sqrt(tf.maximum(tf.linalg.diag_part(gram), 0.0))
        usable = tf.cast(signals.present, tf.bool) & (lengths > 0)
        here = tf.cast(usable, tf.float64)
        losses = tf.cast(signals.losses, tf.float64)
        if self.penalty is None:
            return spread(here * tf.math.divide_no_nan(losses, lengths), usable), state
        each = here * tf.math.divide_no_nan(lengths, losses)
        count = tf.maximum(tf.reduce_sum(here), 1.0)
        variance = tf.linalg.diag(each**2) - each[:, None] * each[None, :] / count
        weights = min_norm(gram + self.penalty / count * variance, usable).weights
        return count_present(signals, tf.float64) * weights, state
