"""What a pilot measures. Advice is a function of these facts alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from tfmtl2r.advice.opposition import Opposition


@dataclasses.dataclass(frozen=True)
class Goal:
    """One task.

    Args:
        name: its name.
        kind: ``"graded"``, ``"binary"`` or ``"regression"``.
        known: share of the training items with a label.
        positive: share of the labelled training items with a label above 0; NaN for a regression.
        useful: lists with a positive label (labelled rows, for a regression or plain rows) in a batch, on average.
        length: length of its mean gradient in the shared layers, without noise.
        noise: variance of a batch's gradient over the squared length of the mean gradient.
        loss: name of its loss.
    """

    name: str
    kind: str
    known: float = 1.0
    positive: float = math.nan
    useful: float = math.inf
    length: float = 1.0
    noise: float = 1.0
    loss: str = ""


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two tasks: how their gradients agree at a common score, and in the shared layers of the ranker.

    Args:
        first, second: names of the tasks.
        order: gradients of one score that orders the items for both; None if it was not measured.
        layers: gradients of the shared layers; None if there are no such layers.
    """

    first: str
    second: str
    order: Opposition | None = None
    layers: Opposition | None = None


@dataclasses.dataclass(frozen=True)
class Sharing:
    """A task of a ranker with equal weights against the same network that learns only this task, on vali.

    Args:
        task: name of the task.
        metric: its first metric.
        together, alone: the metric of both, mean over seeds.
        lost: how much worse it is together; positive if worse.
        error: standard error, paired over lists.
        p: p-value of the one-sided test that nothing is lost.
        gain: how much better training alone is than a constant score.
        every_seed: whether every seed lost.
    """

    task: str
    metric: str
    together: float
    alone: float
    lost: float
    error: float
    p: float
    gain: float
    every_seed: bool = True


@dataclasses.dataclass(frozen=True)
class Trial:
    """A suggestion that the pilot trained as long as equal weights, with the same seeds.

    Args:
        name: name of the suggestion.
        gains: for each task, how much better its first metric on vali is than with equal weights, as a share of what
            equal weights gain over a constant score.
        gain: the mean over tasks; NaN if it could not be trained, or if no task has a metric to compare.
        error: its standard error over lists. It holds no noise of the training.
    """

    name: str
    gains: Mapping[str, float]
    gain: float
    error: float


@dataclasses.dataclass(frozen=True)
class Facts:
    """All facts of a pilot.

    Args:
        goals: the tasks.
        pairs: every two tasks.
        sharing: the tasks that were also trained alone.
        has_lists: whether the items are in lists.
        width: numbers per item that all heads read, the narrowest place of the shared layers; None if unknown.
        worries: lines about gates.
        batch_size: lists (or rows) per batch.
        lists: number of training lists (or rows).
        steps: steps of each training of the pilot.
        seeds: trainings of each kind.
        trials: what was tried of the suggestions that follow from the other facts.
    """

    goals: Sequence[Goal]
    pairs: Sequence[Pair] = ()
    sharing: Sequence[Sharing] = ()
    has_lists: bool = True
    width: int | None = None
    worries: Sequence[str] = ()
    batch_size: int = 32
    lists: int = 1000
    steps: int = 0
    seeds: int = 1
    trials: Sequence[Trial] = ()


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """Something worth a try.

    Args:
        name: a short name, part of a file's name.
        reason: one or two sentences.
        changes: dotted key of the experiment -> value; empty for a hint without an experiment.
    """

    name: str
    reason: str
    changes: Mapping[str, object] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Advice:
    """What follows from the facts.

    Args:
        equal_weights: whether equal weights are likely enough.
        conflicts: pairs of tasks that fight.
        losers: tasks that lose against training alone.
        verdict: sentences.
        suggestions: what is worth a try, the most promising first.
    """

    equal_weights: bool
    conflicts: Sequence[tuple[str, str]]
    losers: Sequence[str]
    verdict: Sequence[str]
    suggestions: Sequence[Suggestion]
