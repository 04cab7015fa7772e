"""Base classes of balancing methods.

A method is a frozen dataclass (its fields are its options) with one of three protocols:

* :meth:`Scalarisation.objective` turns the losses into one number, whose derivatives are the task weights.
* :meth:`GramMethod.weigh` turns the inner products of the task gradients into task weights.
* :meth:`JacobianMethod.combine` turns the gradients themselves into one update.

A method receives only tensors, never a model. It receives its state as a dictionary of tensors, and returns the next
state. The trainer depends on what a method declares, never on its name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from tfmtl2r import returned
from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError, not_defined
from tfmtl2r.task import Task
from tfmtl2r.types import Count, Gram, Losses, Preference, Rows, Seed, Tensor, Vector

State = dict[str, Any]
MODES = ("parameters", "features")


@dataclasses.dataclass(frozen=True)
class Signals:
    """The input of a method in one step, equal on every replica.

    Args:
        losses: ``float32[T]``, each task's weighted mean loss over the lists of the global batch; 0 for an absent task.
        preference: ``float32[T]``, importance of each task, >= 0, sum 1.
        present: ``bool[T]``, False for an absent task, which has no usable label in the batch.
        gram: ``float32[T, T]``, inner products of the task gradients of the variables that the method balances, for
            methods that need them. Rows and columns of absent tasks are 0.
        count: ``float32[T]``, for each task the sum of the weights of the lists in its mean loss; 1 where a caller
            has no lists.
        cross: ``float32[T, T]``, inner products ``<g_i, h_j>`` of the gradients of two independent halves of the batch,
            for methods that need a second batch.
        step: ``int64``, number of training steps so far.
        epoch: ``int64``, number of completed epochs.
        seed: ``int32[2]`` for stateless random numbers, a function of the ranker's seed and the step.
    """

    losses: Losses
    preference: Preference
    present: Tensor
    gram: Gram = None  # type: ignore[assignment]  # there for every method that declares its need
    cross: Gram = None  # type: ignore[assignment]
    count: Tensor | float = 1.0
    step: Count = 0
    epoch: Count = 0
    seed: Seed = (0, 0)


@dataclasses.dataclass(frozen=True)
class Method:
    """Base class of all methods.

    Class attributes:
        needs: a set of ``"gram"`` (inner products of the gradients) or ``"rows"`` (the gradients themselves), neither
            for a scalarisation; ``"losses_after"`` if :meth:`learn` requires the losses of the same batch after the
            update; and ``"second_batch"`` if the method requires ``Signals.cross``.
        modes: where gradients may be taken: ``"parameters"`` or ``"features"`` (at the cut of the architecture).
        positive_losses: True if the method divides by losses or takes their logarithm. A negative loss is then an
            error.
        per_parameter: True if the state contains ``[T, P]`` arrays. The engine then makes the gradients of embedding
            tables dense.
        positive_preference: True if the method divides by the preference, which must then be above 0 for every task.
        takes_preference: True if the method reads ``Signals.preference``. Otherwise a preference with unequal entries
            (of ``compile`` or ``Task.weight``) is an error.
        iterates: True if a step runs a solver of :mod:`tfmtl2r.linalg` that repeats rounds. Telemetry then shows the
            rounds, and the solvers that stopped at their cap.
        preference_per_list: True if the update is linear in the preference, so that the lists of a conditioned
            ranker's batch can have preferences of their own.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    modes: ClassVar[tuple[str, ...]] = MODES
    positive_losses: ClassVar[bool] = False
    per_parameter: ClassVar[bool] = False
    positive_preference: ClassVar[bool] = False
    takes_preference: ClassVar[bool] = False
    iterates: ClassVar[bool] = False
    preference_per_list: ClassVar[bool] = False

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """The state before the first step: name -> array.

        The engine keeps the row of an absent task in every ``[T, ...]`` array (row and column of ``[T, T]``) unchanged.

        Args:
            num_tasks: T.
            num_parameters: P, for methods that need the gradients themselves.
        """
        return {}

    def for_tasks(self, tasks: Sequence[Task]) -> Method:
        """Returns the method with the facts that it needs about a ranker's tasks; by default the method itself."""
        return self

    def epochs_needed(self, num_tasks: int) -> int:
        """The number of epochs until each task has been minimised at least once: 1, unless a method has stages."""
        return 1

    def multipliers(self, state: State) -> Tensor | None:
        """The multipliers of the method's constraints, ``[T]``, for telemetry; None without constraints."""
        return None

    def learn(self, losses_after: Losses, signals: Signals, state: State) -> State:
        """The next state, once the losses ``[T]`` of the same batch after the update are known."""
        raise not_defined(self, "learn")


class Scalarisation(Method):
    """A method that turns the losses into one objective."""

    def objective(self, losses: Losses, signals: Signals, state: State) -> tuple[Tensor, State]:
        """The scalar to minimise, a differentiable function of ``losses`` ``[T]``, and the next state."""
        raise not_defined(self, "objective")

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """Task weights: the derivative of the objective with respect to each loss."""
        losses = tf.convert_to_tensor(signals.losses)
        with tf.GradientTape() as tape:
            tape.watch(losses)
            source = f"{type(self).__name__}.objective"
            value, state = returned.pair(self.objective(losses, signals, state), source, "(objective, next state)")
            value = returned.tensor(value, (), source, "one number to minimise, such as a sum over the tasks")
        return tape.gradient(value, losses, unconnected_gradients=tf.UnconnectedGradients.ZERO), state


class StagedMethod(Method):
    """A method for training in stages: some tasks are minimised (the goals), the losses of others have upper bounds.

    Staged training (:mod:`tfmtl2r.training.staged`) sets goals and bounds between epochs.

    Options:
        tolerance: allowed increase of a task's loss above the loss that the task reached, relative to this loss.
    """

    tolerance: float

    def levels(self, num_tasks: int) -> np.ndarray:
        """``int64[T]``, the stage in which each task is a goal, counted from 0."""
        raise not_defined(self, "levels")

    def driven(self) -> Method:
        """Returns a copy whose goals and bounds are set by staged training.

        Raises:
            ValueError: if the options of the method fix goals or bounds.
        """
        raise not_defined(self, "driven")

    def stage_state(self, goals: np.ndarray, bounds: np.ndarray) -> State:
        """The entries of the state that a new stage replaces.

        Args:
            goals: ``float32[T]``, 1 for the tasks to minimise, 0 for the others.
            bounds: ``float32[T]``, upper bounds on the losses, infinite for tasks without a bound.
        """
        raise not_defined(self, "stage_state")

    def multipliers(self, state: State) -> Tensor:
        """The multipliers of the bounds, ``[T]``."""
        raise not_defined(self, "multipliers")


class GramMethod(Method):
    """A method that is a function of the inner products of the task gradients."""

    needs: ClassVar[frozenset[str]] = frozenset({"gram"})

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """Task weights ``[T]`` (usually of sum T, so that learning rates are comparable) and the next state."""
        raise not_defined(self, "weigh")


class JacobianMethod(Method):
    """A method that needs the gradients themselves."""

    needs: ClassVar[frozenset[str]] = frozenset({"rows"})
    modes: ClassVar[tuple[str, ...]] = ("parameters",)

    def combine(self, rows: Rows, signals: Signals, state: State) -> tuple[Vector, State]:
        """The update ``[P]`` from the gradients ``rows`` ``[T, P]`` and the next state."""
        raise not_defined(self, "combine")


def count_present(signals: Signals, dtype: Any) -> Tensor:
    """The number of present tasks. Weights sum to this number, so that a single present task trains as if alone."""
    return tf.reduce_sum(tf.cast(signals.present, dtype))


def importance(signals: Signals) -> Vector:
    """The preference of the present tasks, scaled to sum to their number; all ones for equal preferences."""
    weights = signals.preference * tf.cast(signals.present, signals.preference.dtype)
    total = tf.reduce_sum(weights)
    return tf.math.divide_no_nan(weights * count_present(signals, weights.dtype), total)


def check_mode(method: Method, gradients: str) -> None:
    """Checks the option ``gradients``.

    Raises:
        ValueError: for an unknown mode, or one that the method does not support.
    """
    if gradients not in MODES:
        raise InputError(f"gradients must be one of {', '.join(map(repr, MODES))}, not {gradients!r}")
    if gradients not in method.modes and method.needs & {"gram", "rows"}:
        raise InputError(f"{type(method).__name__} cannot run with gradients={gradients!r}, only with "
                         f"{' or '.join(map(repr, method.modes))}")
