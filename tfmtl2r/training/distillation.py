"""Distillation: the losses of tasks are mixed with losses to a teacher's scores.

The scores of the teacher are labels of the training batches under names of their own (:func:`column_of`). Batches
without them, such as those of validation, have the losses of the tasks alone. Serving needs no teacher.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import Batch
from tfmtl2r.layers import randomness
from tfmtl2r.losses.base import Loss
from tfmtl2r.task import Task
from tfmtl2r.training.flat import as_lists, flat_lists, item_weights, tiled
from tfmtl2r.types import PerList, TaskScores, Tensor

if TYPE_CHECKING:
    from tfmtl2r.training.model import MultiTaskRanker


def column_of(task: str) -> str:
    """The column with a teacher's scores of a task, and their name among the labels of a batch."""
    return f"teacher/{task}"


def columns_of(tasks: Sequence[str]) -> list[Task]:
    """The columns of these tasks as tasks, with which :func:`tfmtl2r.data.batches` puts them into batches."""
    return [Task(column_of(task), kind="regression") for task in tasks]


class Distillation:
    """Mixes losses of labels and losses to a teacher: ``(1 - m) w l + m v c d`` for each list.

    ``l`` is the task's loss with weight ``w``, ``d`` the distillation loss with weight ``v``, and the list counts with
    the greater of the two weights. A task with m = 0 keeps its loss exactly. ``c`` is 1 before :meth:`balance`.

    Args:
        loss: the distillation loss, whose labels are the teacher's scores.
        mix: task -> m, between 0 and 1; 0 for a task that is not named.
        tasks: names of all tasks, in order.
        anneal: factor of the mix in the last epoch; the factors of the epochs before are linear, from 1.
    """

    def __init__(self, loss: Loss, mix: Mapping[str, float], tasks: Sequence[str], anneal: float = 1.0):
        self.loss = loss
        self.tasks = tuple(tasks)
        self.given = np.array([mix.get(task, 0.0) for task in tasks], np.float32)
        self.anneal = anneal
        self.mix = tf.Variable(self.given, trainable=False)
        self.scale = np.ones(len(self.tasks), np.float32)

    @property
    def taught(self) -> tuple[str, ...]:
        """The tasks with a mix above 0."""
        return tuple(task for task, share in zip(self.tasks, self.given, strict=True) if share > 0)

    def balance(self, per_list: Callable[[Batch, TaskScores], tuple[PerList, PerList]], data: Iterable[Batch]) -> None:
        """Sets c of each taught task so that both of its losses have gradients of the same length, before any training.

        ``c = rms |w dl/ds| / rms |v dd/ds|``: root mean squares over the lists that have the loss, at equal scores s. A
        summed loss over pairs is a hundred times as long as a mean over items, so that otherwise m would not be the
        teacher's share, and tasks with labels would drown those with teachers.

        Args:
            per_list: losses and weights of the labels; see :meth:`tfmtl2r.training.objectives.TaskLosses.per_list`.
            data: batches with the columns of the teacher.
        """
        squares = np.zeros((2, len(self.tasks)))
        counts = np.zeros((2, len(self.tasks)))
        for batch in data:
            scores = {task: tf.zeros(tf.shape(batch.valid)) for task in self.tasks}
            with randomness.scope(randomness.step_seed(0, 0)), tf.GradientTape(persistent=True) as tape:
                tape.watch(list(scores.values()))
                labelled = dict(zip(self.tasks, zip(*per_list(batch, scores), strict=True), strict=True))
                taught = {task: self._of_task(batch, scores[task], task) for task in self.taught}
                both = [{task: (values * weights, weights) for task, (values, weights) in found.items()}
                        for found in (labelled, taught)]
            for kind, found in enumerate(both):
                for index, task in enumerate(self.tasks):
                    gradient = tape.gradient(found[task][0], scores[task]) if task in found else None
                    if gradient is not None:
                        squares[kind, index] += float(tf.reduce_sum(tf.square(gradient)))
                        counts[kind, index] += float(tf.math.count_nonzero(found[task][1]))
        ours, theirs = np.sqrt(squares / np.maximum(counts, 1))
        self.scale = np.where((ours > 0) & (theirs > 0), ours / np.where(theirs > 0, theirs, 1), 1.0).astype(np.float32)

    def mixed(self, batch: Batch, scores: TaskScores, values: PerList, weights: PerList) -> tuple[PerList, PerList]:
        """The mixed losses and weights of a batch, both ``float32[T, B]``.

        Args:
            batch: the batch.
            scores: scores per task, ``float32[..., B, L]``.
            values, weights: losses and weights of the labels, ``float32[T, B]``.
        """
        if not any(column_of(task) in batch.labels for task in self.taught):
            return values, weights
        found = [self._of_task(batch, scores[task], task) if task in self.taught else
                 (tf.zeros_like(values[0]), tf.zeros_like(values[0])) for task in self.tasks]
        losses, counts = (tf.stack(part) for part in zip(*found, strict=True))
        share = self.mix[:, None]
        both = tf.where(share > 0, tf.maximum(weights, counts), weights)
        total = (1.0 - share) * weights * values + share * counts * self.scale[:, None] * losses
        return tf.where(share > 0, tf.math.divide_no_nan(total, both), values), both

    def _of_task(self, batch: Batch, scores: Any, task: str) -> tuple[Tensor, Tensor]:
        """The distillation loss of one task and its weights, both ``[B]``."""
        flat, copies = flat_lists(batch, scores)
        labels = tiled(as_lists(batch, tf.cast(batch.labels[column_of(task)], tf.float32)), copies)
        mask = tf.ones_like(flat, tf.bool) if batch.is_rows else tiled(batch.valid, copies)
        importance = item_weights(batch, batch.weights, task, flat, copies)
        found = self.loss.per_list(labels, flat, mask, importance)
        if copies is None:
            return found
        first, second = (tf.reduce_mean(tf.reshape(part, [copies, -1]), axis=0) for part in found)
        return first, second


class Annealing(keras.callbacks.Callback):
    """Sets the mix of each epoch.

    Args:
        distillation: the distillation.
        epochs: the number of epochs.
    """

    def __init__(self, distillation: Distillation, epochs: int):
        super().__init__()
        self.distillation, self.epochs = distillation, epochs

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        done = min(1.0, epoch / max(1, self.epochs - 1))
        factor = 1.0 + (self.distillation.anneal - 1.0) * done
        self.distillation.mix.assign(factor * self.distillation.given)


def teach(model: MultiTaskRanker, distillation: Distillation | None) -> None:
    """Sets the distillation of the following trainings of a compiled ranker; None for none."""
    compiled = model._choices()
    if compiled.distillation is not distillation:
        model._compiled, model._set_up = dataclasses.replace(compiled, distillation=distillation), None
        model._retrace()
