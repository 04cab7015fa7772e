"""What a balancing method sees and what it returns.

A method is a frozen dataclass (its fields are its options) with one of three protocols:

* :meth:`Scalarisation.objective`: the losses become one number; its derivative weighs the tasks.
* :meth:`GramMethod.weigh`: the inner products of the task gradients become task weights.
* :meth:`JacobianMethod.combine`: the gradients themselves become one update.

Methods see tensors only, never a model. State is an explicit dictionary of tensors in and out. The trainer looks at
what a method declares, never at its name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.task import Task
from tfmtl2r.types import Count, Gram, Losses, Preference, Rows, Seed, Tensor, Vector

State = dict[str, Any]
MODES = ("parameters", "features")


@dataclasses.dataclass(frozen=True)
class Signals:
    """What a method may look at in one step; all the same on every replica.

    Args:
        losses: ``float32[T]``, each task's mean loss over the lists of the global batch; 0 where absent.
        preference: ``float32[T]``, importance of each task, >= 0, sum 1.
        present: ``bool[T]``, False for a task without a single usable label in the batch.
        gram: ``float32[T, T]``, inner products of the task gradients, for methods that need it.
        count: ``float32[T]``, weight of the lists that the losses are means over; 1 where nobody says.
        cross: ``float32[T, T]``, inner products ``<g_i, h_j>`` of the gradients of two independent halves of the batch,
            for methods that need a second batch.
        step: ``int64``, training steps done so far.
        epoch: ``int64``, epochs done so far.
        seed: ``int32[2]``, for stateless randomness: a function of the ranker's seed and the step.
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
    """Base of all methods.

    Class attributes that a method declares:
        needs: ``"gram"`` or ``"rows"`` (the gradients), or nothing for a scalarisation; ``"losses_after"`` if
            :meth:`learn` wants the losses of the same batch after the update; ``"second_batch"`` if it wants
            ``Signals.cross``.
        modes: where its gradients may be taken, ``"parameters"`` or ``"features"`` (at the cut of the architecture).
        positive_losses: it divides by losses or takes their logarithm.
        per_parameter: its state holds ``[T, P]`` arrays; gradients of embedding tables are then made dense.
        positive_preference: it divides by the preference, which must then be above 0 for every task.
        takes_preference: it reads ``Signals.preference``; unequal task weights with another method are an error.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    modes: ClassVar[tuple[str, ...]] = MODES
    positive_losses: ClassVar[bool] = False
    per_parameter: ClassVar[bool] = False
    positive_preference: ClassVar[bool] = False
    takes_preference: ClassVar[bool] = False

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """The state before the first step: name -> array.

        While a task is absent, its row of every ``[T, ...]`` array (row and column of ``[T, T]``) stands still.

        Args:
            num_tasks: T.
            num_parameters: P, for methods that need the gradients themselves.
        """
        return {}

    def for_tasks(self, tasks: Sequence[Task]) -> Method:
        """The method that knows what it needs about the tasks of a ranker; by default it needs nothing."""
        return self

    def epochs_needed(self, num_tasks: int) -> int:
        """How many epochs it takes until every task that is to be trained is."""
        return 1

    def learn(self, losses_after: Losses, signals: Signals, state: State) -> State:
        """The next state, once the losses ``[T]`` of the same batch after the update are known."""
        raise NotImplementedError


class Scalarisation(Method):
    """A method that turns the losses into one objective."""

    def objective(self, losses: Losses, signals: Signals, state: State) -> tuple[Tensor, State]:
        """The scalar to minimise, a differentiable function of ``losses`` ``[T]``, and the next state."""
        raise NotImplementedError

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """Task weights: the derivative of the objective with respect to each loss."""
        losses = tf.convert_to_tensor(signals.losses)
        with tf.GradientTape() as tape:
            tape.watch(losses)
            value, state = self.objective(losses, signals, state)
        return tape.gradient(value, losses, unconnected_gradients=tf.UnconnectedGradients.ZERO), state


class StagedMethod(Method):
    """A method with goals and bounds, which staged training (:mod:`tfmtl2r.training.staged`) sets between epochs.

    Options:
        tolerance: how much worse than what it reached a task may become, as a share of that loss.
    """

    tolerance: float

    def levels(self, num_tasks: int) -> np.ndarray:
        """``int64[T]``, the stage in which each task is a goal, from 0 on."""
        raise NotImplementedError

    def driven(self) -> Method:
        """The method that leaves goals and bounds to staged training.

        Raises:
            ValueError: for a method whose options fix them.
        """
        raise NotImplementedError

    def stage_state(self, goals: np.ndarray, bounds: np.ndarray) -> State:
        """What a stage replaces in the state.

        Args:
            goals: ``float32[T]``, 1 for the tasks to minimise, 0 for the others.
            bounds: ``float32[T]``, upper bounds on the losses, infinite where there is none.
        """
        raise NotImplementedError

    def multipliers(self, state: State) -> Tensor:
        """``[T]``, how hard each bound pulls."""
        raise NotImplementedError


class GramMethod(Method):
    """A method that is a function of the inner products of the task gradients."""

    needs: ClassVar[frozenset[str]] = frozenset({"gram"})

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """Task weights ``[T]`` (sum T for equal treatment, so that learning rates compare) and the next state."""
        raise NotImplementedError


class JacobianMethod(Method):
    """A method that truly needs every gradient."""

    needs: ClassVar[frozenset[str]] = frozenset({"rows"})
    modes: ClassVar[tuple[str, ...]] = ("parameters",)

    def combine(self, rows: Rows, signals: Signals, state: State) -> tuple[Vector, State]:
        """The update ``[P]`` from the gradients ``rows`` ``[T, P]`` and the next state."""
        raise NotImplementedError


def count_present(signals: Signals, dtype: Any) -> Tensor:
    """How many tasks are in the batch: what the weights sum to, so that one present task trains as if alone."""
    return tf.reduce_sum(tf.cast(signals.present, dtype))


def importance(signals: Signals) -> Vector:
    """The preference among the present tasks, scaled to sum to their number: all ones when tasks are equal."""
    weights = signals.preference * tf.cast(signals.present, signals.preference.dtype)
    total = tf.reduce_sum(weights)
    return tf.math.divide_no_nan(weights * count_present(signals, weights.dtype), total)


def check_mode(method: Method, gradients: str) -> None:
    """Refuses a mode of taking gradients that does not exist, or that a method cannot work with.

    Raises:
        ValueError: then.
    """
    if gradients not in MODES:
        raise InputError(f"gradients must be one of {', '.join(map(repr, MODES))}, not {gradients!r}")
    if gradients not in method.modes and method.needs & {"gram", "rows"}:
        raise InputError(f"{type(method).__name__} cannot run with gradients={gradients!r}, only with "
                         f"{' or '.join(map(repr, method.modes))}")
