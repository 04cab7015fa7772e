"""The penalties on the scores of one ranker: that of its architecture, and those of ``compile``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmtl2r import penalties
from tfmtl2r._backend import tf
from tfmtl2r.architectures.base import Architecture
from tfmtl2r.batch import Batch
from tfmtl2r.data.columns import label_values
from tfmtl2r.data.lists import Lists
from tfmtl2r.errors import InputError
from tfmtl2r.losses.base import reads_logits
from tfmtl2r.names import did_you_mean
from tfmtl2r.penalties.base import Penalty
from tfmtl2r.task import Task
from tfmtl2r.training.flat import as_lists, flat_lists, tiled
from tfmtl2r.training.objectives import TaskLosses, labels_of
from tfmtl2r.types import TaskScores, Tensor


class Penalties:
    """Computes all penalties on scores.

    Args:
        architecture: a connected architecture.
        losses: the tasks' losses.
        given: the penalties of ``compile``.

    Raises:
        ValueError: for a penalty that uses probabilities of a task whose scores are no logits.
    """

    def __init__(self, architecture: Architecture, losses: TaskLosses, given: Sequence[Penalty] = ()):
        self.architecture = architecture
        self.given = tuple(given)
        self.tasks = losses.tasks
        by_name = {task.name: (task, loss) for task, loss in zip(losses.tasks, losses.losses, strict=True)}
        for penalty in self.given:
            for name in penalty.probabilities:
                task, loss = by_name[name]
                if not (task.kind == "binary" and reads_logits(loss)):
                    raise InputError(
                        f"task {name!r} is {task.kind} with the loss {type(loss).__name__}, but the penalty "
                        f"{type(penalty).__name__} uses sigmoid(score) as the probability of a label of 1: make it "
                        f"Task({name!r}, kind=\"binary\", loss=\"bce\")"
                    )

    def __call__(self, scores: TaskScores, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """Sums and counts of all penalties over this replica's part, both ``float32[K]``; None without penalties.

        The objective contains each sum divided by its count over all replicas and parts.
        """
        found = [*self._of_architecture(scores, batch), *self._of_tasks(scores, batch)]
        if not found:
            return None
        sums, counts = zip(*found, strict=True)
        return tf.stack(sums), tf.stack(counts)

    def _of_architecture(self, scores: TaskScores, batch: Batch) -> list[tuple[Any, Any]]:
        asked = self.architecture.penalty(scores, batch)
        return [] if asked is None else [(tf.reduce_sum(asked[0] * asked[1]), tf.reduce_sum(asked[1]))]

    def _of_tasks(self, scores: TaskScores, batch: Batch) -> list[tuple[Any, Any]]:
        """The penalties of ``compile``. Scores with leading axes count as copies of the batch."""
        if not self.given:
            return []
        flat = {task.name: flat_lists(batch, scores[task.name]) for task in self.tasks}
        labels = {task.name: tiled(as_lists(batch, labels_of(batch, task)), flat[task.name][1]) for task in self.tasks}
        first, copies = next(iter(flat.values()))
        valid = tf.ones_like(first, tf.bool) if batch.is_rows else tiled(batch.valid, copies)
        found = []
        for penalty in self.given:
            total, count = penalty.compute({task: one for task, (one, _) in flat.items()}, labels, valid)
            found.append((penalty.weight * total, count))
        return found


def checked(given: Sequence[Any], tasks: Sequence[Task]) -> tuple[Penalty, ...]:
    """The penalties of ``compile``.

    Args:
        given: names with options, ``{"name": ..., option: value}``, or penalties.
        tasks: the tasks of the ranker.

    Raises:
        ValueError: for a penalty that reads a task that the ranker does not have, that is not fitted, or that could
            not be saved.
    """
    made, known = tuple(penalties.get(each) for each in given), [task.name for task in tasks]
    for penalty in made:
        for name in penalty.tasks:
            if name not in known:
                raise InputError(f"the penalty {type(penalty).__name__} reads the task {name!r}, which the ranker does "
                                 f"not have{did_you_mean(name, known) or '; its tasks: ' + ', '.join(known)}")
        penalty.check()
        penalties.registry.describe(penalty)  # raises for a penalty that could not be saved
    return made


def fitted(given: Sequence[Any], lists: Lists, tasks: Sequence[Task]) -> tuple[Penalty, ...]:
    """Penalties with what they count on the training split.

    Args:
        given: names with options, or penalties.
        lists: the training split.
        tasks: the tasks of the ranker.
    """
    by_name, found = {task.name: task for task in tasks}, []
    for penalty in map(penalties.get, given):
        labels = {name: _missing(lists, by_name[name]) for name in penalty.tasks if name in by_name}
        found.append(penalty.fit(labels) if len(labels) == len(penalty.tasks) else penalty)
    return checked(found, tasks)


def _missing(lists: Lists, task: Task) -> np.ndarray:
    """The labels of a task; a missing one is NaN."""
    labels = label_values(lists, task)
    return labels if task.kind == "regression" else np.where(labels < 0, np.nan, labels)
