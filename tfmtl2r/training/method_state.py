"""What a balancing method remembers between steps, as weights of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmtl2r._backend import keras, tf
from tfmtl2r.methods.base import Method, State


class MethodState(keras.layers.Layer):
    """Preference, epoch counter and the method's own state: non-trainable weights, which files and checkpoints keep.

    Args:
        method: the balancing method.
        preference: importance of each task, sum 1.
        shapes: shared parameters P of each of the method's states, one state per balanced group of variables.
        seed: of everything random in a training step. No weight: a file says it where it says how to compile.
    """

    def __init__(
        self, method: Method, preference: np.ndarray, shapes: Sequence[int | None] = (None,), seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(dtype="float32", **kwargs)
        # A variable, so that a traced step serves every seed.
        self.seed = tf.Variable(seed, dtype=tf.int64, trainable=False, name="seed",
                                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
        self.preference = self._weight("preference", preference.astype(np.float32))
        self.epoch = self._weight("epoch", np.asarray(0, np.int64))
        self.unsettled = self._weight("unsettled", np.asarray(0, np.int64))
        self.states: list[dict[str, Any]] = []
        for group, parameters in enumerate(shapes):
            initial = method.initial_state(len(preference), parameters)
            self.states.append({
                key: self._weight(f"state_{group}_{key}", _single(np.asarray(value))) for key, value in initial.items()
            })
        self.built = True

    def _weight(self, name: str, value: np.ndarray) -> Any:
        return self.add_weight(
            name=name,
            shape=value.shape,
            dtype=str(value.dtype),
            initializer=lambda shape, dtype=None: keras.ops.convert_to_tensor(value, dtype=dtype),
            trainable=False,
            # Every replica computes the same next state.
            aggregation="only_first_replica",
        )

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
        """One more epoch is done."""
        self.model.method_state.epoch.assign_add(1)
