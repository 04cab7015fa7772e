"""What a ranker knows at each stage of its life.

A ranker is *described* by its architecture, tasks and preference. It is *connected* once it knows its features: then
every variable of the architecture exists. It is *compiled* once it knows how to train; both may come first. It is
*set up* for lists or for plain rows by the first data that it trains on or is evaluated on.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tfmtl2r.methods.base import Method
from tfmtl2r.schema import Schema
from tfmtl2r.training.engine import Engine
from tfmtl2r.training.trackers import Trackers


@dataclasses.dataclass(frozen=True)
class Described:
    """What holds from the start.

    Args:
        preference: the variable ``float32[T]`` of sum 1, the one place where the ranker's preference is kept. The
            method's state takes it over as a weight.
    """

    preference: Any


@dataclasses.dataclass(frozen=True)
class Connected:
    """The features are known.

    Args:
        schema: all features of the data.
        graphs: compiled forward passes by the names of their inputs.
    """

    schema: Schema
    graphs: dict[tuple[str, ...], Any] = dataclasses.field(default_factory=dict)

    def __deepcopy__(self, memo: dict[int, Any]) -> Connected:
        """A copied ranker traces forward passes of its own: these would read the variables of the original."""
        return Connected(self.schema)


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What ``compile`` chose.

    Args:
        method: the balancing method.
        gradients: ``"parameters"`` or ``"features"``.
        train_metrics: whether training batches are measured by the metrics.
        seed: of everything random in a training step.
        options: what Keras was told.
    """

    method: Method
    gradients: str
    train_metrics: bool
    seed: int
    options: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class SetUp:
    """What trains and measures, for lists or for plain rows.

    Args:
        has_lists: which of the two.
        engine: computes training steps.
        trackers: running means of losses and metrics.
    """

    has_lists: bool
    engine: Engine
    trackers: Trackers
