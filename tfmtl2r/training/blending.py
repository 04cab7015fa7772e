"""Blends the scores of a ranker's tasks into one score: what the ranker's kind of blend reads, and its checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmtl2r import blends
from tfmtl2r._backend import tf
from tfmtl2r.blends.base import Blend, Heads
from tfmtl2r.errors import InputError
from tfmtl2r.task import Task
from tfmtl2r.training.readings import Reading
from tfmtl2r.types import Described, Mask, Scores, TaskScores

SCORE = "score"
"""The key of the blended score beside the scores by task."""
ON_ROWS = ("deviation", "value", "sum")


@dataclasses.dataclass(frozen=True)
class Facts:
    """What blends read beside scores.

    Args:
        readings: task -> the meaning of its scores.
        deviations, constants: each ``[T]``, see :class:`tfmtl2r.blends.Heads`; None if they are not known.
    """

    readings: Mapping[str, Reading]
    deviations: np.ndarray | None = None
    constants: np.ndarray | None = None


def facts_of(model: Any, has_lists: bool | None = None) -> Facts:
    """The facts of a ranker, as it is now."""
    statistics = model.head_statistics
    known = (None, None) if statistics is None else (statistics.deviations, statistics.k)
    return Facts(model.readings(has_lists), *known)


def default_of(model: Any) -> Blend:
    """The ranker's own kind of blend; without a choice ``deviation``, or ``sum`` if no deviations are known."""
    if model.blend is not None:
        return model.blend
    return blends.get("sum" if facts_of(model).deviations is None else "deviation")


def check_suits(kind: Blend, readings: Mapping[str, Reading], has_lists: bool) -> None:
    """Refuses a kind of blend that the tasks and the data rule out, before a training.

    Raises:
        ValueError: for plain rows where the kind reads lists, or a task whose scores have no value that the kind reads.
    """
    name = blends.registry.name_of(type(kind))
    if "lists" in kind.needs and not has_lists:
        raise InputError(f"a blend of the kind {name!r} needs lists, but the data are plain rows: choose "
                         f"{', '.join(map(repr, ON_ROWS))}")
    if "values" in kind.needs:
        for task, reading in readings.items():
            if not reading.has_level:
                raise InputError(f"a blend of the kind {name!r} needs value_{task}, but the loss "
                                 f"{type(reading.loss).__name__} leaves the level of the scores free: choose another "
                                 "loss, calibrate the task (calibration = \"platt\"), or choose another kind of blend")


def check_usable(kind: Blend, facts: Facts, has_lists: bool) -> None:
    """Refuses a kind of blend that a trained ranker cannot serve.

    Raises:
        ValueError: as :func:`check_suits`, and for deviations or constants that are not known.
    """
    check_suits(kind, facts.readings, has_lists)
    name = blends.registry.name_of(type(kind))
    measure = "call tfmtl2r.evaluation.measure_heads(ranker, lists of train)"
    if "values" in kind.needs:
        for task, reading in facts.readings.items():
            if not reading.has_value:
                raise InputError(f"a blend of the kind {name!r} needs value_{task}, whose calibrator is not fitted: "
                                 "fit it (tfmtl2r.evaluation.calibration.fit_calibrators), or choose another kind")
    if "deviations" in kind.needs and facts.deviations is None:
        raise InputError(f"a blend of the kind {name!r} needs the deviation of each head on the training split, which "
                         f"this ranker does not know: train it, {measure}, or choose another kind of blend")
    if "constants" in kind.needs and facts.constants is None:
        raise InputError(f"a blend of the kind {name!r} needs a constant of each task's labels, which this ranker does "
                         f"not know: {measure} with a relevant item in every task, or leave constants out")


def blend_scores(
    kind: Blend, tasks: Sequence[Task], scores: TaskScores, valid: Mask | None, weights: Any, facts: Facts
) -> Scores:
    """The blended score of every item, in the shape of the scores.

    Args:
        kind: a kind of blend that the ranker can serve (:func:`check_usable`).
        tasks: tasks of the ranker.
        scores: task -> ``float32[B, L]`` (plain rows: ``[B]``).
        valid: ``bool[B, L]``; None for plain rows.
        weights: ``float32[B, T]`` or ``[1, T]``.
        facts: what the kind reads beside scores.
    """
    each = [tf.cast(scores[task.name], tf.float32) for task in tasks]
    needs = kind.needs
    values = ([facts.readings[task.name].value(score, scores) for task, score in zip(tasks, each, strict=True)]
              if "values" in needs else None)
    heads = Heads(
        tf.stack(each, axis=-1), valid, tuple(task.kind for task in tasks),
        None if values is None else tf.stack(values, axis=-1),
        facts.deviations if "deviations" in needs else None, facts.constants if "constants" in needs else None,
    )
    return kind.blend(heads, weights)


def described(kind: Blend) -> Described:
    """The name of a kind, or a mapping with its options, for files."""
    found = blends.registry.describe(kind)
    return found["name"] if len(found) == 1 else found
