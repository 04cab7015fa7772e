"""The fitted calibrators of a ranker's tasks, as variables that its files and exports contain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmtl2r import calibrators
from tfmtl2r._backend import keras, tf
from tfmtl2r.calibrators.base import Calibrator
from tfmtl2r.task import Task
from tfmtl2r.types import Tensor


class Calibration:
    """A calibrator with its fitted numbers.

    Args:
        calibrator: the calibrator.
        numbers: variable ``float32`` of the calibrator's shape.
        fitted: variable ``float32[]``, 1 once the numbers are fitted, 0 before.
    """

    def __init__(self, calibrator: Calibrator, numbers: Any, fitted: Any):
        self.calibrator, self.numbers, self.fitted = calibrator, numbers, fitted

    @property
    def is_fitted(self) -> bool:
        """Whether the numbers are fitted now."""
        with tf.init_scope():  # this is also read while a signature or a step is traced
            return bool(np.array(self.fitted) > 0)

    def fit(self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray, columns: Any = None) -> None:
        """Fits the numbers; see :meth:`tfmtl2r.calibrators.Calibrator.fit`."""
        self.numbers.assign(self.calibrator.fit(scores, labels, weights, columns))
        self.fitted.assign(1.0)

    def reset(self) -> None:
        """Forgets the fit."""
        self.fitted.assign(0.0)

    def __call__(self, scores: Any, otherwise: Any, columns: Any = None) -> Tensor:
        """Probabilities of scores; ``otherwise`` before the fit, or NaN if this is None.

        Args:
            scores: ``float32[...]``.
            otherwise: ``float32[...]``, or None.
            columns: what the calibrator reads beside scores, see :meth:`tfmtl2r.calibrators.Calibrator.apply`.
        """
        scores = tf.cast(scores, tf.float32)
        found = self.calibrator.apply(scores, tf.convert_to_tensor(self.numbers), columns)
        otherwise = np.float32(np.nan) if otherwise is None else tf.cast(otherwise, tf.float32)
        return tf.where(tf.convert_to_tensor(self.fitted) > 0, found, otherwise)


class Calibrations(keras.layers.Layer):
    """The variables of all calibrations.

    Args:
        given: task -> its calibrator.
    """

    def __init__(self, given: dict[str, Calibrator], **kwargs: Any):
        super().__init__(dtype="float32", trainable=False, **kwargs)
        self.by_task = {}
        for number, (task, calibrator) in enumerate(given.items()):
            numbers, fitted = (self.add_weight(name=f"{name}_{number}", shape=shape, initializer="zeros",
                                               trainable=False)
                               for name, shape in (("numbers", calibrator.shape), ("fitted", ())))
            self.by_task[task] = Calibration(calibrator, numbers, fitted)
        self.built = True

    def reset(self) -> None:
        """Forgets all fits."""
        for calibration in self.by_task.values():
            calibration.reset()


def calibrations_of(tasks: Sequence[Task]) -> Calibrations | None:
    """The variables of the calibrations of these tasks; None if no task has one."""
    given = {task.name: calibrators.get(task.calibration) for task in tasks if task.calibration is not None}
    given = {name: calibrator for name, calibrator in given.items() if calibrator.shape}
    return Calibrations(given, name="calibrations") if given else None
