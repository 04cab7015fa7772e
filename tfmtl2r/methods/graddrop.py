"""GradDrop: gradient sign dropout."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import JacobianMethod, Signals, State
from tfmtl2r.registry import Card
from tfmtl2r.types import Rows, Vector

__all__ = ["GradDrop"]

CARD = Card(
    title="GradDrop (gradient sign dropout)",
    paper="Chen et al. 2020, https://arxiv.org/abs/2010.06808",
    promises=("sums_to_tasks", "permutation_equivariant", "identity_without_sign_conflict"),
)


@dataclasses.dataclass(frozen=True)
class GradDrop(JacobianMethod):
    """Keeps either the positive or the negative task gradients of every parameter, drawn in proportion to their sums.

    With the purity ``P = (1 + sum_t g_t / sum_t |g_t|) / 2`` and ``U ~ Uniform(0, 1)``, both element by element, the
    update is ``sum_t (leak + (1 - leak) mask_t) g_t`` where ``mask_t`` keeps positive elements if ``P > U`` and
    negative ones otherwise. Its expectation over U is the plain sum of the gradients.

    Differs from the paper: signs are taken per shared parameter, as DeepMTL2R does, not per activation.

    Args:
        leak: share of every gradient that is never dropped, in [0, 1]; 1 is the plain sum.

    >>> from tfmtl2r import methods
    >>> methods.combine("graddrop", [[1., 2.], [3., 4.]]).tolist()
    [4.0, 6.0]
    """

    leak: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.leak <= 1.0:
            raise InputError(f"graddrop: leak must lie in [0, 1], not {self.leak}")

    def combine(self, rows: Rows, signals: Signals, state: State) -> tuple[Vector, State]:
        """Drops elements by sign."""
        total = tf.reduce_sum(rows, axis=0)
        purity = 0.5 * (1.0 + tf.math.divide_no_nan(total, tf.reduce_sum(tf.abs(rows), axis=0)))
        draw = tf.random.stateless_uniform(tf.shape(total), signals.seed)  # the same in any precision
        kept = tf.where(
            purity > tf.cast(draw, rows.dtype),
            tf.reduce_sum(tf.maximum(rows, 0.0), axis=0),
            tf.reduce_sum(tf.minimum(rows, 0.0), axis=0),
        )
        return self.leak * total + (1.0 - self.leak) * kept, state
