"""WC-MGDA: weighted Chebyshev descent that follows the Pareto front."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.linalg import max_min, spread
from tfmtl2r.methods.base import GramMethod, Signals, State, importance
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor, Vector

__all__ = ["WCMGDA"]

CARD = Card(
    title="WC-MGDA (weighted Chebyshev multiple-gradient descent)",
    paper="Momma et al. 2022, https://proceedings.mlr.press/v162/momma22a.html",
    promises=("sums_to_tasks", "permutation_equivariant", "ends_on_the_pareto_set", "ends_on_the_ray"),
    note="Converges to equal preference times loss for all tasks; preferences must be above 0."
    " Behind equal weights on most data sets of the study.",
)


@dataclasses.dataclass(frozen=True)
class WCMGDA(GramMethod):
    """Lowers the largest ``p_t loss_t``, with a penalty on the length of the combined gradient.

    ``a = argmax_{a in simplex} sum_t a_t r_t loss_t - u sqrt(a' A a)`` with ``A_ij = r_i r_j G_ij / k``. The
    preferences r are scaled so that ``||r loss|| = 1`` at the first step, and k is the value for which A has trace 1 at
    the first step. The weights are ``r_t a_t``, scaled to sum T. As u goes to 0, this approaches the weighted Chebyshev
    method. As u grows, it approaches weighted MGDA.

    Differs from the paper: u is fixed, not tuned from the dual problem. Differs from DeepMTL2R's code: scales are set
    once per run, not at every step or once per process, and the weights keep the factor r.

    Args:
        u: weight of the length of the update, > 0.

    >>> from tfmtl2r import methods
    >>> methods.combine("wc_mgda", [[1., 0.], [0., 1.]], losses=[1., 3.]).round(4).tolist()
    [0.0, 2.0]
    """

    takes_preference: ClassVar[bool] = True
    iterates: ClassVar[bool] = True

    u: float = 0.01

    def __post_init__(self) -> None:
        if not self.u > 0:
            raise InputError(f"wc_mgda: u must be above 0, not {self.u}")

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """The scales of the first step; 0 before it."""
        return {"loss_scale": np.zeros((), np.float32), "gram_scale": np.zeros((), np.float32)}

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """Weights on the simplex times the preference."""
        preference = tf.cast(importance(signals), tf.float64)
        weighted = preference * tf.cast(signals.losses, tf.float64)
        gram = tf.cast(signals.gram, tf.float64) * preference[:, None] * preference[None, :]
        loss_scale = _first(state["loss_scale"], tf.norm(weighted))
        gram_scale = _first(state["gram_scale"], tf.linalg.trace(gram))
        # The scale of r divides the losses. It cancels in the matrix, which is divided by its own scale.
        radius = self.u * tf.math.rsqrt(tf.where(gram_scale > 0, gram_scale, 1.0))
        slope = -tf.math.divide_no_nan(weighted, loss_scale)
        weights = max_min(gram, slope, radius, signals.present).weights * preference
        return spread(weights, signals.present), {"loss_scale": loss_scale, "gram_scale": gram_scale}


def _first(stored: Any, value: Any) -> Tensor:
    stored = tf.cast(stored, value.dtype)
    return tf.where(stored > 0, stored, value)
