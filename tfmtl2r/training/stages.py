"""What a training loop asks about its stages, and a training in one stage with early stopping."""

from __future__ import annotations

import logging
import math
from typing import Any, Protocol

import numpy as np

from tfmtl2r.names import STOP_ON, STOP_ON_ALONG, LogName
from tfmtl2r.preferences import leaning
from tfmtl2r.training.state import Best, Training
from tfmtl2r.training.trackers import directions

log = logging.getLogger("tfmtl2r")


class Stages(Protocol):
    """The plan of a training: its stages, the end of each stage and the weights that it keeps.

    A plan keeps everything that it finds in :class:`Training`, whose ``best`` and ``notes`` it owns. A training that
    continues from a checkpoint then goes on as if it had not stopped.
    """

    def begin(self, training: Training, resumed: bool) -> bool:
        """Prepares the stage ``training.stage``.

        Args:
            training: the state of the training.
            resumed: True if the training continues inside the stage, and all variables are restored.

        Returns:
            False if there is no such stage; the training then ends.
        """

    def after_epoch(self, training: Training, logs: dict[str, float]) -> bool:
        """Compares the weights of a finished epoch with the best ones, and adds values to the epoch's logs.

        Returns:
            True to end the stage.
        """

    def finish(self, training: Training) -> None:
        """Ends the stage: assigns the weights to keep."""


class OneStage:
    """A training without stages, which may stop early and then keeps its best epoch.

    Args:
        model: the ranker.
        patience: number of epochs without a larger ``val_stop_on`` after which training stops; 0 trains all epochs and
            keeps the last.
        first: number of the first epoch, from 1, that may be kept.
        along: validation data on which a conditioned ranker is evaluated at several preferences after every epoch. The
            mean of ``stop_on`` over them is logged as ``val_stop_on_along`` and decides in place of ``val_stop_on``.
            The preferences are equal importance and, for each task in turn, 0.8 plus the task's equal share of the
            remaining 0.2 (:func:`tfmtl2r.preferences.leaning`). The default preference alone would ignore the rest of
            the front.
        stop_on: the name of another logged number of the validation, such as ``"val_click_ndcg@5"``, that takes the
            place of ``stop_on``; with a minus sign if small values are good.
    """

    def __init__(self, model: Any, patience: int = 0, first: int = 1, along: Any = None, stop_on: str | None = None):
        self.model = model
        self.chosen = STOP_ON if stop_on is None else stop_on.removeprefix("val_")
        self.patience = patience
        self.first = first
        self.along = along
        self.monitor = str(LogName(STOP_ON if along is None else STOP_ON_ALONG, validation=True))

    def begin(self, training: Training, resumed: bool) -> bool:
        """There is one stage, and nothing to prepare."""
        return training.stage == 0

    def after_epoch(self, training: Training, logs: dict[str, float]) -> bool:
        """Keeps the epoch if it is better. A value that is not a number is worse than any number."""
        watched, own = str(LogName(STOP_ON, validation=True)), f"val_{self.chosen}"
        if own in logs and own != watched:
            logs[watched] = self._sign() * logs[own]
        if not self.patience:
            return False
        if self.along is not None:
            logs[self.monitor] = self._along()
        epoch = training.stage_epochs + 1
        if self.monitor not in logs or epoch < self.first:
            return False
        value = -math.inf if math.isnan(logs[self.monitor]) else logs[self.monitor]
        if training.best is None or value > training.best.rank[0]:
            training.best = Best(epoch, [value], self.model.get_weights())
        return epoch - training.best.epoch >= self.patience

    def finish(self, training: Training) -> None:
        """Assigns the best weights, and marks their epoch in the history."""
        if training.best is not None:
            self.model.set_weights(training.best.weights)
        if self.patience:
            best = training.epoch if training.best is None else training.best.epoch
            training.history["kept"] = [float(epoch == best) for epoch in range(1, training.epoch + 1)]

    def _sign(self) -> int:
        return directions(self.model.tasks, self.model.has_lists)[self.chosen]

    def _along(self) -> float:
        model = self.model
        usual = np.asarray(model.preference)
        found = []
        try:
            for preference in leaning(len(model.tasks), 0.8):
                model.set_preference(preference)
                found.append(model.evaluate(self.along, verbose=0, return_dict=True)[self.chosen])
        finally:
            model.set_preference(usual)
        return self._sign() * float(np.mean(found))
