"""GradCraft: gradients of similar lengths, each projected off all conflicts at once."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.linalg import correlation
from tfmtl2r.methods.base import GramMethod, Signals, State, importance
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor, Vector

__all__ = ["GradCraft"]

CARD = Card(
    title="GradCraft (magnitude adjustment and global projection)",
    paper="Bai et al. 2024, https://arxiv.org/abs/2407.19682",
    promises=("sums_to_tasks", "permutation_equivariant", "ends_on_the_pareto_set"),
    note="For more than two tasks the update may still oppose a task: only the conflicts of each single gradient go.",
)
_RANK = 1e-10  # eigenvalues of cosines below this belong to directions that linearly dependent gradients do not have


@dataclasses.dataclass(frozen=True)
class GradCraft(GramMethod):
    """Makes the lengths of the gradients similar, then moves each gradient off all that it conflicts with.

    With the moving averages ``m_t`` of the lengths, ``a_t = f_t g_t`` with ``f_t = r max_s m_s / m_t + 1 - r``. Then
    each ``a_t`` changes as little as possible so that ``<a_t', a_s> = epsilon |a_t| |a_s|`` for all s with
    ``<a_t, a_s> < 0``, at once. The update is ``sum_t p_t a_t'`` with the preference p scaled to sum T.

    Differs from the authors' code: the update is the sum, not the mean, so that learning rates are those of the sum of
    losses; only shared variables count; a task with a zero gradient is left alone; conflicts with linearly dependent
    gradients use the pseudo-inverse.

    Args:
        r: how similar the lengths become, from 0 (not at all) to 1 (all as long as the longest).
        beta: weight of the past in the moving averages, in [0, 1). The authors' code uses 0.
        epsilon: cosine of resolved conflicts, in [0, 1).

    >>> from tfmtl2r import methods
    >>> plain = methods.get("gradcraft", r=0.0, epsilon=0.0)
    >>> (methods.combine(plain, [[-4., 1., 1.], [6., 1., 1.]]) / 2).round(4).tolist()
    [0.2924, 1.9006, 1.9006]
    """

    takes_preference: ClassVar[bool] = True

    r: float = 0.1
    beta: float = 0.0
    epsilon: float = 1e-10

    def __post_init__(self) -> None:
        if not 0.0 <= self.r <= 1.0:
            raise InputError(f"gradcraft: r must lie in [0, 1], not {self.r}")
        if not (0.0 <= self.beta < 1.0 and 0.0 <= self.epsilon < 1.0):
            raise InputError(f"gradcraft: beta and epsilon must lie in [0, 1), not {self.beta} and {self.epsilon}")

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """Average lengths of 0. All averages have the same bias towards 0, which their ratios do not have."""
        return {"lengths": np.zeros(num_tasks, np.float32)}

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The factors of the lengths, plus what the projections add."""
        cosines, lengths, usable = correlation(signals.gram, signals.present)
        here = tf.cast(usable, tf.float64)
        average = self.beta * tf.cast(state["lengths"], tf.float64) + (1.0 - self.beta) * lengths * here
        ratio = tf.math.divide_no_nan(tf.reduce_max(average * here), average)
        factors = tf.where(usable & (average > 0), self.r * ratio + 1.0 - self.r, 1.0)
        scaled = factors * lengths
        added = _projections(cosines, self.epsilon) * scaled[:, None] / scaled[None, :]
        preference = tf.cast(importance(signals), tf.float64)
        weights = factors * (preference + tf.linalg.matvec(added, preference * here, transpose_a=True))
        return weights, {"lengths": average}


def _projections(cosines: Tensor, epsilon: float) -> Tensor:
    """Row i: coefficients ``[T, T]`` of the unit gradients that are added to unit gradient i."""
    conflicts = cosines < 0
    on = tf.cast(conflicts, tf.float64)
    values, vectors = tf.linalg.eigh(cosines * on[:, :, None] * on[:, None, :])
    inverse = tf.where(values > _RANK, 1.0 / tf.where(values > _RANK, values, 1.0), 0.0)
    wanted = tf.linalg.matvec(vectors, on * (epsilon - cosines), transpose_a=True)
    return on * tf.linalg.matvec(vectors, inverse * wanted)
