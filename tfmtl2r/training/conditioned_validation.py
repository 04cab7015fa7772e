"""Evaluates a preference-conditioned ranker at several preferences after each epoch."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfmtl2r._backend import keras
from tfmtl2r.names import STOP_ON, STOP_ON_ALONG, LogName
from tfmtl2r.preferences import leaning


class StopOnAlong(keras.callbacks.Callback):
    """Logs ``val_stop_on_along`` after every epoch: the mean of ``stop_on`` over a few preferences.

    The preferences are equal importance and, for each task in turn, 0.8 plus the task's equal share of the remaining
    0.2 (:func:`tfmtl2r.preferences.leaning`). Early stopping at the default preference alone would ignore the rest of
    the front. A callback that reads this number must come later in the list of callbacks.

    Args:
        validation: validation data, in a form that ``evaluate`` accepts.
    """

    def __init__(self, validation: Any) -> None:
        super().__init__()
        self.validation = validation

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        model: Any = self.model
        usual = np.asarray(model.preference)
        found = []
        try:
            for preference in leaning(len(model.tasks), 0.8):
                model.set_preference(preference)
                found.append(model.evaluate(self.validation, verbose=0, return_dict=True)[STOP_ON])
        finally:
            model.set_preference(usual)
        if logs is not None:
            logs[str(LogName(STOP_ON_ALONG, validation=True))] = float(np.mean(found))
