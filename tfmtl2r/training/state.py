"""The state of a training beside the variables of the ranker and its optimizer."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass
class Best:
    """The weights that a stage would keep if it ended now.

    Args:
        epoch: number of epochs of the stage after which the ranker had these weights.
        rank: numbers by which the plan of the stage compares candidates.
        weights: the weights of the architecture.
        notes: further plain data of the plan.
    """

    epoch: int
    rank: list[float]
    weights: list[np.ndarray]
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Training:
    """A position in a training, and everything that was found until then.

    A checkpoint contains this object and all variables (:mod:`tfmtl2r.training.checkpoints`). The random numbers of a
    step depend on seed and step only, so that no further state is needed.

    Args:
        stage: number of the stage, from 0.
        epoch: number of finished epochs of all stages.
        stage_epochs: number of finished epochs of this stage.
        step: number of finished steps of the running epoch.
        ended: whether the stage ends before its last epoch.
        logs: losses and metrics of the running epoch until its last finished step, as a checkpoint needs them.
        history: values of every epoch by log name.
        best: the weights to keep; None without a candidate.
        notes: plain data of the plan, for example results of earlier stages.
    """

    stage: int = 0
    epoch: int = 0
    stage_epochs: int = 0
    step: int = 0
    ended: bool = False
    logs: dict[str, float] = dataclasses.field(default_factory=dict)
    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    best: Best | None = None
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)

    def next_stage(self) -> None:
        """Moves the position to the start of the next stage."""
        self.stage += 1
        self.stage_epochs, self.ended, self.best = 0, False, None

    def described(self) -> tuple[str, list[np.ndarray]]:
        """The state as text, and the arrays that it has beside it."""
        plain = {**vars(self), "best": None}
        if self.best is not None:
            plain["best"] = {**vars(self.best), "weights": []}
        return json.dumps(plain), [] if self.best is None else self.best.weights

    def become(self, text: str, arrays: Sequence[np.ndarray]) -> None:
        """Takes the state that :meth:`described` has returned."""
        plain = json.loads(text)
        if plain["best"] is not None:
            plain["best"] = Best(**{**plain["best"], "weights": list(arrays)})
        vars(self).update(plain)
