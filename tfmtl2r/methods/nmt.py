"""NMT: priorities as constraints, with multipliers from dual ascent."""

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
    note="Trains tasks in order of priority; tasks of higher priority keep what they reached (exactly with --staged).",
)


@dataclasses.dataclass(frozen=True)
class NMT(Scalarisation, StagedMethod):
    """Minimises the losses of the current goals subject to ``loss_j <= bound_j`` for the tasks of higher priority.

    In each step, with the violations ``v_j = loss_j - bound_j`` of the same forward pass and n goals,

    ``hat_j = max(lam_j + damping v_j, 0)``,
    minimise ``T (sum_goals loss_k / n + sum_j hat_j loss_j) / (1 + sum_j hat_j)``,
    ``lam_j <- max(lam_j + dual_lr v_j, 0)``.

    Dividing by ``1 + sum hat`` (the re-scaling) keeps the step bounded, however large a multiplier grows. Tasks of
    lower priority than the goals have weight 0.

    The goals change automatically. Each level of priority is the goal for ``stage_epochs`` epochs, the most important
    first, and the last level until the end. When the next level becomes the goal, each task of the level gets the bound
    ``mean + tolerance |mean|``, where ``mean`` is its mean training loss over the lists of the last of these epochs.
    ``tfmtl2r.training.staged`` does the same with exact losses, early stopping and the best feasible checkpoint.
    With ``bounds`` there are no stages: bounded tasks are constraints, the others are goals.

    This is a reconstruction from the abstract and summaries of the paper, which contain the constraints, the
    Lagrangian, the order of the tasks and the fact that there is a re-scaling. The formulas above (differential
    multipliers: Platt and Barr 1987, https://papers.nips.cc/paper/4-constrained-differential-optimization), the form of
    the re-scaling, the schedule and all defaults are this library's.

    The state has one number per task for each of ``"goals"`` and ``"bounds"``, which a training loop may set between
    steps if ``stage_epochs`` is 0, and ``"multipliers"`` and ``"violations"``, for monitoring.

    Args:
        priorities: one number per task, 1 for the most important; tasks with equal numbers are trained together. If
            empty, ``Task.priority`` applies, or the order of the tasks if they have no priority.
        bounds: upper bounds on the losses instead of priorities, infinite for the goals.
        tolerance: allowed increase of a task's loss above the loss that the task reached, relative to this loss.
        dual_lr: step size of the multipliers.
        stage_epochs: epochs of each level of priority except the last; 0 lets a training loop set goals and bounds.
        rescale: whether to divide by ``1 + sum hat``.
        damping: c of the augmented Lagrangian, which reduces oscillation.
        momentum: weight of the past in the violations, in [0, 1).
        max_multiplier: largest multiplier; limits its growth while a constraint cannot be met.

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
        """Returns a copy with the priorities of the tasks, unless the options contain priorities or bounds.

        Raises:
            ValueError: if some tasks have a priority and others do not.
        """
        priorities = tuple(task.priority for task in tasks if task.priority is not None)
        if self.priorities or self.bounds or not priorities:
            return self
        without = [task.name for task in tasks if task.priority is None]
        if without:
            raise InputError(f"task {without[0]!r} has no priority but others have one: give all tasks a priority, or "
                             "none to train them in the listed order")
        return dataclasses.replace(self, priorities=priorities)

    def driven(self) -> NMT:
        """Returns a copy without a schedule.

        Raises:
            ValueError: if the options contain bounds.
        """
        if self.bounds:
            raise InputError(f"staged training replaces the method's bounds {self.bounds}: give them as constraints")
        return dataclasses.replace(self, stage_epochs=0)

    def stage_state(self, goals: np.ndarray, bounds: np.ndarray) -> State:
        """Goals and bounds of a stage, with multipliers of 0."""
        zeros = np.zeros(len(goals), np.float32)
        return {"goals": goals, "bounds": bounds, "multipliers": zeros, "violations": zeros}

    def multipliers(self, state: State) -> Tensor:
        """``lam``."""
        return state["multipliers"]

    def epochs_needed(self, num_tasks: int) -> int:
        """``stage_epochs`` for each level of priority except the last, plus 1 for the last level."""
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
        """The state with the goals of this epoch, and bounds from the last epoch for tasks of higher priority."""
        levels = self.levels(losses.shape[0])
        stage = tf.minimum(signals.epoch // self.stage_epochs, levels.max())
        fresh = signals.epoch > state["epoch"]  # the first step of a task in an epoch: its sum is from an earlier epoch
        sums, counts, bounds = (tf.cast(state[key], losses.dtype) for key in ("sums", "counts", "bounds"))
        reached = tf.math.divide_no_nan(sums, counts)
        count = tf.cast(signals.count, losses.dtype)  # number of lists: a small last batch has little influence
        over = fresh & (levels < stage) & (counts > 0) & ~tf.math.is_finite(bounds)
        return {
            **state,
            "goals": tf.cast(levels == stage, losses.dtype),
            "bounds": tf.where(over, reached + self.tolerance * tf.abs(reached), bounds),
            "sums": tf.where(fresh, tf.zeros_like(sums), sums) + count * losses,
            "counts": tf.where(fresh, tf.zeros_like(counts), counts) + count,
            "epoch": tf.fill(fresh.shape, signals.epoch),
        }
