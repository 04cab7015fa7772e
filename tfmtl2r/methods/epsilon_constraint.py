"""Epsilon-constraint: one main loss, upper bounds on the others."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import Scalarisation, Signals, State, count_present
from tfmtl2r.registry import Card
from tfmtl2r.types import Losses, Tensor

__all__ = ["EpsilonConstraint"]

CARD = Card(
    title="Epsilon-constraint (dual ascent on bounded losses)",
    paper="Momma, Bagheri Garakani and Sun 2019, https://ceur-ws.org/Vol-2410/paper30.pdf",
    aliases=("ec",),
    promises=("has_a_main_task", "sums_to_tasks"),
    note="Bounds are in units of each loss: train each task alone first to see which loss it can reach.",
)


@dataclasses.dataclass(frozen=True)
class EpsilonConstraint(Scalarisation):
    """Minimises the main task's loss subject to ``loss_t <= bound_t`` for the others.

    Each step first updates the multipliers, ``lam_t <- max(0, lam_t + mu (average_t / bound_t - 1))``, with an
    exponential moving average of the losses. The step then minimises
    ``T (loss_main + sum_t lam_t loss_t) / (1 + sum_t lam_t)``. A multiplier grows while its bound is violated, and
    returns to 0 while the loss is below the bound. The bounds are part of the state (``"bounds"``), so that they can be
    set between steps.

    Differs from the paper: mu is 0.1 per mini-batch, not 10 per boosting iteration. Differs from DeepMTL2R's code: the
    state keeps the multipliers unchanged. DeepMTL2R resets multipliers below the bound, and each normalisation shrinks
    them.

    Args:
        bounds: one number above 0 per task, infinite for a task without a bound; empty for no bounds. The bound of the
            main task is not used.
        main: position of the main task.
        mu: step size of the multipliers.
        momentum: weight of the past in the average, in [0, 1).

    >>> from tfmtl2r import methods
    >>> bounded = methods.get("ec", bounds=(float("inf"), .5), mu=1.)
    >>> methods.combine(bounded, [[1., 0.], [0., 1.]], losses=[1., 2.]).tolist()  # lam = 2 / .5 - 1 = 3
    [0.5, 1.5]
    """

    bounds: tuple[float, ...] = ()
    main: int = 0
    mu: float = 0.1
    momentum: float = 0.9

    def __post_init__(self) -> None:
        object.__setattr__(self, "bounds", tuple(float(bound) for bound in self.bounds))
        if not all(bound > 0 for bound in self.bounds):
            raise InputError(f"epsilon_constraint: bounds must be above 0, not {list(self.bounds)}")
        if self.main < 0:
            raise InputError(f"epsilon_constraint: main must be >= 0, not {self.main}")
        if not self.mu > 0:
            raise InputError(f"epsilon_constraint: mu must be above 0, not {self.mu}")
        if not 0.0 <= self.momentum < 1.0:
            raise InputError(f"epsilon_constraint: momentum must lie in [0, 1), not {self.momentum}")

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """Multipliers of 0, the average losses, whether a task was ever seen, and the bounds."""
        if self.main >= num_tasks:
            raise InputError(f"epsilon_constraint: main task {self.main} does not exist, there are {num_tasks}")
        if self.bounds and len(self.bounds) != num_tasks:
            raise InputError(f"epsilon_constraint: {len(self.bounds)} bounds for {num_tasks} tasks")
        zeros = np.zeros(num_tasks, np.float32)
        bounds = np.asarray(self.bounds or [np.inf] * num_tasks, np.float32)
        return {"multipliers": zeros, "average": zeros, "seen": zeros, "bounds": bounds}

    def multipliers(self, state: State) -> Tensor:
        """``lam``."""
        return state["multipliers"]

    def objective(self, losses: Losses, signals: Signals, state: State) -> tuple[Tensor, State]:
        """The Lagrangian, with the multipliers after one step of dual ascent."""
        lam, average, seen, bounds = (
            tf.cast(state[key], losses.dtype) for key in ("multipliers", "average", "seen", "bounds")
        )
        now = tf.stop_gradient(losses)
        average = tf.where(seen > 0, self.momentum * average + (1.0 - self.momentum) * now, now)
        main = tf.one_hot(self.main, losses.shape[0], dtype=losses.dtype)
        lam = tf.maximum(lam + self.mu * (average / bounds - 1.0), 0.0) * (1.0 - main)
        pull = lam * tf.cast(signals.present, losses.dtype)
        weights = count_present(signals, losses.dtype) * (main + pull) / (1.0 + tf.reduce_sum(pull))
        state = {"multipliers": lam, "average": average, "seen": tf.ones_like(seen), "bounds": bounds}
        return tf.reduce_sum(weights * losses), state
