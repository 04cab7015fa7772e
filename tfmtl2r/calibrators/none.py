"""No calibration: values are those of the loss."""

from __future__ import annotations

import dataclasses

from tfmtl2r.calibrators.base import Calibrator
from tfmtl2r.registry import Card

CARD = Card(title="No calibration", note="for a task that shall keep the values of its loss")
__all__ = ["Uncalibrated"]


@dataclasses.dataclass(frozen=True)
class Uncalibrated(Calibrator):
    """Fits nothing. A task with this calibrator has the values of its loss, whatever the experiment's default is.

    >>> Uncalibrated().shape
    ()
    """
