"""SDMGrad: direction-oriented multi-objective gradient descent."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.linalg import min_norm, project, spread
from tfmtl2r.methods.base import GramMethod, Signals, State, count_present, importance
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor, Vector

__all__ = ["SDMGrad"]

CARD = Card(
    title="SDMGrad (direction-oriented multi-objective gradient descent)",
    paper="Xiao et al. 2023, https://arxiv.org/abs/2305.18409",
    promises=("sums_to_tasks", "permutation_equivariant", "ends_on_the_pareto_set"),
    note="Between MGDA (lam 0) and the mean gradient (lam large).",
)


@dataclasses.dataclass(frozen=True)
class SDMGrad(GramMethod):
    """Takes MGDA's direction, pulled towards the mean gradient.

    ``w = argmin_{w in simplex} ||g_w + lam g_0||^2 / 2`` with ``g_w = sum_t w_t g_t`` and the mean gradient
    ``g_0 = sum_t p_t g_t`` for the preference p; the update is ``T (g_w + lam g_0) / (1 + lam)``.

    Differs from the paper: by default the problem is solved exactly for each batch (``solve="exact"``). With
    ``solve="stochastic"`` the weights are stored and take projected gradient steps as in the paper:
    ``w <- Proj[w - lr C (w + lam p)]``. Here ``C_ij`` is ``<g_i, h_j>`` divided by the mean squared length of the
    gradients, with g and h from independent halves of the batch. All steps on a batch use the same C. This mode
    requires ``gradients="parameters"``.

    Args:
        lam: weight of the mean gradient, >= 0.
        solve: ``"exact"`` or ``"stochastic"``.
        lr: step size of the stochastic weights, in units of the mean squared length of the gradients.
        steps: number of steps of the stochastic weights on a batch.

    >>> from tfmtl2r import methods
    >>> methods.combine("sdmgrad", [[2., 0.], [0., 1.]]).round(4).tolist()
    [0.8, 1.6]
    """

    takes_preference: ClassVar[bool] = True
    iterates: ClassVar[bool] = True

    lam: float = 0.6
    solve: str = "exact"
    lr: float = 0.1
    steps: int = 20

    def __post_init__(self) -> None:
        if not self.lam >= 0:
            raise InputError(f"sdmgrad: lam must be >= 0, not {self.lam}")
        if self.solve not in ("exact", "stochastic"):
            raise InputError(f"sdmgrad: solve must be 'exact' or 'stochastic', not {self.solve!r}")
        if not self.lr > 0 or self.steps < 1:
            raise InputError(f"sdmgrad: lr must be above 0 and steps at least 1, not {self.lr} and {self.steps}")
        if self.solve == "stochastic":
            object.__setattr__(self, "needs", self.needs | {"second_batch"})
            object.__setattr__(self, "modes", ("parameters",))
            object.__setattr__(self, "iterates", False)

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """Equal weights for ``solve="stochastic"``; otherwise empty."""
        return {"weights": np.full(num_tasks, 1.0 / num_tasks)} if self.solve == "stochastic" else {}

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The min-norm weights plus the weights of the mean gradient."""
        count = count_present(signals, tf.float64)
        mean = tf.math.divide_no_nan(tf.cast(importance(signals), tf.float64), count)
        if self.solve == "exact":
            gram = tf.cast(signals.gram, tf.float64)
            weights = min_norm(gram, signals.present, tilt=self.lam * tf.linalg.matvec(gram, mean)).weights
        else:
            before = tf.cast(state["weights"], tf.float64)
            total = tf.reduce_sum(before * tf.cast(signals.present, tf.float64))
            weights = tf.math.divide_no_nan(spread(before, signals.present), count)
            cross = self._unit_cross(signals)
            for _ in range(self.steps):
                step = tf.linalg.matvec(cross, weights + self.lam * mean)
                weights = project(weights - self.lr * step, signals.present)
            state = {"weights": weights * total}
        return count * (weights + self.lam * mean) / (1.0 + self.lam), state

    def _unit_cross(self, signals: Signals) -> Tensor:
        """``C`` of the present tasks."""
        present = tf.cast(signals.present, tf.float64)
        cross = tf.cast(signals.cross, tf.float64) * present[:, None] * present[None, :]
        squares = tf.reduce_sum(tf.cast(tf.linalg.diag_part(signals.gram), tf.float64) * present)
        return tf.math.divide_no_nan(cross * tf.reduce_sum(present), squares)
