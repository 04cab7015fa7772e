"""NMT: priorities as constraints, multipliers by dual ascent."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import Scalarisation, Signals, StagedMethod, State, count_present
from tfmtl2r.registry import Card
from tfmtl2r.task import Task
from tfmtl2r.types import Losses, Tensor

__all__ = ["NMT"]

CARD = Card(
    title="NMT (no more tuning: prioritised learning with Lagrange multipliers)",
    paper="Cheng et al. 2025, https://arxiv.org/abs/2412.12092",
    promises=("has_a_main_task", "sums_to_tasks"),
    note="Trains tasks in order of priority; the higher ones keep what they reached (exactly so with --staged).",
)


@dataclasses.dataclass(frozen=True)
class NMT(Scalarisation, StagedMethod):
    """Minimises the losses of the current goals subject to ``loss_j <= bound_j`` for the tasks of higher priority.

    In each step, with the violations ``v_j = loss_j - bound_j`` of the same forward pass and n goals,

    ``hat_j = max(lam_j + damping v_j, 0)``,
    minimise ``T (sum_goals loss_k / n + sum_j hat_j loss_j) / (1 + sum_j hat_j)``,
    ``lam_j <- max(lam_j + dual_lr v_j, 0)``.

    Dividing by ``1 + sum hat`` (the re-scaling) keeps the step bounded however large a multiplier grows. Tasks of lower
    priority than the goals weigh nothing. The goals move on by themselves: the first level of priority trains for
    ``stage_epochs`` epochs; what its tasks reached, their mean training loss over the lists of the last of these,
    becomes their bound, ``mean + tolerance |mean|``, and the next level is the goal; the last one trains until the end.
    ``tfmtl2r.training.staged`` does the same with exact losses, early stopping and the best feasible checkpoint.
    With ``bounds`` there are no stages: bounded tasks are constraints, the others goals.

    A reconstruction: of the paper its abstract and summaries were at hand, which give the constraints, the Lagrangian,
    the order of the tasks and that there is a re-scaling. The formulas above (differential multipliers: Platt and Barr
    1987, https://papers.nips.cc/paper/4-constrained-differential-optimization), the form of the re-scaling, the
    schedule and all defaults are this library's.

    The state, one number per task, holds ``"goals"`` and ``"bounds"``, which a driver sets between steps (where
    ``stage_epochs`` is 0), and ``"multipliers"`` and ``"violations"``, for watching.

    Args:
        priorities: one number per task, 1 the most important; equal numbers are ties, trained together. Empty for
            ``Task.priority``, or the listed order where tasks have none.
        bounds: instead of priorities, upper bounds on the losses, infinite for the goals.
        tolerance: how much worse than what it reached a task may become, as a share of that loss.
        dual_lr: step size of the multipliers.
        stage_epochs: epochs of each level of priority but the last; 0 leaves goals and bounds to a driver.
        rescale: whether to divide by ``1 + sum hat``.
        damping: c of the augmented Lagrangian; dampens oscillation.
        momentum: how much of the past the violations keep, in [0, 1).
        max_multiplier: cap of the multipliers, against wind-up while a constraint is out of reach.

    >>> from tfmtl2r import methods
    >>> methods.combine("nmt", [[1., 0.], [0., 1.]]).tolist()  # priority 1 comes first
    [2.0, 0.0]
    >>> bounded = methods.get("nmt", bounds=(.5, float("inf")), damping=6.)
    >>> methods.combine(bounded, [[1., 0.], [0., 1.]], losses=[1., 1.]).tolist()  # hat = 6 (1 - .5) = 3
    [1.5, 0.5]
    """

    priorities: tuple[int, ...] = ()
    bounds: tuple[float, ...] = ()
    tolerance: float = 0.01
    dual_lr: float = 1.0
    stage_epochs: int = 2
    rescale: bool = True
    damping: float = 0.0
    momentum: float = 0.0
    max_multiplier: float = math.inf

    def __post_init__(self) -> None:
        object.__setattr__(self, "priorities", tuple(self.priorities))
        object.__setattr__(self, "bounds", tuple(float(bound) for bound in self.bounds))
        if self.priorities and self.bounds:
            raise InputError("nmt: give priorities or bounds, not both; a task without a bound is a goal")
        if not all(isinstance(p, int) and p >= 1 for p in self.priorities):
            raise InputError(f"nmt: priorities must be whole numbers from 1 (most important), not {self.priorities}")
        if self.bounds and not (all(bound > -math.inf for bound in self.bounds) and math.inf in self.bounds):
            raise InputError(f"nmt: bounds must be numbers, infinite for at least one task (a goal), not {self.bounds}")
        for option, least in (("tolerance", 0), ("damping", 0), ("stage_epochs", 0)):
            if not getattr(self, option) >= least:
                raise InputError(f"nmt: {option} must be at least {least}, not {getattr(self, option)}")
        for option in ("dual_lr", "max_multiplier"):
            if not getattr(self, option) > 0:
                raise InputError(f"nmt: {option} must be above 0, not {getattr(self, option)}")
        if not 0.0 <= self.momentum < 1.0:
            raise InputError(f"nmt: momentum must lie in [0, 1), not {self.momentum}")

    def levels(self, num_tasks: int) -> np.ndarray:
        """``int64[T]``, the level of each task: 0 for the most important, 1 for the next, and so on."""
        priorities = self.priorities or range(num_tasks)
        if len(priorities) != num_tasks:
            raise InputError(f"nmt: {len(priorities)} priorities for {num_tasks} tasks")
        return np.unique(np.asarray(priorities), return_inverse=True)[1].astype(np.int64)

    def for_tasks(self, tasks: Sequence[Task]) -> NMT:
        """With the priorities of the tasks, where it was given neither priorities nor bounds.

        Raises:
            ValueError: when some tasks have a priority and others do not.
        """
        priorities = tuple(task.priority for task in tasks if task.priority is not None)
        if self.priorities or self.bounds or not priorities:
            return self
        without = [task.name for task in tasks if task.priority is None]
        if without:
            raise InputError(f"task {without[0]!r} has no priority but others have one: give all tasks a priority, or "
                             "none for the listed order")
        return dataclasses.replace(self, priorities=priorities)

    def driven(self) -> NMT:
        """Without a schedule of its own.

        Raises:
            ValueError: for bounds among the options.
        """
        if self.bounds:
            raise InputError(f"the bounds {self.bounds} of the method would be replaced: give them as constraints")
        return dataclasses.replace(self, stage_epochs=0)

    def stage_state(self, goals: np.ndarray, bounds: np.ndarray) -> State:
        """Goals and bounds; multipliers start at 0."""
        zeros = np.zeros(len(goals), np.float32)
        return {"goals": goals, "bounds": bounds, "multipliers": zeros, "violations": zeros}

    def multipliers(self, state: State) -> Tensor:
        """``lam``."""
        return state["multipliers"]

    def epochs_needed(self, num_tasks: int) -> int:
        """``stage_epochs`` for each level of priority but the last, and one for that."""
        return 1 if self.bounds else 1 + self.stage_epochs * int(self.levels(num_tasks).max())

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """Multipliers of 0, goals and bounds, and each task's sum of losses in the epoch in which it was last seen."""
        if self.bounds and len(self.bounds) != num_tasks:
            raise InputError(f"nmt: {len(self.bounds)} bounds for {num_tasks} tasks")
        zeros = np.zeros(num_tasks, np.float32)
        bounds = np.asarray(self.bounds or [math.inf] * num_tasks, np.float32)
        goals = np.isinf(bounds) if self.bounds else self.levels(num_tasks) == 0
        return {
            "multipliers": zeros, "violations": zeros, "bounds": bounds, "goals": goals.astype(np.float32),
            "sums": zeros, "counts": zeros, "epoch": np.zeros(num_tasks, np.int64),
        }

    def objective(self, losses: Losses, signals: Signals, state: State) -> tuple[Tensor, State]:
        """The re-scaled Lagrangian of the current stage."""
        now = tf.stop_gradient(losses)
        if self.stage_epochs and not self.bounds:
            state = self._moved_on(now, signals, state)
        present = tf.cast(signals.present, now.dtype)
        lam, past, bounds, goals = (
            tf.cast(state[key], now.dtype) for key in ("multipliers", "violations", "bounds", "goals")
        )
        bounded = tf.math.is_finite(bounds)
        violations = tf.where(bounded, self.momentum * past + (1.0 - self.momentum) * (now - bounds), 0.0)
        goals = goals * present
        pull = tf.where(bounded, tf.maximum(lam + self.damping * violations, 0.0), 0.0) * present
        weights = tf.math.divide_no_nan(goals, tf.reduce_sum(goals)) + pull
        if self.rescale:
            weights /= 1.0 + tf.reduce_sum(pull)
        weights *= count_present(signals, now.dtype)
        lam = tf.where(bounded, tf.clip_by_value(lam + self.dual_lr * violations, 0.0, self.max_multiplier), 0.0)
        state = {**state, "multipliers": lam, "violations": violations}
        return tf.reduce_sum(tf.stop_gradient(weights) * losses), state

    def _moved_on(self, losses: Losses, signals: Signals, state: State) -> State:
        """The state with the goals of this epoch; what a task of higher priority reached in the last is its bound."""
        levels = self.levels(losses.shape[0])
        stage = tf.minimum(signals.epoch // self.stage_epochs, levels.max())
        fresh = signals.epoch > state["epoch"]  # a task's first step in an epoch: its sum is that of the one before
        sums, counts, bounds = (tf.cast(state[key], losses.dtype) for key in ("sums", "counts", "bounds"))
        reached = tf.math.divide_no_nan(sums, counts)
        count = tf.cast(signals.count, losses.dtype)  # of lists: a small last batch counts for little
        over = fresh & (levels < stage) & (counts > 0) & ~tf.math.is_finite(bounds)
        return {
            **state,
            "goals": tf.cast(levels == stage, losses.dtype),
            "bounds": tf.where(over, reached + self.tolerance * tf.abs(reached), bounds),
            "sums": tf.where(fresh, tf.zeros_like(sums), sums) + count * losses,
            "counts": tf.where(fresh, tf.zeros_like(counts), counts) + count,
            "epoch": tf.fill(fresh.shape, signals.epoch),
        }
