"""Every task's loss over a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfmtl2r import ranking
from tfmtl2r._backend import tf
from tfmtl2r.architectures.base import small_head_of
from tfmtl2r.batch import Batch
from tfmtl2r.errors import InputError, InputKeyError
from tfmtl2r.layers import randomness
from tfmtl2r.losses.base import Loss, reads_logits
from tfmtl2r.task import Task
from tfmtl2r.training.distillation import Distillation
from tfmtl2r.training.flat import as_lists, flat_lists, item_weights, tiled
from tfmtl2r.training.readings import Reading, loss_of
from tfmtl2r.training.replicas import Replicas
from tfmtl2r.types import Labels, PerList, TaskScores, Tensor


class LossValues(NamedTuple):
    """Losses of one batch.

    Args:
        local: ``float32[T]``, this replica's share: its sum over lists divided by ``count``.
        total: ``float32[T]``, the sum of all replicas' shares.
        count: ``float32[T]``, total weight of the lists that have a loss, over all replicas.
        present: ``bool[T]``, whether any list has a loss.
        lists: ``float32[T, B]``, loss of each list of this replica; 0 for a list without a loss.
    """

    local: Any
    total: Any
    count: Any
    present: Any
    lists: Any = None


class TaskLosses:
    """The losses of all tasks. Tasks with the same loss are evaluated as one stacked batch.

    Args:
        tasks: the tasks, in order.
        has_lists: whether batches contain lists (plain rows otherwise).
        small_heads: weight of a task's loss on its auxiliary scores, if a forward pass returns them. The gradient of
            this auxiliary loss is added to the gradient of the task; its value is not added to the task's loss.
        probabilities: whether the architecture uses ``sigmoid(score)`` of every task as a probability.

    Raises:
        ValueError: for a listwise loss on plain rows, or, with ``probabilities``, a task whose scores are no logits.
    """

    def __init__(self, tasks: Sequence[Task], has_lists: bool, small_heads: float = 0.0, probabilities: bool = False):
        self.tasks = tuple(tasks)
        self.small_heads = small_heads
        self.losses = [loss_of(task, has_lists) for task in self.tasks]
        self.targets = [Reading(task, loss) for task, loss in zip(self.tasks, self.losses, strict=True)]
        for task, loss in zip(self.tasks, self.losses, strict=True):
            if loss.listwise and not has_lists:
                raise InputError(
                    f"task {task.name!r}: {type(loss).__name__} compares the items of a list, but the batch has plain "
                    "rows (no list_size); give the task a pointwise loss such as 'bce' or 'mse', or group rows by a "
                    "list id"
                )
            if probabilities and not (task.kind == "binary" and reads_logits(loss)):
                raise InputError(
                    f"task {task.name!r} is {task.kind} with the loss {type(loss).__name__}, but this architecture "
                    "uses sigmoid(score) of every task as the probability of a step of a funnel: make it "
                    f"Task({task.name!r}, kind=\"binary\", loss=\"bce\"), or choose an architecture without a funnel"
                )
        self.distillation: Distillation | None = None
        self._groups: list[list[int]] = []
        for index, loss in enumerate(self.losses):
            for group in self._groups:
                if self.losses[group[0]] == loss:
                    group.append(index)
                    break
            else:
                self._groups.append([index])

    def with_teacher(self, distillation: Distillation | None) -> TaskLosses:
        """The same losses, mixed with those of a distillation."""
        self.distillation = distillation
        return self

    def __call__(self, batch: Batch, scores: TaskScores, replicas: Replicas) -> LossValues:
        """Evaluates all losses over the batch; see :meth:`per_list` and :meth:`reduce`."""
        return self.reduce(*self.per_list(batch, scores), replicas)

    def per_list(self, batch: Batch, scores: TaskScores) -> tuple[PerList, PerList]:
        """Loss and weight of every list, both ``float32[T, B]``.

        Args:
            batch: labels per task, and weights if given.
            scores: per task ``float32[..., B, L]`` (plain rows ``[..., B]``), with the same leading axes for all tasks
                of one loss. The loss of a list is the mean over the leading axes.

        Raises:
            KeyError: if a task has no labels in the batch.
        """
        values: list[Any] = [None] * len(self.tasks)
        weights: list[Any] = [None] * len(self.tasks)
        for group in self._groups:
            group_values, group_weights = self._group(group, batch, scores)
            small: dict[str, Any] = {self.tasks[i].name: scores.get(small_head_of(self.tasks[i].name)) for i in group}
            if self.small_heads and None not in small.values():
                beside = self.small_heads * self._group(group, batch, small)[0]
                # Changes the gradient, not the value: bounds and logarithms refer to the task's own loss.
                group_values += beside - tf.stop_gradient(beside)
            for row, index in enumerate(group):
                values[index] = group_values[row]
                weights[index] = group_weights[row]
        found = tf.stack(values), tf.stack(weights)
        if self.distillation is not None:
            found = self.distillation.mixed(batch, scores, *found)
        return found if batch.shares is None else (found[0], found[1] * tf.transpose(batch.shares))

    def reduce(self, values: Any, weights: Tensor, replicas: Replicas) -> LossValues:
        """Sums over this replica's lists, divided by the weight of the lists of all replicas."""
        mine, of_lists = tf.reduce_sum(weights, axis=1), tf.reduce_sum(values * weights, axis=1)
        count, whole = mine, of_lists
        if replicas.count > 1:  # one collective operation for both
            count, whole = tf.unstack(replicas.sum(tf.stack([mine, tf.stop_gradient(of_lists)])))
        local, total = (tf.math.divide_no_nan(each, count) for each in (of_lists, whole))
        return LossValues(local, total, count, count > 0, tf.math.multiply_no_nan(tf.stop_gradient(values), weights))

    def _group(self, group: list[int], batch: Batch, scores: TaskScores) -> tuple[Tensor, Tensor]:
        """Losses and weights ``[n, B]`` of the n tasks of a group, from one evaluation."""
        tasks = [self.tasks[index] for index in group]
        per_task, copies = zip(*(flat_lists(batch, scores[task.name]) for task in tasks), strict=True)
        stacked_scores = tf.concat(per_task, 0)
        targets = [self.targets[index].target(labels_of(batch, self.tasks[index])) for index in group]
        stacked_labels = tf.concat([tiled(as_lists(batch, target), copies[0]) for target in targets], 0)
        mask = tf.ones_like(stacked_scores, tf.bool)
        if not batch.is_rows:
            mask = tf.tile(tiled(batch.valid, copies[0]), [len(tasks), 1])
        loss = self.losses[group[0]]
        stacked_labels = _in_range(stacked_labels, mask, loss, tasks)
        options = {"seed": randomness.next_seed()} if loss.needs_seed else {}
        for kind, given in (("weights", batch.weights), ("propensity_weights", batch.propensity_weights)):
            each = [item_weights(batch, given, task.name, per_task[0], copies[0]) for task in tasks]
            if any(w is not None for w in each):
                options[kind] = tf.concat([tf.ones_like(per_task[0]) if w is None else w for w in each], 0)
        values, weights = loss.per_list(stacked_labels, stacked_scores, mask, **options)
        return self._mean(values, len(tasks), copies[0]), self._mean(weights, len(tasks), copies[0])

    def _mean(self, values: Any, tasks: int, copies: Tensor | None) -> Tensor:
        """The mean over the copies of a list, ``[n, B]``."""
        if copies is None:
            return tf.reshape(values, [tasks, -1])
        num_lists = tf.size(values) // (tasks * copies)
        return tf.reduce_mean(tf.reshape(values, [tasks, copies, num_lists]), axis=1)


def _in_range(labels: Any, valid: Any, loss: Loss, tasks: Sequence[Task]) -> Any:
    """Returns the stacked labels, behind a check that none of them is above the loss's highest label."""
    if not labels.shape.is_compatible_with(valid.shape):
        return labels  # the loss raises an error with both shapes
    highest, hint = loss.highest_label()
    sizes = tf.where(tf.math.is_inf(labels), np.inf, labels) if loss.relevance else tf.abs(labels)
    seen = tf.where(ranking.known(labels, valid, "regression"), sizes, -np.inf)
    found = tf.reduce_max(tf.reshape(seen, [len(tasks), -1]), axis=1)
    names = ", ".join(task.name for task in tasks)
    message = (
        f"a label is out of range for {type(loss).__name__} of task {names}: labels go from "
        f"{0 if loss.relevance else -highest:g} to {highest:g} (NaN is missing): {hint}. The highest labels of the "
        "batch, task by task, are x:"
    )
    limit = tf.constant(highest, tf.float32)
    check = tf.debugging.assert_less_equal(found, limit, message=message, summarize=len(tasks))
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(labels)


def labels_of(batch: Batch, task: Task) -> Labels:
    """A task's labels as float32. Missing labels are NaN; a negative relevance counts as missing."""
    if task.name not in batch.labels:
        raise InputKeyError(f"the batch has no labels for task {task.name!r}; it has {sorted(batch.labels)}")
    labels = tf.cast(batch.labels[task.name], tf.float32)
    if task.kind == "regression":
        return labels
    return tf.where(labels < 0, float("nan"), labels)
