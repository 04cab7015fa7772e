"""What a balancing method remembers between steps, as weights of the model."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfmtl2r._backend import keras
from tfmtl2r.methods._base import Method, State


class MethodState(keras.layers.Layer):
    """Preference, epoch counter and the method's own state: non-trainable weights, which files and checkpoints keep.

    Args:
        method: the balancing method.
        preference: importance of each task, sum 1.
    """

    def __init__(self, method: Method, preference: np.ndarray, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        self.preference = self._weight("preference", preference.astype(np.float32))
        self.epoch = self._weight("epoch", np.asarray(0, np.int64))
        initial = method.initial_state(len(preference))
        self.state = {key: self._weight(f"state_{key}", np.asarray(value)) for key, value in initial.items()}
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

    def read(self) -> State:
        """The state as tensors."""
        return {key: variable.value for key, variable in self.state.items()}

    def write(self, state: State) -> None:
        """Stores the next state."""
        for key, variable in self.state.items():
            variable.assign(state[key])


class CountEpochs(keras.callbacks.Callback):
    """Keeps the model's epoch counter, which some methods read."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """One more epoch is done."""
        self.model.method_state.epoch.assign_add(1)
