"""The state of training between steps, as weights of the model: preference, epoch and the method's state."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmtl2r._backend import keras, tf
from tfmtl2r.layers import randomness
from tfmtl2r.methods.base import Method, State
from tfmtl2r.preferences import drawn
from tfmtl2r.training.finite import check_weights
from tfmtl2r.types import Tensor


@dataclasses.dataclass(frozen=True)
class Clock:
    """Counters, seed and preference of a training step, equal on every replica.

    Args:
        step: ``int64``, number of training steps so far.
        epoch: ``int64``, number of completed epochs.
        seed: ``int32[2]``, seed of all random numbers in the step.
        preference: ``float32[T]``, sum 1: the preference of the balancing method, and the input of a conditioned
            ranker.
    """

    step: Any
    epoch: Any
    seed: Any
    preference: Any


def new_preference(values: np.ndarray) -> keras.Variable:
    """The variable of a ranker's preference, which becomes a weight of its :class:`MethodState`."""
    with keras.name_scope("method_state"):
        return keras.Variable(values, dtype="float32", trainable=False, name="preference",
                              aggregation="only_first_replica")


class MethodState(keras.layers.Layer):
    """Preference, epoch counter and the method's state, as non-trainable weights that files and checkpoints contain.

    Args:
        method: the balancing method.
        preference: a variable, importance of each task, sum 1.
        shapes: number P of shared parameters for each of the method's states. There is one state per balanced group of
            variables.
        seed: seed of all random numbers in a training step. It is no weight: files contain it among the arguments of
            ``compile``.
    """

    def __init__(
        self, method: Method, preference: Any, shapes: Sequence[int | None] = (None,), seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(dtype="float32", **kwargs)
        # A variable, so that a new seed needs no new trace.
        self.seed = tf.Variable(seed, dtype=tf.int64, trainable=False, name="seed",
                                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
        self.preference = preference
        self.shapes = list(shapes)
        self.epoch = self._weight("epoch", np.asarray(0, np.int64))
        self.unsettled = self._weight("unsettled", np.asarray(0, np.int64))
        self.states: list[dict[str, Any]] = []
        for group, parameters in enumerate(shapes):
            initial = method.initial_state(preference.shape[0], parameters)
            self.states.append({
                key: self._weight(f"state_{group}_{key}", _single(np.asarray(value))) for key, value in initial.items()
            })
        self.built = True

    def fits(self, method: Method, shapes: Sequence[int | None]) -> bool:
        """Whether the states are those of a method for these numbers of parameters. Most do not depend on them."""
        if list(shapes) == self.shapes:
            return True
        wanted = [method.initial_state(self.preference.shape[0], parameters) for parameters in shapes]
        return [{key: np.shape(value) for key, value in state.items()} for state in wanted] == [
            {key: tuple(variable.shape) for key, variable in state.items()} for state in self.states]

    def _weight(self, name: str, value: np.ndarray) -> keras.Variable:
        return self.add_weight(
            name=name,
            shape=value.shape,
            dtype=str(value.dtype),
            initializer=lambda shape, dtype=None: keras.ops.convert_to_tensor(value, dtype=dtype),
            trainable=False,
            # Every replica computes the same next state.
            aggregation="only_first_replica",
        )

    def clock(self, iterations: Tensor, concentration: float | None) -> Clock:
        """The clock of a step.

        Args:
            iterations: number of training steps so far.
            concentration: concentration of a conditioned ranker, whose steps draw their preference; None otherwise.
        """
        step = tf.cast(iterations, tf.int64)
        preference = tf.convert_to_tensor(self.preference)
        if concentration is not None:
            preference = drawn(preference.shape[0], concentration, self.draws(step))
        return Clock(step, self.epoch.value, randomness.step_seed(self.seed, step), preference)

    def draws(self, step: Tensor) -> Tensor:
        """``int32[2]``, the seed of the preferences that a step draws."""
        return randomness.step_seed(self.seed + 1, step)

    def read(self) -> list[State]:
        """The states as tensors."""
        return [{key: variable.value for key, variable in state.items()} for state in self.states]

    def write(self, states: Sequence[State]) -> None:
        """Stores the next states."""
        for variables, values in zip(self.states, states, strict=True):
            for key, variable in variables.items():
                variable.assign(values[key])


def _single(value: np.ndarray) -> np.ndarray:
    """Training computes in float32."""
    return value.astype(np.float32) if value.dtype == np.float64 else value


class CountEpochs(keras.callbacks.Callback):
    """Keeps the model's epoch counter, which some methods read."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds 1 to the counter, if the weights are finite."""
        check_weights(self.model.architecture.variables, f"epoch {epoch + 1}")
        self.model.method_state.epoch.assign_add(1)
