"""The stages of a ranker's life, and the facts that are known in each stage.

A ranker is *described* by its architecture, tasks and preference. It is *connected* once it knows its features; then
all variables of the architecture exist. It is *compiled* after ``compile``, before or after it is connected. It is
*set up* for lists or for plain rows by the first data of a training or an evaluation.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypedDict

from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import Method
from tfmtl2r.penalties.base import Penalty
from tfmtl2r.schema import Schema
from tfmtl2r.training.distillation import Distillation
from tfmtl2r.training.engine import Engine
from tfmtl2r.training.finite import UNCHECKED, check_policy
from tfmtl2r.training.trackers import Trackers


class ModelOptions(TypedDict, total=False):
    """Keras' own options of a model."""

    name: str | None
    dtype: Any
    trainable: bool


class CompileOptions(TypedDict, total=False):
    """Keras' own options of ``compile``."""

    run_eagerly: bool
    steps_per_execution: int
    jit_compile: bool | str


@dataclasses.dataclass(frozen=True)
class Described:
    """The state of a new ranker.

    Args:
        preference: the variable ``float32[T]`` of the ranker's preference, sum 1. The variable also becomes a weight
            of the method's state.
    """

    preference: Any


@dataclasses.dataclass(frozen=True)
class Connected:
    """The state of a ranker that knows its features.

    Args:
        schema: all features of the data.
        biases: the biases of the untrained network, from which a ranker that does not know yet whether it reads lists
            can still start elsewhere.
        graphs: compiled forward passes by the names of their inputs.
    """

    schema: Schema
    biases: tuple[Any, ...] = ()
    graphs: dict[tuple[str, ...], Any] = dataclasses.field(default_factory=dict)

    def __deepcopy__(self, memo: dict[int, Any]) -> Connected:
        """Copies without the graphs, since these read the variables of the original ranker."""
        return Connected(self.schema, self.biases)


@dataclasses.dataclass(frozen=True)
class Compiled:
    """The arguments of ``compile``.

    Args:
        method: the balancing method.
        gradients: ``"parameters"`` or ``"features"``.
        train_metrics: whether metrics are computed on training batches.
        seed: seed of all random numbers in a training step.
        accumulate: number of parts of a batch.
        on_nan: what happens to a step whose numbers are not finite, see :mod:`tfmtl2r.training.finite`.
        augment, feature_dropout: random changes of training batches, see :mod:`tfmtl2r.training.augmentation`.
        penalties: penalties on scores, ready to use.
        options: the arguments of Keras' ``compile``.
        distillation: mixes the losses with those to a teacher; set after ``compile``
            (:func:`tfmtl2r.training.distillation.teach`).
    """

    method: Method
    gradients: str
    train_metrics: bool
    seed: int
    accumulate: int
    on_nan: str
    augment: float
    feature_dropout: float
    penalties: tuple[Penalty, ...]
    options: dict[str, Any]
    distillation: Distillation | None = None

    @property
    def checks(self) -> str:
        """The policy of the steps."""
        return UNCHECKED if self.options.get("jit_compile") is True else self.on_nan

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise InputError(f"accumulate is the number of parts of a batch, at least 1, not {self.accumulate}")
        check_policy(self.on_nan)


@dataclasses.dataclass(frozen=True)
class SetUp:
    """Engine and running means, for lists or for plain rows.

    Args:
        has_lists: True for lists, False for plain rows.
        engine: computes training steps.
        trackers: running means of losses and metrics.
    """

    has_lists: bool
    engine: Engine
    trackers: Trackers
