"""Looks at a ranker that reads the preference along the preference, not at its default one alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfmtl2r._backend import keras
from tfmtl2r.preferences import leaning

LOG = "val_blend_along"


class BlendAlong(keras.callbacks.Callback):
    """Logs ``val_blend_along`` after every epoch: the mean over a few preferences of the blend that each asks for.

    The preferences are equal importance, and 0.8 for each task in turn beside its equal share of the remaining 0.2
    (:func:`tfmtl2r.preferences.leaning`). Early stopping that looked at the default preference alone would choose the
    epoch that is best there, whatever became of the rest of the front. A callback that reads the number comes later in
    the list of callbacks.

    Args:
        validation: what ``evaluate`` takes, such as the batches that ``fit`` validates on.
    """

    def __init__(self, validation: Any) -> None:
        super().__init__()
        self.validation = validation

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        model: Any = self.model
        usual = np.asarray(model.preference)
        blends = []
        try:
            for preference in leaning(len(model.tasks), 0.8):
                model.set_preference(preference)
                blends.append(model.evaluate(self.validation, verbose=0, return_dict=True)["blend"])
        finally:
            model.set_preference(usual)
        if logs is not None:
            logs[LOG] = float(np.mean(blends))
